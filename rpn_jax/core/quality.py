"""The quality of positives: how well a prediction, or an anchor, fits its object.

With `LossConfig.objectness` other than `"label"`, the objectness logit learns one of
these numbers. Both are ratios of lengths along an axis, so the anchor cancels: they
follow from the deltas alone.
"""

import math

import jax
import jax.numpy as jnp

from ._typing import Array, DeltaWeights, Float
from .boxes import decode_boxes, pairwise_iou
from .loss_config import LossConfig
from .targets import Targets

_LARGEST_LOG_SCALE = 80.0  # float32 represents exp of it, and of its negative


def quality_targets(
    predicted: Float[Array, "b n 4"], targets: Targets, config: LossConfig
) -> Float[jax.Array, "b n"]:
    """What the objectness of every anchor should be. No gradient passes through it.

    Args:
        predicted: deltas of the head; rows whose label is not 1 may hold anything.
        targets: labels and deltas of the same rows.
        config: names the quality in `objectness`, which is not `"label"` here.

    Returns:
        A number in `[0, 1]` for a positive; 0 for all other anchors.
    """
    # Rows that may hold NaN are replaced before anything is computed with them.
    is_positive = targets.labels == 1
    rows = (
        jnp.where(is_positive[..., None], deltas, 0.0).reshape(-1, 4)
        for deltas in (predicted, targets.deltas)
    )
    predicted, truth = jax.lax.stop_gradient(tuple(rows))
    if config.objectness in ("iou", "oln_iou"):
        quality = predicted_iou(predicted, truth, weights=config.delta_weights)
    else:
        quality = centerness(truth, weights=config.delta_weights)
    return jnp.where(is_positive, quality.reshape(is_positive.shape), 0.0)


def predicted_iou(
    predicted: Float[Array, "n 4"],
    truth: Float[Array, "n 4"],
    *,
    weights: DeltaWeights = (1.0, 1.0, 1.0, 1.0),
) -> Float[jax.Array, " n"]:
    """IoU of each predicted box with the ground truth of its anchor.

    This is the quality of "Generalized Focal Loss" by Li et al.
    (https://arxiv.org/abs/2006.04388) and of "VarifocalNet" by Zhang et al.
    (https://arxiv.org/abs/2008.13367). The predicted box is not clipped to the image.

    Args:
        predicted: deltas `(dx, dy, dw, dh)` from the anchor to the predicted box; `dw`
            and `dh` are limited as in `decode_boxes`.
        truth: deltas from the anchor to its ground-truth box.
        weights: the factors that the deltas were encoded with.

    Returns:
        An overlap in `[0, 1]` per row. It does not depend on `pixel_offset`, whose
        deltas describe boxes with the pixel included.
    """
    # Moving and stretching both boxes leaves their IoU as it is, so any anchor gives
    # the same. Around 0, small boxes keep the most digits.
    unit = jnp.array([-0.5, -0.5, 0.5, 0.5], jnp.float32)
    anchors = jnp.broadcast_to(unit, predicted.shape)
    boxes = decode_boxes(predicted, anchors, weights=weights)
    objects = decode_boxes(truth, anchors, weights=weights, max_log_scale=math.inf)
    return jax.vmap(lambda a, b: pairwise_iou(a[None], b[None])[0, 0])(boxes, objects)


def centerness(
    truth: Float[Array, "n 4"], *, weights: DeltaWeights = (1.0, 1.0, 1.0, 1.0)
) -> Float[jax.Array, " n"]:
    """How central the centre of each anchor lies in its ground-truth box.

    Eq. 3 of "FCOS" by Tian et al. (https://arxiv.org/abs/1904.01355), for the centre of
    the anchor: along each axis the distance to the nearer side, divided by that to the
    farther side, and the geometric mean of both.

    Args:
        truth: deltas `(dx, dy, dw, dh)` from the anchor to its ground-truth box.
        weights: the factors that the deltas were encoded with.

    Returns:
        1 in the middle of the box, and 0 on its border and, as in the code of OLN,
        beyond it.
    """
    # In units of the anchor's sides: half a side of the box, and the distance of its
    # centre from the anchor's.
    deltas = jnp.asarray(truth, jnp.float32) / jnp.array([weights], jnp.float32)
    log_scale = jnp.clip(deltas[:, 2:], -_LARGEST_LOG_SCALE, _LARGEST_LOG_SCALE)
    half = 0.5 * jnp.exp(log_scale)
    apart = jnp.abs(deltas[:, :2])
    nearer, farther = jnp.maximum(half - apart, 0.0), half + apart
    return jnp.sqrt(jnp.prod(nearer / farther, axis=1))
