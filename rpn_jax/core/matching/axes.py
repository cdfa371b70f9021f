"""The anchors of a level as rows times columns, and what boxes share with them.

For one shape of anchor on one level, the overlap with a box is a product. One factor is
the shared width, which depends on the column alone; the other is the shared height,
which depends on the row alone. IoU rises with the overlap. So a box's best IoU over the
whole level, and the anchors that tie for it, are where both factors are largest.
Finding them takes `h + w` steps instead of `h * w`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from .._typing import Bool, Float, ImageSize
from ..anchors import AnchorLevel
from ..boxes import area

FAR = 1e30  # pixels; an edge here overlaps nothing, and stays finite in differences
_TINY = 1e-30  # keeps an empty union from dividing by zero

AxisMasks = tuple[Bool[jax.Array, "a w"], Bool[jax.Array, "a h"]]


class Edges(NamedTuple):
    """The edges of a level's anchors, per shape and row or column.

    An anchor that is not kept has inverted edges, so that it overlaps nothing.

    Attributes:
        left: `[a w]` pixels, per column.
        right: `[a w]` pixels, per column.
        top: `[a h]` pixels, per row.
        bottom: `[a h]` pixels, per row.
        area: `[a]` square pixels, per shape.
    """

    left: Float[jax.Array, "a w"]
    right: Float[jax.Array, "a w"]
    top: Float[jax.Array, "a h"]
    bottom: Float[jax.Array, "a h"]
    area: Float[jax.Array, " a"]


class LevelFit(NamedTuple):
    """A level, and how well each box fits each of its shapes where it fits best.

    `level` is static: transformations such as `jit` and `vmap` see no array in it.

    Attributes:
        level: the anchors.
        edges: their edges.
        peak_x: `[a m]` the largest width that the box shares with any column.
        peak_y: `[a m]` the largest height that the box shares with any row.
        peak_iou: `[a m]` the IoU where these two meet, which is the highest.
    """

    level: AnchorLevel
    edges: Edges
    peak_x: Float[jax.Array, "a m"]
    peak_y: Float[jax.Array, "a m"]
    peak_iou: Float[jax.Array, "a m"]


def fit_level(
    level: AnchorLevel,
    masks: AxisMasks,
    boxes: Float[jax.Array, "m 4"],
    pixel_offset: float,
) -> LevelFit:
    """Finds how well each box fits each shape of a level.

    Args:
        level: the anchors.
        masks: which columns and rows are kept.
        boxes: finite boxes; inverted ones overlap nothing.
        pixel_offset: added to `x1 - x0` to get the width.
    """
    edges = make_edges(level, masks, pixel_offset)
    x, y = (side.max(axis=2) for side in shared_sides(edges, boxes, pixel_offset))
    areas = edges.area[:, None], area(boxes, pixel_offset=pixel_offset)[None, :]
    return LevelFit(level, edges, x, y, iou_from_areas(x * y, *areas))


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
        border: number of pixels by which an anchor may extend beyond the image; None
            keeps all.
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


def masked_cells(masks: AxisMasks) -> Bool[jax.Array, "a h w"]:
    """Which anchors are kept both by their column and by their row."""
    return masks[1][:, :, None] & masks[0][:, None, :]


def flatten_levels(levels: list[jax.Array]) -> jax.Array:
    """Joins `[a h w]` of every level to `[n]` in the order of the anchors."""
    return jnp.concatenate([x.transpose(1, 2, 0).reshape(-1) for x in levels])


def make_edges(level: AnchorLevel, masks: AxisMasks, pixel_offset: float) -> Edges:
    """The edges of a level, inverted where a column or row is not kept."""
    (left, right), (top, bottom) = level.x_edges(), level.y_edges()
    areas = [
        (x1 - x0 + pixel_offset) * (y1 - y0 + pixel_offset)
        for x0, y0, x1, y1 in level.cell
    ]
    return Edges(
        left=jnp.where(masks[0], left, FAR),
        right=jnp.where(masks[0], right, -FAR),
        top=jnp.where(masks[1], top, FAR),
        bottom=jnp.where(masks[1], bottom, -FAR),
        area=jnp.array(areas, jnp.float32),
    )


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


def grid_overlap(
    edges: Edges, boxes: Float[jax.Array, "m 4"], pixel_offset: float
) -> Float[jax.Array, "a m h w"]:
    """Square pixels that each box shares with every anchor of a level."""
    x, y = shared_sides(edges, boxes, pixel_offset)
    return y[:, :, :, None] * x[:, :, None, :]


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
