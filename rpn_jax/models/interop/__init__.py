"""Weights of other systems in and out, with what they expect of images."""

from .checkpoint import Checkpoint as Checkpoint
from .checkpoint import guess_system as guess_system
from .checkpoint import read_checkpoint as read_checkpoint
from .checkpoint import to_system as to_system
from .checkpoint import translate as translate
from .files import read_tensors as read_tensors
from .files import write_tensors as write_tensors
from .loading import LoadReport as LoadReport
from .loading import checkpoint_of as checkpoint_of
from .loading import export_weights as export_weights
from .loading import import_weights as import_weights
from .loading import load_weights as load_weights
from .network import ForeignModel as ForeignModel
from .network import check_complete as check_complete
from .network import make_foreign_model as make_foreign_model
from .systems import SYSTEMS as SYSTEMS
from .systems import System as System
from .systems import SystemName as SystemName
