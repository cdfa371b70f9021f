"""Overlaps of boxes with the anchors of a grid, without a matrix of anchors and boxes.

For one shape of anchor on one level, the overlap with a box is the product of what the
two share horizontally, which depends on the column alone, and vertically, which depends
on the row alone. IoU rises with the overlap. So a box's best IoU over the whole level,
and the anchors that tie for it, are where both factors are largest: `h + w` steps of
work instead of `h * w`. What remains for each anchor, its best IoU over all boxes, has
two forms that agree:

* on GPU and TPU, one fused reduction over boxes;
* on CPU, a loop over the boxes that reach an IoU of `floor` with a shape, which visits
  the window of cells where they do. The shape bounds the size of that window.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ._typing import Array, Bool, Float, ImageSize, Int
from .anchors import AnchorGrid, AnchorLevel
from .config import TargetConfig

_TINY = 1e-30  # keeps an empty union from dividing by zero
_SLACK = 1.0 - 1e-5  # windows are laid out for a slightly lower IoU than asked for

AxisMasks = tuple[Bool[Array, "a w"], Bool[Array, "a h"]]


class Association(NamedTuple):
    """How the anchors of an image relate to its boxes.

    Attributes:
        iou: `[n]` the highest IoU with any box.
        index: `[n]` the row of that box, the lowest on ties; 0 where nothing overlaps.
        forced_by: `[n]` the last box for which the anchor is the best, or -1.
        is_kept: `[n]` whether the anchor takes part; if not, the others are 0, 0, -1.
    """

    iou: Float[jax.Array, " n"]
    index: Int[jax.Array, " n"]
    forced_by: Int[jax.Array, " n"]
    is_kept: Bool[jax.Array, " n"]


class LevelOverlaps(NamedTuple):
    """What boxes share with the anchors of a level, along each axis.

    Attributes:
        x: `[m a w]` pixels shared horizontally, for each box, shape and column.
        y: `[m a h]` pixels shared vertically, for each box, shape and row.
        anchor_area: `[m a]` area of each shape.
        box_area: `[m a]` area of each box.
    """

    x: Float[jax.Array, "m a w"]
    y: Float[jax.Array, "m a h"]
    anchor_area: Float[jax.Array, "m a"]
    box_area: Float[jax.Array, "m a"]


class LevelBest(NamedTuple):
    """For each anchor of a level, the box that it overlaps most.

    Attributes:
        iou: `[a h w]` its IoU; wherever this is below `floor`, it may be any lower one.
        index: `[a h w]` its row, the lowest on ties; 0 where nothing overlaps.
    """

    iou: Float[jax.Array, "a h w"]
    index: Int[jax.Array, "a h w"]


def associate_grid(
    anchors: AnchorGrid,
    boxes: Float[jax.Array, "m 4"],
    image_size: ImageSize | None,
    *,
    config: TargetConfig,
    floor: float,
) -> Association:
    """Relates every anchor of a grid to the boxes of an image.

    Args:
        anchors: the grid.
        boxes: finite boxes; inverted ones overlap nothing.
        image_size: `(height, width)`, for the border rules of `config`.
        config: the rules.
        floor: the lowest IoU that must be exact. The higher, the less work on a CPU.
    """
    border = None if config.border_after_matching else config.allowed_border
    levels = anchors.levels
    masks = [_axis_masks(x, image_size, border, config.ignore_padding) for x in levels]
    overlaps = [
        _level_overlaps(level, boxes, mask, config.pixel_offset)
        for level, mask in zip(levels, masks, strict=True)
    ]
    best = [
        _best_boxes(level, overlap, floor=floor, pixel_offset=config.pixel_offset)
        for level, overlap in zip(levels, overlaps, strict=True)
    ]
    return Association(
        iou=_flatten([x.iou for x in best]),
        index=_flatten([x.index for x in best]),
        forced_by=_forced_by(anchors, overlaps, config),
        is_kept=_flatten([_outer(mask) for mask in masks]),
    )


def grid_inside(
    anchors: AnchorGrid,
    image_size: ImageSize | None,
    border: float | None,
    ignore_padding: bool,
) -> Bool[jax.Array, " n"]:
    """Which anchors reach at most `border` pixels out of the image, and begin in it."""
    levels = [_axis_masks(x, image_size, border, ignore_padding) for x in anchors.levels]
    return _flatten([_outer(mask) for mask in levels])


def _flatten(levels: list[jax.Array]) -> jax.Array:
    """`[a h w]` of every level to `[n]` in the order of the anchors."""
    return jnp.concatenate([x.transpose(1, 2, 0).reshape(-1) for x in levels])


def _outer(mask: AxisMasks) -> Bool[jax.Array, "a h w"]:
    return mask[1][:, :, None] & mask[0][:, None, :]


def _axis_masks(
    level: AnchorLevel,
    image_size: ImageSize | None,
    border: float | None,
    ignore_padding: bool,
) -> AxisMasks:
    """Which columns and rows the border rules keep, for every shape of the level."""

    def keep(axis, edges):
        kept = jnp.ones(edges[0].shape, bool)
        if image_size is None:
            return kept
        limit = jnp.asarray(image_size[axis], jnp.float32)
        if border is not None:
            kept &= (edges[0] >= -border) & (edges[1] < limit + border)
        if ignore_padding:
            kept &= (level.origins(axis) < limit)[None, :]
        return kept

    return keep(1, level.x_edges()), keep(0, level.y_edges())


def _level_overlaps(
    level: AnchorLevel,
    boxes: Float[jax.Array, "m 4"],
    masks: AxisMasks,
    pixel_offset: float,
) -> LevelOverlaps:
    """Overlaps along both axes; 0 in the columns and rows that are masked out."""

    def shared(axis, edges):
        low, high = (boxes[:, i, None, None] for i in (axis, axis + 2))
        ends = jnp.minimum(edges[1][None], high)
        length = ends - jnp.maximum(edges[0][None], low) + pixel_offset
        return jnp.where(masks[axis][None], jnp.maximum(length, 0.0), 0.0)

    sides = jnp.maximum(boxes[:, 2:] - boxes[:, :2] + pixel_offset, 0.0)
    areas = [width * height for height, width in _cell_sides(level, pixel_offset)]
    shape = (boxes.shape[0], len(areas))
    return LevelOverlaps(
        x=shared(0, level.x_edges()),
        y=shared(1, level.y_edges()),
        anchor_area=jnp.broadcast_to(jnp.array([areas], jnp.float32), shape),
        box_area=jnp.broadcast_to((sides[:, 0] * sides[:, 1])[:, None], shape),
    )


def _cell_sides(level: AnchorLevel, pixel_offset: float) -> list[tuple[float, float]]:
    """Height and width of every shape of the level."""
    return [(y1 - y0 + pixel_offset, x1 - x0 + pixel_offset) for x0, y0, x1, y1 in level.cell]


def _iou(overlap, anchor_area, box_area):
    return overlap / jnp.maximum(anchor_area + box_area - overlap, _TINY)


def _forced_by(
    anchors: AnchorGrid, overlaps: list[LevelOverlaps], config: TargetConfig
) -> Int[jax.Array, " n"]:
    """The last box that forces each anchor positive, or -1."""
    if config.force_match == "none":
        return jnp.full(len(anchors), -1, jnp.int32)
    levels = [_iou(x.x.max(2) * x.y.max(2), x.anchor_area, x.box_area) for x in overlaps]
    best = jnp.stack([level.max(1) for level in levels]).max(0)
    may_force = (best > 0.0) & (best >= config.min_force_iou)
    is_claimed = [(level == best[:, None]) & may_force[:, None] for level in levels]
    if config.force_match == "ties":
        return _flatten([_last_claims(*x) for x in zip(overlaps, is_claimed, strict=True)])
    starts = [sum(anchors.level_sizes[:i]) for i in range(len(levels))]
    firsts = [
        jnp.where(claimed.any(1), start + _first_claimed(overlap, claimed), len(anchors))
        for start, overlap, claimed in zip(starts, overlaps, is_claimed, strict=True)
    ]
    rows = jnp.arange(best.shape[0], dtype=jnp.int32)
    nothing = jnp.full(len(anchors), -1, jnp.int32)
    return nothing.at[jnp.stack(firsts).min(0)].max(rows, mode="drop")


def _first_claimed(
    overlaps: LevelOverlaps, is_claimed: Bool[jax.Array, "m a"]
) -> Int[jax.Array, " m"]:
    """Index in the level of the first anchor that each box claims."""
    x, y = (ties.argmax(axis=2) for ties in _ties(overlaps, is_claimed))
    num_shapes, width = overlaps.x.shape[1:]
    index = (y * width + x) * num_shapes + jnp.arange(num_shapes)[None, :]
    return jnp.where(is_claimed, index, jnp.iinfo(index.dtype).max).min(axis=1)


def _best_boxes(
    level: AnchorLevel, overlaps: LevelOverlaps, *, floor: float, pixel_offset: float
) -> LevelBest:
    sides = _cell_sides(level, pixel_offset)
    windows = tuple(_window_shape(level, side, floor) for side in sides)
    by_windows = functools.partial(_best_by_windows, windows=windows, floor=floor)
    return jax.lax.platform_dependent(
        overlaps,
        cpu=jax.custom_batching.sequential_vmap(by_windows),
        default=_best_by_reduction,
    )


def _last_claims(
    overlaps: LevelOverlaps, is_claimed: Bool[jax.Array, "m a"]
) -> Int[jax.Array, "a h w"]:
    """The last box that claims each anchor, or -1.

    A box claims, of every shape that it may, all anchors where its overlap is largest.
    """
    return jax.lax.platform_dependent(
        *_ties(overlaps, is_claimed),
        cpu=jax.custom_batching.sequential_vmap(_last_claims_by_loop),
        default=_last_claims_by_reduction,
    )


def _ties(overlaps, is_claimed):
    """Columns `[m a w]` and rows `[m a h]` where a claiming box's overlap is largest."""
    x = (overlaps.x == overlaps.x.max(axis=2, keepdims=True)) & is_claimed[:, :, None]
    return x, overlaps.y == overlaps.y.max(axis=2, keepdims=True)


