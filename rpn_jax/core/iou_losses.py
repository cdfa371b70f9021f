"""Losses on decoded boxes: generalised, distance and complete IoU."""

import math

import jax
import jax.numpy as jnp

from ._typing import Float
from .boxes import area
from .loss_config import BoxLoss

_EPSILON = 1e-7  # the default `eps` of torchvision, and of fvcore in detectron2


def iou_loss(
    predicted: Float[jax.Array, "n 4"], target: Float[jax.Array, "n 4"], kind: BoxLoss
) -> Float[jax.Array, " n"]:
    """The loss of each predicted box against its target; 0 where they are equal.

    `"giou"` is Eq. 1 of "Generalized Intersection over Union" by Rezatofighi et al.
    (https://arxiv.org/abs/1902.09630); `"diou"` and `"ciou"` are Eq. 7 and 10 of
    "Distance-IoU Loss" by Zheng et al. (https://arxiv.org/abs/1911.08287).

    Args:
        predicted: boxes `(x0, y0, x1, y1)`, `x0 <= x1` and `y0 <= y1`.
        target: the ground truth of each predicted box.
        kind: `"giou"`, `"diou"` or `"ciou"`.

    Returns:
        One loss per box. The first term of each kind is `1 - IoU`.
    """
    # IoU, and the sides of the hull, the smallest box around both.
    shared = jnp.minimum(predicted[:, 2:], target[:, 2:]) - jnp.maximum(
        predicted[:, :2], target[:, :2]
    )
    overlap = jnp.prod(jnp.maximum(shared, 0.0), axis=1)
    union = area(predicted) + area(target) - overlap
    iou = overlap / (union + _EPSILON)
    hull = jnp.maximum(predicted[:, 2:], target[:, 2:]) - jnp.minimum(
        predicted[:, :2], target[:, :2]
    )
    # GIoU adds the share of the hull that neither box covers. It has a gradient even if
    # the boxes are apart.
    if kind == "giou":
        hull_area = hull[:, 0] * hull[:, 1]
        return 1.0 - iou + (hull_area - union) / (hull_area + _EPSILON)
    # DIoU adds the squared distance of the centres, divided by the squared diagonal of
    # the hull.
    apart = (predicted[:, :2] + predicted[:, 2:] - target[:, :2] - target[:, 2:]) / 2.0
    distance = jnp.sum(apart**2, axis=1) / (jnp.sum(hull**2, axis=1) + _EPSILON)
    if kind == "diou":
        return 1.0 - iou + distance
    # CIoU also adds a penalty for another aspect ratio. No gradient passes through its
    # factor, as in torchvision.
    angle = _aspect_angle(predicted) - _aspect_angle(target)
    aspect = 4.0 / math.pi**2 * angle**2
    trade_off = jax.lax.stop_gradient(aspect / (1.0 - iou + aspect + _EPSILON))
    return 1.0 - iou + distance + trade_off * aspect


def _aspect_angle(boxes: Float[jax.Array, "n 4"]) -> Float[jax.Array, " n"]:
    """The arctangent of width over height, in radians."""
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    return jnp.arctan2(width, jnp.maximum(height, _EPSILON))
