"""Backbones, and the whole network, in Flax NNX."""

from .backbone import BACKBONES as BACKBONES
from .backbone import Backbone as Backbone
from .backbone import default_anchors as default_anchors
from .backbone import make_backbone as make_backbone
from .layers import Norm as Norm
from .model import RPN as RPN
from .model import make_model as make_model
from .preprocessing import IMAGENET as IMAGENET
from .preprocessing import Preprocessing as Preprocessing
from .weights import LoadReport as LoadReport
from .weights import load_weights as load_weights
from .weights import read_tensors as read_tensors
from .weights import to_torchvision as to_torchvision