def _best_by_reduction(overlaps: LevelOverlaps) -> LevelBest:
    overlap = overlaps.y[:, :, :, None] * overlaps.x[:, :, None, :]
    areas = (overlaps.anchor_area, overlaps.box_area)
    iou = _iou(overlap, *(x[:, :, None, None] for x in areas))
    index = jax.lax.broadcasted_iota(jnp.int32, iou.shape, 0)

    def larger(a, b):
        # Ties go to the lower row, whatever the order of the reduction.
        first = (a[0] > b[0]) | ((a[0] == b[0]) & (a[1] < b[1]))
        return jnp.where(first, a[0], b[0]), jnp.where(first, a[1], b[1])

    nothing = (jnp.float32(0.0), jnp.int32(0))
    return LevelBest(*jax.lax.reduce((iou, index), nothing, larger, (0,)))


def _last_claims_by_reduction(
    x: Bool[jax.Array, "m a w"], y: Bool[jax.Array, "m a h"]
) -> Int[jax.Array, "a h w"]:
    claims = y[:, :, :, None] & x[:, :, None, :]
    index = jax.lax.broadcasted_iota(jnp.int32, claims.shape, 0)
    return jnp.where(claims, index, -1).max(axis=0)


def _window_shape(
    level: AnchorLevel, sides: tuple[float, float], floor: float
) -> tuple[int, int]:
    """Cells, vertically and horizontally, in which a box can reach `floor` with a shape.

    An anchor of width `w` that shares at least `c` pixels with a box of width `v` lies
    within `w + v - 2 c` pixels of travel. An IoU of `t` needs `c >= (w + v) t / (1 + t)`
    and `v <= w / t`, which leaves at most `w (1 - t) / t`.
    """
    if floor <= 0.0:
        return level.shape
    reach = 1.0 / (floor * _SLACK) - 1.0
    height, width = (math.floor(sides[i] * reach / level.stride[i]) + 3 for i in (0, 1))
    return min(height, level.shape[0]), min(width, level.shape[1])


