"""The form of CPUs: loops over the few cells in which a box can matter.

A box touches a few thousand of a quarter of a million anchors. So a loop visits one
pair of a shape and a box at a time, and in it one window of cells. Each of the two
loops has three parts: plan which pairs to visit and where their windows lie, visit
them, and cut the result into levels.

`cpu_canvas.py` lays the maps of all shapes out so that one loop serves them all.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .._typing import Bool, Float, Int
from ..anchors import AnchorLevel
from ..boxes import area
from .association import LevelBest
from .axes import LevelFit, iou_from_areas
from .cpu_canvas import (
    Canvas,
    Index,
    cut_levels,
    end_rows,
    first_cells,
    make_canvas,
    shared_with_window,
)

# Windows are laid out for an IoU that is lower by a relative 1e-5, some 80 units in the
# last place of float32. So rounding never puts a cell with an IoU of `floor` outside.
_SLACK = 1.0 - 1e-5
# Rows of cells that one step visits to find forced anchors. With 268,569 anchors and 50
# boxes, 8 to 32 rows took the same time on a CPU, and 2 rows took half as long again.
_FORCED_ROWS = 8


class _BestMaps(NamedTuple):
    """`LevelBest` of all shapes, on the canvas.

    Attributes:
        iou: `[y x]` the highest IoU.
        gt_index: `[y x]` the row of the box that has it.
    """

    iou: Float[jax.Array, "y x"]
    gt_index: Int[jax.Array, "y x"]


class _Plan(NamedTuple):
    """Which pairs of a shape and a box to visit, and where their windows begin.

    Pairs are counted with the box as the fast index.

    Attributes:
        next_pair: `[p + 1]` the first pair from here on that is to be visited, or `p`.
        row: `[a m]` first row of the window, in the map of the shape.
        column: `[a m]` first column of the window.
    """

    next_pair: Int[jax.Array, " p+1"]
    row: Int[jax.Array, "a m"]
    column: Int[jax.Array, "a m"]


# --- the best box of every anchor


def best_by_windows(
    fits: list[LevelFit],
    boxes: Float[jax.Array, "m 4"],
    *,
    pixel_offset: float,
    floor: float,
) -> list[LevelBest]:
    """The box that each anchor overlaps most, exact from an IoU of `floor` upwards.

    Args:
        fits: the levels, and how well each box fits them.
        boxes: finite boxes; inverted ones overlap nothing.
        pixel_offset: added to `x1 - x0` to get the width.
        floor: only pairs that reach this IoU are visited.
    """
    if floor > 0.0:
        return _best_of_group(fits, boxes, pixel_offset, floor)
    # Without a floor, a window is a whole level. A loop per level then keeps the
    # windows of coarse levels small.
    best = []
    for fit in fits:
        best += _best_of_group([fit], boxes, pixel_offset, floor)
    return best


def _best_of_group(
    fits: list[LevelFit],
    boxes: Float[jax.Array, "m 4"],
    pixel_offset: float,
    floor: float,
) -> list[LevelBest]:
    """The same for levels that share a loop and the size of its window."""
    window = _window_shape([fit.level for fit in fits], floor, pixel_offset)
    canvas = make_canvas(fits, margin=window[0])
    areas = area(boxes, pixel_offset=pixel_offset)
    plan = _plan_windows(canvas, boxes, areas, pixel_offset, floor)
    num_pairs = plan.next_pair.shape[0] - 1

    def visit(state: tuple[Index, _BestMaps]) -> tuple[Index, _BestMaps]:
        pair, best = state
        shape, box = jnp.divmod(pair, boxes.shape[0])
        row, column = plan.row[shape, box], plan.column[shape, box]
        y, x = shared_with_window(
            canvas, shape, (row, column), window, boxes[box], pixel_offset
        )
        iou = iou_from_areas(y.T * x, canvas.edges.area[shape], areas[box])
        start = (jnp.asarray(canvas.first_row)[shape] + row, column)
        return plan.next_pair[pair + 1], _improve(best, iou, box, start)

    # Made from inputs: under `shard_map`, a loop's state has to vary like its results.
    size = (canvas.height, canvas.width)
    first = plan.next_pair[0]
    nothing = _BestMaps(
        jnp.full(size, jnp.zeros_like(areas[0])), jnp.full(size, first * 0)
    )
    _, best = jax.lax.while_loop(
        lambda state: state[0] < num_pairs, visit, (first, nothing)
    )
    maps = (cut_levels(x, fits) for x in best)
    return [LevelBest(*level) for level in zip(*maps, strict=True)]


def _plan_windows(
    canvas: Canvas,
    boxes: Float[jax.Array, "m 4"],
    areas: Float[jax.Array, " m"],
    pixel_offset: float,
    floor: float,
) -> _Plan:
    """Plans the pairs whose best IoU reaches `floor`."""
    threshold = floor * _SLACK
    is_visited = (canvas.peak_iou >= threshold) & (canvas.peak_iou > 0.0)
    # An IoU of t needs an overlap of at least t / (1 + t) of both areas together. Where
    # the shared height is the largest possible, that leaves the least shared width.
    share = threshold / (1.0 + threshold)
    overlap = share * (canvas.edges.area[:, None] + areas[None, :])
    least_x = overlap / _or_one(canvas.peak_y)
    least_y = overlap / _or_one(canvas.peak_x)
    return _Plan(
        next_pair=_next_set(is_visited.reshape(-1)),
        row=first_cells(canvas, boxes, 0, least_y, pixel_offset),
        column=first_cells(canvas, boxes, 1, least_x, pixel_offset),
    )


def _improve(
    best: _BestMaps,
    iou: Float[jax.Array, "_ _"],
    box: Index,
    start: tuple[Index, Index],
) -> _BestMaps:
    """Writes a window back: a higher IoU replaces the box. Ties keep the lower row."""
    old_iou = jax.lax.dynamic_slice(best.iou, start, iou.shape)
    old_index = jax.lax.dynamic_slice(best.gt_index, start, iou.shape)
    index = jnp.where(iou > old_iou, box, old_index)
    return _BestMaps(
        jax.lax.dynamic_update_slice(best.iou, jnp.maximum(iou, old_iou), start),
        jax.lax.dynamic_update_slice(best.gt_index, index, start),
    )


def _window_shape(
    levels: Sequence[AnchorLevel], floor: float, pixel_offset: float
) -> tuple[int, int]:
    """Rows and columns of cells in which any box can reach `floor` with any shape.

    An anchor of width `w` that shares at least `c` pixels with a box of width `v` lies
    within `w + v - 2 c` pixels of travel. An IoU of `t` needs `c >= (w + v) t / (1 +
    t)` and `v <= w / t`, which leaves at most `w (1 - t) / t`.
    """
    reach = 1.0 / (floor * _SLACK) - 1.0 if floor > 0.0 else math.inf

    def cells(level: AnchorLevel, axis: int) -> float:
        ends = ((box[1 - axis], box[3 - axis]) for box in level.cell)
        longest = max(end - start for start, end in ends) + pixel_offset
        # Cells at both ends of the travel, and one for rounding down where it begins.
        return min(longest * reach / level.stride[axis] + 3.0, level.shape[axis])

    height, width = (
        max(math.floor(cells(level, axis)) for level in levels) for axis in (0, 1)
    )
    return height, width


# --- the anchors that boxes force


def forced_by_loop(
    fits: list[LevelFit],
    forces: list[Bool[jax.Array, "_ m"]],
    boxes: Float[jax.Array, "m 4"],
    *,
    pixel_offset: float,
) -> list[Int[jax.Array, "_ _ _"]]:
    """The last box that forces each anchor, or -1, if all anchors that tie are forced.

    A box forces, of every shape that it may, all anchors where it shares most. Only the
    rows that it touches are visited, `_FORCED_ROWS` at a time, in whole rows of cells.

    Args:
        fits: the levels, and how well each box fits them.
        forces: for every level, `[a m]` whether a box forces anchors of a shape.
        boxes: the objects.
        pixel_offset: added to `x1 - x0` to get the width.
    """
    canvas = make_canvas(fits, margin=_FORCED_ROWS)
    window = (_FORCED_ROWS, canvas.width)
    nothing_shared = jnp.zeros_like(canvas.peak_y)
    first_rows = first_cells(canvas, boxes, 0, nothing_shared, pixel_offset)
    ends = end_rows(canvas, boxes, pixel_offset)
    next_pair = _next_set(jnp.concatenate(forces).reshape(-1))
    num_pairs = next_pair.shape[0] - 1
    # The end counts as a pair that begins in row 0, so that it can be looked up too.
    begins = jnp.append(first_rows.reshape(-1), jnp.int32(0))

    def visit(state: tuple[Index, Index, jax.Array]) -> tuple[Index, Index, jax.Array]:
        pair, row, forced_by = state
        shape, box = jnp.divmod(pair, boxes.shape[0])
        y, x = shared_with_window(
            canvas, shape, (row, row * 0), window, boxes[box], pixel_offset
        )
        # Where both factors are at their peak. Boxes come in order, so the last wins.
        tie = (y == canvas.peak_y[shape, box]).T & (x == canvas.peak_x[shape, box])
        start = (jnp.asarray(canvas.first_row)[shape] + row, row * 0)
        part = jax.lax.dynamic_slice(forced_by, start, tie.shape)
        part = jnp.where(tie, box, part)
        forced_by = jax.lax.dynamic_update_slice(forced_by, part, start)
        # On to the next rows, or to the next pair after the last row that it touches.
        is_done = row + _FORCED_ROWS >= ends[shape, box]
        pair = jnp.where(is_done, next_pair[pair + 1], pair)
        return pair, jnp.where(is_done, begins[pair], row + _FORCED_ROWS), forced_by

    first = next_pair[0]
    nothing = jnp.full((canvas.height, canvas.width), first * 0 - 1)
    _, _, forced_by = jax.lax.while_loop(
        lambda state: state[0] < num_pairs, visit, (first, begins[first], nothing)
    )
    return cut_levels(forced_by, fits)


# --- helpers


def _or_one(x: Float[jax.Array, "a m"]) -> Float[jax.Array, "a m"]:
    return jnp.where(x > 0.0, x, 1.0)


def _next_set(mask: Bool[jax.Array, " p"]) -> Int[jax.Array, " p+1"]:
    """For each row and the end, the first row from there on that is set, or the end."""
    end = mask.shape[0]
    rows = jnp.where(mask, jnp.arange(end, dtype=jnp.int32), end)
    return jnp.append(jax.lax.cummin(rows, reverse=True), jnp.int32(end))
