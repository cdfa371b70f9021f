"""Backbones, and the whole network, in Flax NNX."""

from .backbone import Backbone as Backbone
from .backbone import make_backbone as make_backbone
from .backbone_config import BackboneConfig as BackboneConfig
from .backbone_registry import BACKBONES as BACKBONES
from .backbone_registry import BackboneSpec as BackboneSpec
from .backbone_registry import backbone_spec as backbone_spec
from .backbone_registry import default_anchors as default_anchors
from .interop import LoadReport as LoadReport
from .interop import export_weights as export_weights
from .interop import load_weights as load_weights
from .layers import Norm as Norm
from .network import RPN as RPN
from .network import grid_for as grid_for
from .network import make_model as make_model
from .preprocessing import IMAGENET as IMAGENET
from .preprocessing import Preprocessing as Preprocessing
from .trunk import Trunk as Trunk
