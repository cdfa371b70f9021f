"""Networks as files that run without rpn_jax: `jax.export` artifacts, and ONNX."""

from .description import Array as Array
from .description import Description as Description
from .files import load as load
from .files import write as write
from .loaded import Loaded as Loaded
from .program import Program as Program
from .program import core_program as core_program
from .program import network_program as network_program
