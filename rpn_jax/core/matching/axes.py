"""The anchors of a level as rows and columns, and what boxes share with them.

For one shape of anchor on one level, the overlap with a box is the product of what the
two share horizontally, which depends on the column alone, and vertically, which depends
on the row alone. IoU rises with the overlap. So a box's best IoU over the whole level,
and the anchors that tie for it, are where both factors are largest: `h + w` steps of
work instead of `h * w`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from .._typing import Bool, Float, ImageSize
from ..anchors import AnchorLevel
from ..config import TargetConfig

_FAR = 1e30
_TINY = 1e-30  # keeps an empty union from dividing by zero

AxisMasks = tuple[Bool[jax.Array, "a w"], Bool[jax.Array, "a h"]]


class Edges(NamedTuple):
    """The anchors of a level, for each shape of a cell.

    An anchor that takes no part has its edges inside out, so that it overlaps nothing.

    Attributes:
        left: `[a w]` pixels, in each column.
        right: `[a w]`
        top: `[a h]` pixels, in each row.
        bottom: `[a h]`
        area: `[a]` square pixels.
    """

    left: Float[jax.Array, "a w"]
    right: Float[jax.Array, "a w"]
    top: Float[jax.Array, "a h"]
    bottom: Float[jax.Array, "a h"]
    area: Float[jax.Array, " a"]


class Peaks(NamedTuple):
    """How well each box fits each shape of a level, where it fits best.

    Attributes:
        x: `[a m]` the most pixels that it shares with any column.
        y: `[a m]` the most pixels that it shares with any row.
        iou: `[a m]` the IoU where these meet, which is the highest.
    """

    x: Float[jax.Array, "a m"]
    y: Float[jax.Array, "a m"]
    iou: Float[jax.Array, "a m"]


def axis_masks(
    level: AnchorLevel,
    image_size: ImageSize | None,
    border: float | None,
    ignore_padding: bool,
) -> AxisMasks:
    """Which columns and rows of each shape the border rules keep.

    Args:
        level: the anchors.
        image_size: `(height, width)` without the padding; None keeps all.
        border: how many pixels an anchor may reach out of the image, or None.
        ignore_padding: drops the cells that begin beyond the image.
    """

    def keep(axis, edges):
        kept = jnp.ones(edges[0].shape, bool)
        if image_size is None:
            return kept
        limit = jnp.asarray(image_size[axis], jnp.float32)
        if border is not None:
            kept &= (edges[0] >= -border) & (edges[1] < limit + border)
        if ignore_padding:
            cells = jnp.arange(level.shape[axis], dtype=jnp.float32)
            kept &= (cells * level.stride[axis] < limit)[None, :]
        return kept

    return keep(1, level.x_edges()), keep(0, level.y_edges())


def masked_cells(mask: AxisMasks) -> Bool[jax.Array, "a h w"]:
    """Which anchors are kept in both directions."""
    return mask[1][:, :, None] & mask[0][:, None, :]


def flatten_levels(levels: list[jax.Array]) -> jax.Array:
    """`[a h w]` of every level to `[n]` in the order of the anchors."""
    return jnp.concatenate([x.transpose(1, 2, 0).reshape(-1) for x in levels])


def make_edges(level: AnchorLevel, masks: AxisMasks, pixel_offset: float) -> Edges:
    """The rows and columns of a level, those that are masked out inside out."""
    (left, right), (top, bottom) = level.x_edges(), level.y_edges()
    area = [
        (x1 - x0 + pixel_offset) * (y1 - y0 + pixel_offset)
        for x0, y0, x1, y1 in level.cell
    ]
    return Edges(
        left=jnp.where(masks[0], left, _FAR),
        right=jnp.where(masks[0], right, -_FAR),
        top=jnp.where(masks[1], top, _FAR),
        bottom=jnp.where(masks[1], bottom, -_FAR),
        area=jnp.array(area, jnp.float32),
    )


def find_peaks(
    edges: Edges, boxes: Float[jax.Array, "m 4"], pixel_offset: float
) -> Peaks:
    """How well each box fits each shape of a level."""
    x, y = (side.max(axis=2) for side in shared_sides(edges, boxes, pixel_offset))
    areas = edges.area[:, None], box_areas(boxes, pixel_offset)[None, :]
    return Peaks(x, y, iou_from_areas(x * y, *areas))


def claiming_shapes(
    ious: list[Float[jax.Array, "_ m"]], config: TargetConfig
) -> list[Bool[jax.Array, "_ m"]]:
    """Which shapes of every level each box forces positive, where it fits them best.

    Args:
        ious: `[a m]` of every level, the IoU of each box and each shape there.
        config: the rules.
    """
    best = jnp.stack([iou.max(axis=0) for iou in ious]).max(axis=0)
    may_force = (best > 0.0) & (best >= config.min_force_iou)
    may_force &= config.force_match != "none"
    return [(iou == best[None]) & may_force[None] for iou in ious]


def shared_sides(
    edges: Edges, boxes: Float[jax.Array, "m 4"], pixel_offset: float
) -> tuple[Float[jax.Array, "a m w"], Float[jax.Array, "a m h"]]:
    """Pixels that each box shares with the columns and rows of each shape."""
    x0, y0, x1, y1 = (boxes[None, :, i, None] for i in range(4))
    left, right, top, bottom = (edge[:, None, :] for edge in edges[:4])
    return (
        shared_length(left, right, x0, x1, pixel_offset),
        shared_length(top, bottom, y0, y1, pixel_offset),
    )


def box_areas(
    boxes: Float[jax.Array, "m 4"], pixel_offset: float
) -> Float[jax.Array, " m"]:
    """Areas of boxes that are finite already."""
    sides = jnp.maximum(boxes[:, 2:] - boxes[:, :2] + pixel_offset, 0.0)
    return sides[:, 0] * sides[:, 1]


def shared_length(
    low: Float[jax.Array, "..."],
    high: Float[jax.Array, "..."],
    start: Float[jax.Array, "..."],
    end: Float[jax.Array, "..."],
    pixel_offset: float,
) -> Float[jax.Array, "..."]:
    """Pixels that `[low, high]` and `[start, end]` share. Shapes broadcast."""
    length = jnp.minimum(high, end) - jnp.maximum(low, start) + pixel_offset
    return jnp.maximum(length, 0.0)


def iou_from_areas(
    overlap: Float[jax.Array, "..."],
    anchor_area: Float[jax.Array, "..."],
    box_area: Float[jax.Array, "..."],
) -> Float[jax.Array, "..."]:
    """Intersection over union; 0 for an empty union. Shapes broadcast."""
    return overlap / jnp.maximum(anchor_area + box_area - overlap, _TINY)