def _best_by_windows(
    overlaps: LevelOverlaps, *, windows: tuple[tuple[int, int], ...], floor: float
) -> LevelBest:
    shapes = [
        _shape_by_windows(jax.tree.map(lambda x, i=i: x[:, i], overlaps), window, floor)
        for i, window in enumerate(windows)
    ]
    return LevelBest(*map(jnp.stack, zip(*shapes, strict=True)))


def _shape_by_windows(overlaps, window, floor):
    """The best boxes of the anchors of one shape; the fields have no axis `a`."""
    x, y, anchor_area, box_area = overlaps
    column, reaches = _window_start(x, y, anchor_area, box_area, floor)
    row, _ = _window_start(y, x, anchor_area, box_area, floor)
    following = _following(reaches)

    def visit(state):
        box, best, index = state
        start = (row[box], column[box])
        x_part = jax.lax.dynamic_slice(x, (box, start[1]), (1, window[1]))
        y_part = jax.lax.dynamic_slice(y, (box, start[0]), (1, window[0]))
        iou = _iou(y_part.T * x_part, anchor_area[box], box_area[box])
        best_part = jax.lax.dynamic_slice(best, start, window)
        index_part = jax.lax.dynamic_slice(index, start, window)
        index_part = jnp.where(iou > best_part, box, index_part)
        best = jax.lax.dynamic_update_slice(best, jnp.maximum(iou, best_part), start)
        index = jax.lax.dynamic_update_slice(index, index_part, start)
        return following[box + 1], best, index

    shape = (y.shape[1], x.shape[1])
    state = (following[0], jnp.zeros(shape, jnp.float32), jnp.zeros(shape, jnp.int32))
    return jax.lax.while_loop(lambda state: state[0] < x.shape[0], visit, state)[1:]


