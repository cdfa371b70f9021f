"""The region proposal network of Faster R-CNN in JAX, from features to losses and boxes.

Functions of fixed-shape arrays for one image, which `jit`, `vmap`, `grad` and `shard_map`
take as they are. Where other systems select rows, these keep every row and a mask.
"""

from jaxtyping import install_import_hook as _install_import_hook

__version__ = "0.1.0"

# Shapes in the signatures are checked on every call, which under `jit` means once, when
# the function is traced. JAXTYPING_DISABLE=1 in the environment switches this off.
_BEARTYPE = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
with _install_import_hook("rpn_jax", _BEARTYPE):
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
    from .output import RPNOutput as RPNOutput
    from .matching import Matches as Matches
    from .matching import match_anchors as match_anchors
