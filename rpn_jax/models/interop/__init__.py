"""Reads and writes weights of other systems, and makes the networks they belong to."""

from .checkpoint_files import read_checkpoint as read_checkpoint
from .foreign_checkpoint import Checkpoint as Checkpoint
from .foreign_checkpoint import dropped as dropped
from .foreign_checkpoint import to_system as to_system
from .foreign_checkpoint import translate as translate
from .foreign_model import ForeignModel as ForeignModel
from .foreign_model import check_complete as check_complete
from .foreign_model import make_foreign_model as make_foreign_model
from .foreign_model import rules_of as rules_of
from .loading import LoadReport as LoadReport
from .loading import checkpoint_of as checkpoint_of
from .loading import export_weights as export_weights
from .loading import import_weights as import_weights
from .loading import load_weights as load_weights
from .network_shapes import has_head as has_head
from .system_guess import guess_system as guess_system
from .systems import SYSTEMS as SYSTEMS
from .systems import System as System
from .systems import SystemName as SystemName
from .systems import padded_size as padded_size
from .systems import resized_size as resized_size
from .weight_files import read_tensors as read_tensors
from .weight_writing import write_tensors as write_tensors