def _window_start(along, across, anchor_area, box_area, floor):
    """First cell along an axis where each box reaches `floor`, and whether it does."""
    best = across.max(axis=1, keepdims=True)
    iou = _iou(along * best, anchor_area[:, None], box_area[:, None])
    reaches = (iou >= floor * _SLACK) & (iou > 0.0)
    return reaches.argmax(axis=1).astype(jnp.int32), reaches.any(axis=1)


def _last_claims_by_loop(
    x: Bool[jax.Array, "m a w"], y: Bool[jax.Array, "m a h"]
) -> Int[jax.Array, "a h w"]:
    def over_shape(x, y):
        following = _following(x.any(axis=1))

        def visit(state):
            box, claims = state
            claims = jnp.where(y[box][:, None] & x[box][None, :], box, claims)
            return following[box + 1], claims

        state = (following[0], jnp.full((y.shape[1], x.shape[1]), -1, jnp.int32))
        return jax.lax.while_loop(lambda state: state[0] < x.shape[0], visit, state)[1]

    return jnp.stack([over_shape(x[:, i], y[:, i]) for i in range(x.shape[1])])


def _following(mask: Bool[Array, " m"]) -> Int[jax.Array, " m+1"]:
    """For each row and the end, the first row from there on that is set, or the end."""
    end = mask.shape[0]
    rows = jnp.where(mask, jnp.arange(end, dtype=jnp.int32), end)
    return jnp.append(jax.lax.cummin(rows, reverse=True), jnp.int32(end))
