"""Task-aligned assignment: boxes take the anchors that predict them best already.

"TOOD: Task-aligned One-stage Object Detection" by Feng et al.
(https://arxiv.org/abs/2108.07755), Sec. 3.2.1, for objectness instead of classes:

1. The alignment of an anchor with a box is `score ** alpha * IoU ** beta`. The score is
   the predicted probability of an object, and the IoU is that of the predicted box.
2. The candidates of a box are the `top_k` anchors with the highest alignment.
3. Candidates are positive if their alignment is above 0 and the centre of the anchor
   lies in the box. All other anchors are negative.
4. An anchor that several boxes claim belongs to the one with the highest IoU.

The `TaskAlignedAssigner` of mmdetection decides the details.
"""

import jax
import jax.numpy as jnp

from .._typing import Bool, Float
from ..anchors import Anchors
from ..boxes import is_proper
from ..config import TargetConfig
from .association import Matches
from .centers import MARGIN, anchor_centers, depth
from .claims import Claims, match_claims
from .predicted import Predicted


def match_task_aligned(
    anchors: Anchors,
    objects: Float[jax.Array, "m 4"],
    is_kept: Bool[jax.Array, " n"],
    predicted: Predicted,
    config: TargetConfig,
) -> Matches:
    """Labels the anchors of an image by their alignment with the boxes.

    Args:
        anchors: a grid, or any boxes.
        objects: the objects.
        is_kept: which anchors take part.
        predicted: the predictions.
        config: the rules.
    """
    rules, offset = config.task_aligned, config.pixel_offset
    scores = jax.nn.sigmoid(predicted.logits) ** rules.alpha
    number = min(rules.top_k, is_kept.shape[0])

    # One box at a time, so that only the candidates of all boxes are stored.
    def visit(max_iou, box):
        iou = jnp.where(is_kept, predicted.iou_with(box, offset), 0.0)
        iou = jax.lax.optimization_barrier(iou)
        alignment, index = jax.lax.top_k(scores * iou**rules.beta, number)
        # With `beta=0`, an anchor without overlap is aligned, but it is no candidate.
        is_aligned = (alignment > 0.0) & (iou[index] > 0.0)
        return jnp.maximum(max_iou, iou), Claims(index, iou[index], is_aligned)

    # Made from inputs: under `shard_map`, a scan's state has to vary like its results.
    nothing = jnp.full(is_kept.shape, jnp.zeros_like(objects[0, 0]))
    max_iou, claims = jax.lax.scan(visit, nothing, objects)
    x, y = (v[claims.anchor] for v in anchor_centers(anchors, offset))
    is_inside = depth(x, y, objects[:, None], offset) > MARGIN
    is_claimed = claims.is_claimed & is_inside & is_proper(objects)[:, None]
    return match_claims(claims._replace(is_claimed=is_claimed), is_kept, max_iou)
