"""The region proposal network of Faster R-CNN in JAX: targets, losses, proposals.

Everything is a pure function of fixed-shape arrays for one image, so `jit`, `vmap`,
`grad` and `shard_map` work unchanged. Where PyTorch selects rows (`nonzero`), rpn_jax
keeps all rows and a mask.
"""

from jaxtyping import install_import_hook as _install_import_hook

from .core import _arguments as _arguments  # which checks, and is not checked itself

__version__ = "0.2.0"

# Shapes in the signatures are checked on every call, which under `jit` means once, when
# the function is traced. JAXTYPING_DISABLE=1 in the environment switches this off.
_BEARTYPE = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
with _install_import_hook("rpn_jax", _BEARTYPE):
    from . import presets as presets
    from .core.anchor_config import AnchorConfig as AnchorConfig
    from .core.anchors import AnchorGrid as AnchorGrid
    from .core.anchors import cell_anchors as cell_anchors
    from .core.anchors import make_anchors as make_anchors
    from .core.boxes import clip_boxes as clip_boxes
    from .core.boxes import decode_boxes as decode_boxes
    from .core.boxes import encode_boxes as encode_boxes
    from .core.boxes import pairwise_iou as pairwise_iou
    from .core.cascade_config import CascadeConfig as CascadeConfig
    from .core.cascade_head import CascadeHead as CascadeHead
    from .core.config import LossConfig as LossConfig
    from .core.config import ProposalConfig as ProposalConfig
    from .core.config import RPNConfig as RPNConfig
    from .core.config import TargetConfig as TargetConfig
    from .core.head import RPNHead as RPNHead
    from .core.losses import RPNLosses as RPNLosses
    from .core.losses import box_loss_weights as box_loss_weights
    from .core.losses import rpn_loss as rpn_loss
    from .core.matching.match import Matches as Matches
    from .core.matching.match import match_anchors as match_anchors
    from .core.nms import NMSResult as NMSResult
    from .core.nms import nms as nms
    from .core.output import RPNOutput as RPNOutput
    from .core.proposals import Proposals as Proposals
    from .core.proposals import propose as propose
    from .core.rpn import TrainOutput as TrainOutput
    from .core.rpn import compute_losses as compute_losses
    from .core.rpn import compute_proposals as compute_proposals
    from .core.samplers import sample_anchors as sample_anchors
    from .core.targets import Samples as Samples
    from .core.targets import Targets as Targets
    from .core.targets import assign_targets as assign_targets
    from .core.targets import count_degenerate as count_degenerate
    from .core.targets import sample_targets as sample_targets
