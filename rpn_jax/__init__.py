"""The region proposal network of Faster R-CNN in JAX: targets, losses, proposals.

Functions of fixed-shape arrays for one image, which `jit`, `vmap`, `grad` and
`shard_map` take as they are. Where other systems select rows, these keep every row and
a mask.
"""

from jaxtyping import install_import_hook as _install_import_hook

__version__ = "0.1.0"

# Shapes in the signatures are checked on every call, which under `jit` means once, when
# the function is traced. JAXTYPING_DISABLE=1 in the environment switches this off.
_BEARTYPE = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
with _install_import_hook("rpn_jax", _BEARTYPE):
    from . import presets as presets
    from .anchors import AnchorGrid as AnchorGrid
    from .anchors import cell_anchors as cell_anchors
    from .anchors import make_anchors as make_anchors
    from .boxes import area as area
    from .boxes import clip_boxes as clip_boxes
    from .boxes import decode_boxes as decode_boxes
    from .boxes import encode_boxes as encode_boxes
    from .boxes import pairwise_iou as pairwise_iou
    from .config import AnchorConfig as AnchorConfig
    from .config import LossConfig as LossConfig
    from .config import ProposalConfig as ProposalConfig
    from .config import RPNConfig as RPNConfig
    from .config import TargetConfig as TargetConfig
    from .head import RPNHead as RPNHead
    from .losses import BoxLossWeights as BoxLossWeights
    from .losses import RPNLosses as RPNLosses
    from .losses import RPNMetrics as RPNMetrics
    from .losses import box_loss_weights as box_loss_weights
    from .losses import rpn_loss as rpn_loss
    from .losses import rpn_metrics as rpn_metrics
    from .matching import Matches as Matches
    from .matching import match_anchors as match_anchors
    from .nms import NMSResult as NMSResult
    from .nms import nms as nms
    from .output import RPNOutput as RPNOutput
    from .proposals import Proposals as Proposals
    from .proposals import propose as propose
    from .rpn import TrainOutput as TrainOutput
    from .rpn import compute_losses as compute_losses
    from .rpn import compute_proposals as compute_proposals
    from .targets import Samples as Samples
    from .targets import Targets as Targets
    from .targets import assign_targets as assign_targets
    from .targets import count_degenerate as count_degenerate
    from .targets import sample_anchors as sample_anchors
    from .targets import sample_targets as sample_targets
    from .targets import unmatched_fraction as unmatched_fraction
