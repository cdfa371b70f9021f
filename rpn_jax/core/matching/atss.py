"""ATSS: each box sets its own IoU threshold, from the anchors around its centre.

"Bridging the Gap Between Anchor-based and Anchor-free Detection via Adaptive Training
Sample Selection" by Zhang et al. (https://arxiv.org/abs/1912.02424), Algorithm 1:

1. The candidates of a box are the anchors with the nearest centres, `top_k` of each
   shape on each level. Plain boxes are one level with one shape.
2. The threshold is the mean plus the standard deviation of their IoUs.
3. Candidates are positive if their IoU reaches the threshold and their centre lies in
   the box. All other anchors are negative.
4. An anchor that several boxes claim belongs to the one with the highest IoU.

The `ATSSAssigner` of mmdetection decides the details, with two differences. It takes
`top_k` anchors of all shapes together, so that several shapes of a cell crowd each
other out. The code of the paper multiplies `top_k` by their number, as this does. It
makes ignored anchors candidates again if few others are left; this does not.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from .._typing import Array, Bool, Float, ImageSize, Int
from ..anchors import AnchorGrid, AnchorLevel, Anchors
from ..boxes import area, finite_boxes, is_proper
from ..config import TargetConfig
from .association import Association, Matches
from .axes import axis_masks, iou_from_areas, shared_length
from .centers import (
    MARGIN,
    Points,
    box_centers,
    depth,
    level_centers,
    split_by_level,
)
from .claims import Claims, match_claims
from .ground_truth import MatchBoxes
from .nearest_anchors import Nearest, nearest_in_grid, nearest_of_all


class _Candidates(NamedTuple):
    """The anchors around the centre of each box.

    Attributes:
        anchor: `[m k]` their index.
        corners: `[m k]` of `x0`, `y0`, `x1` and `y1`.
        exists: `[m k]` False in rows of padding.
    """

    anchor: Int[jax.Array, "m k"]
    corners: tuple[Float[jax.Array, "m k"], ...]
    exists: Bool[jax.Array, "m k"]


def match_atss(
    anchors: Anchors,
    gt: MatchBoxes,
    image_size: ImageSize | None,
    found: Association,
    config: TargetConfig,
) -> Matches:
    """Labels the anchors of an image by ATSS.

    Args:
        anchors: a grid, or any boxes.
        gt: objects and ignored regions.
        image_size: `(height, width)`, for the border rules.
        found: which anchors are kept, and their highest IoU.
        config: the rules.
    """
    objects, offset = gt.objects, config.pixel_offset
    points = box_centers(objects, offset)
    if isinstance(anchors, AnchorGrid):
        nearby = _around(anchors, gt, image_size, found, points, config)
    else:
        nearby = _around_any(anchors, found, points, config)
    exists = nearby.exists & is_proper(objects)[:, None]
    # The threshold of each box, from its candidates alone. The sum has the divisor of
    # torch.std, the number of candidates minus 1.
    iou = _iou(nearby, objects, offset)
    count = _masked_sum(jnp.ones_like(iou), exists)
    mean = _masked_sum(iou, exists) / jnp.maximum(count, 1.0)
    variance = _masked_sum((iou - mean) ** 2, exists) / jnp.maximum(count - 1.0, 1.0)
    x0, y0, x1, y1 = nearby.corners
    center = ((x0 + x1 + offset) / 2, (y0 + y1 + offset) / 2)
    is_inside = depth(*center, objects[:, None], offset) > MARGIN
    is_claimed = exists & is_inside & (iou >= mean + jnp.sqrt(variance))
    return match_claims(
        Claims(nearby.anchor, iou, is_claimed), found.is_kept, found.iou
    )


def _around(
    anchors: AnchorGrid,
    gt: MatchBoxes,
    image_size: ImageSize | None,
    found: Association,
    points: Points,
    config: TargetConfig,
) -> _Candidates:
    """The candidates among the anchors of a grid."""
    border = None if config.border_after_matching else config.allowed_border
    levels, start = [], 0
    for level, is_kept in zip(
        anchors.levels, split_by_level(found.is_kept, anchors), strict=True
    ):
        x, y = level_centers(level, config.pixel_offset)
        if gt.ignored is None:
            masks = axis_masks(level, image_size, border, config.ignore_padding)
            nearest = nearest_in_grid(x, y, masks, points, config.atss.top_k)
        else:  # regions drop single cells, so all cells are searched
            shape = (len(level.cell), *level.shape)
            cells_x, cells_y, flat = (
                jnp.broadcast_to(v, shape).reshape(shape[0], -1)
                for v in (x[:, None, :], y[:, :, None], is_kept)
            )
            nearest = nearest_of_all(cells_x, cells_y, flat, points, config.atss.top_k)
        levels.append(_of_level(level, nearest, start))
        start += level.size
    return jax.tree.map(lambda *parts: jnp.concatenate(parts, axis=1), *levels)


def _of_level(level: AnchorLevel, nearest: Nearest, start: int) -> _Candidates:
    """The candidates on a level whose first anchor has the index `start`."""
    number = len(level.cell)
    y, x = jnp.divmod(nearest.place, level.shape[1])
    shape = jnp.arange(number, dtype=jnp.int32)[None, :, None]
    (left, right), (top, bottom) = level.x_edges(), level.y_edges()
    edges = ((left, x), (top, y), (right, x), (bottom, y))
    corners = tuple(jnp.asarray(edge)[shape, cell] for edge, cell in edges)
    anchor = start + nearest.place * number + shape
    flat = _Candidates(anchor, corners, nearest.is_found)
    return jax.tree.map(lambda v: v.reshape(v.shape[0], -1), flat)


def _around_any(
    anchors: Float[Array, "n 4"],
    found: Association,
    points: Points,
    config: TargetConfig,
) -> _Candidates:
    """The candidates among any boxes; those that are degenerate are none."""
    boxes = jax.lax.stop_gradient(finite_boxes(anchors))
    is_kept = found.is_kept & is_proper(boxes)
    x, y = box_centers(boxes, config.pixel_offset)
    nearest = nearest_of_all(x[None], y[None], is_kept[None], points, config.atss.top_k)
    place, exists = nearest.place[:, 0], nearest.is_found[:, 0]
    return _Candidates(place, tuple(boxes[:, i][place] for i in range(4)), exists)


def _iou(
    nearby: _Candidates, objects: Float[jax.Array, "m 4"], pixel_offset: float
) -> Float[jax.Array, "m k"]:
    """IoU of each candidate with its box."""
    x0, y0, x1, y1 = nearby.corners
    start_x, start_y, end_x, end_y = (objects[:, i, None] for i in range(4))
    width = shared_length(x0, x1, start_x, end_x, pixel_offset)
    height = shared_length(y0, y1, start_y, end_y, pixel_offset)
    areas = (x1 - x0 + pixel_offset) * (y1 - y0 + pixel_offset)
    box_areas = area(objects, pixel_offset=pixel_offset)[:, None]
    return iou_from_areas(width * height, areas, box_areas)


def _masked_sum(
    values: Float[jax.Array, "m k"], mask: Bool[jax.Array, "m k"]
) -> Float[jax.Array, "m 1"]:
    return jnp.sum(jnp.where(mask, values, 0.0), axis=1, keepdims=True)
