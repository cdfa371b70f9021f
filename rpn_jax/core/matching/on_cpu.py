"""The loops of a CPU over the few cells that a box can matter to.

A loop visits one pair of a shape and a box at a time, and in it a window of cells. The
maps of all shapes lie on one canvas, one below the other, so that one loop serves them
all; a window that reaches into the next map changes nothing there, since the rows of
its own map have ended and share nothing with the box.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._typing import Bool, Float, Int
from ..anchors import AnchorLevel
from .axes import Edges, Peaks, box_areas, iou_from_areas, shared_length

_SLACK = 1.0 - 1e-5  # windows are laid out for a slightly lower IoU than asked for
_CLAIM_ROWS = 8  # rows that one step of a claim visits


class LevelBest(NamedTuple):
    """For each anchor of a level, the box that it overlaps most.

    Attributes:
        iou: `[a h w]` its IoU; wherever this is below `floor`, it may be any lower one.
        gt_index: `[a h w]` its row, the lowest on ties; 0 where nothing overlaps.
    """

    iou: Float[jax.Array, "a h w"]
    gt_index: Int[jax.Array, "a h w"]


class _Canvas(NamedTuple):
    """The maps of several levels, one below the other, and what is known of each shape.

    Attributes:
        edges: of all shapes, padded to the widest and highest map with inside-out
            edges.
        first_row: `[a]` where the map of each shape begins.
        height: rows of the canvas, with a margin for the last window.
        width: columns of the canvas.
        cell: `[a 4]` the box of the first cell.
        stride: `[a 2]` (vertical, horizontal)
        num_cells: `[a 2]` rows and columns of the map.
    """

    edges: Edges
    first_row: Int[np.ndarray, " a"]
    height: int
    width: int
    cell: Float[np.ndarray, "a 4"]
    stride: Float[np.ndarray, "a 2"]
    num_cells: Float[np.ndarray, "a 2"]


def best_by_windows(
    edges: list[Edges],
    peaks: list[Peaks],
    boxes: Float[jax.Array, "m 4"],
    *,
    levels: Sequence[AnchorLevel],
    pixel_offset: float,
    floor: float,
) -> list[LevelBest]:
    """For each anchor, its highest IoU and the box, exact from `floor` upwards.

    Only pairs that reach `floor` are visited. With a `floor` of 0 a window is a whole
    level, and the levels have a loop each; otherwise one loop serves them all.
    """
    if floor <= 0.0:
        groups = [slice(i, i + 1) for i in range(len(levels))]
    else:
        groups = [slice(len(levels))]
    best = []
    for group in groups:
        best += _best_of_group(
            edges[group], peaks[group], boxes, levels[group], pixel_offset, floor
        )
    return best


def _best_of_group(edges, peaks, boxes, levels, pixel_offset, floor) -> list[LevelBest]:
    window = _window_shape(levels, floor, pixel_offset)
    canvas = _make_canvas(edges, levels, margin=window[0])
    peak = Peaks(*map(jnp.concatenate, zip(*peaks, strict=True)))
    areas = box_areas(boxes, pixel_offset)
    # An IoU of t needs an overlap of at least t / (1 + t) of both areas together.
    share = floor * _SLACK / (1.0 + floor * _SLACK)
    overlap = share * (canvas.edges.area[:, None] + areas[None, :])
    rows = _first_cells(canvas, boxes, 0, overlap / _or_one(peak.x), pixel_offset)
    columns = _first_cells(canvas, boxes, 1, overlap / _or_one(peak.y), pixel_offset)
    following = _following(
        ((peak.iou >= floor * _SLACK) & (peak.iou > 0.0)).reshape(-1)
    )
    num_boxes = boxes.shape[0]

    def visit(state):
        pair, iou_map, index_map = state
        shape, box = jnp.divmod(pair, num_boxes)
        row, column = rows[shape, box], columns[shape, box]
        x = _shared_part(
            canvas.edges[:2], shape, column, window[1], boxes[box, 0::2], pixel_offset
        )
        y = _shared_part(
            canvas.edges[2:4], shape, row, window[0], boxes[box, 1::2], pixel_offset
        )
        iou = iou_from_areas(y.T * x, canvas.edges.area[shape], areas[box])
        start = (jnp.asarray(canvas.first_row)[shape] + row, column)
        old_iou = jax.lax.dynamic_slice(iou_map, start, window)
        index = jax.lax.dynamic_slice(index_map, start, window)
        index = jnp.where(iou > old_iou, box, index)
        iou = jnp.maximum(iou, old_iou)
        return (
            following[pair + 1],
            jax.lax.dynamic_update_slice(iou_map, iou, start),
            jax.lax.dynamic_update_slice(index_map, index, start),
        )

    size = (canvas.height, canvas.width)
    # Made from inputs: under `shard_map`, a loop's state has to vary like its results.
    nothing = jnp.full(size, jnp.zeros_like(areas[0])), jnp.full(size, following[0] * 0)
    state = (following[0], *nothing)
    num_pairs = following.shape[0] - 1
    _, iou_map, index_map = jax.lax.while_loop(
        lambda state: state[0] < num_pairs, visit, state
    )
    maps = zip(_cut(iou_map, levels), _cut(index_map, levels), strict=True)
    return [LevelBest(*level) for level in maps]


def claims_by_loop(
    edges: list[Edges],
    peaks: list[Peaks],
    boxes: Float[jax.Array, "m 4"],
    claims: list[Bool[jax.Array, "_ m"]],
    *,
    levels: Sequence[AnchorLevel],
    pixel_offset: float,
) -> list[Int[jax.Array, "_ _ _"]]:
    """The last box that claims each anchor, or -1.

    A box claims, of every shape that it may, all anchors where it shares most. Only the
    rows that it touches are visited, a few at a time.
    """
    canvas = _make_canvas(edges, levels, margin=_CLAIM_ROWS)
    peak = Peaks(*map(jnp.concatenate, zip(*peaks, strict=True)))
    rows = _first_cells(canvas, boxes, 0, jnp.zeros_like(peak.y), pixel_offset)
    ends = _end_rows(canvas, boxes, pixel_offset)
    following = _following(jnp.concatenate(claims).reshape(-1))
    num_boxes, num_pairs = boxes.shape[0], following.shape[0] - 1
    first_rows = jnp.append(rows.reshape(-1), jnp.int32(0))

    def visit(state):
        pair, row, claimed_by = state
        shape, box = jnp.divmod(pair, num_boxes)
        x = _shared_part(
            canvas.edges[:2], shape, 0, canvas.width, boxes[box, 0::2], pixel_offset
        )
        y = _shared_part(
            canvas.edges[2:4], shape, row, _CLAIM_ROWS, boxes[box, 1::2], pixel_offset
        )
        tie = (y == peak.y[shape, box]).T & (x == peak.x[shape, box])
        start = (jnp.asarray(canvas.first_row)[shape] + row, 0)
        part = jax.lax.dynamic_slice(claimed_by, start, tie.shape)
        claimed_by = jax.lax.dynamic_update_slice(
            claimed_by, jnp.where(tie, box, part), start
        )
        is_done = row + _CLAIM_ROWS >= ends[shape, box]
        pair = jnp.where(is_done, following[pair + 1], pair)
        return pair, jnp.where(is_done, first_rows[pair], row + _CLAIM_ROWS), claimed_by

    nothing = jnp.full((canvas.height, canvas.width), following[0] * 0 - 1)
    state = (following[0], first_rows[following[0]], nothing)
    claimed_by = jax.lax.while_loop(lambda state: state[0] < num_pairs, visit, state)[2]
    return _cut(claimed_by, levels)


def _window_shape(
    levels: Sequence[AnchorLevel], floor: float, pixel_offset: float
) -> tuple[int, int]:
    """Rows and columns of cells in which any box can reach `floor` with any shape.

    An anchor of width `w` that shares at least `c` pixels with a box of width `v` lies
    within `w + v - 2 c` pixels of travel. An IoU of `t` needs `c >= (w + v) t / (1 +
    t)` and `v <= w / t`, which leaves at most `w (1 - t) / t`.
    """
    reach = 1.0 / (floor * _SLACK) - 1.0 if floor > 0.0 else math.inf

    def cells(level, axis):
        longest = (
            max(box[3 - axis] - box[1 - axis] for box in level.cell) + pixel_offset
        )
        return min(longest * reach / level.stride[axis] + 3.0, level.shape[axis])

    height, width = (
        max(math.floor(cells(level, axis)) for level in levels) for axis in (0, 1)
    )
    return height, width


def _make_canvas(
    edges: list[Edges], levels: Sequence[AnchorLevel], margin: int
) -> _Canvas:
    height, width = (max(level.shape[axis] for level in levels) for axis in (0, 1))
    shapes = [(level, box) for level in levels for box in level.cell]
    rows = np.array([level.shape[0] for level, _ in shapes])
    cells = [
        np.array(box) + np.array([*level.origin[::-1]] * 2) for level, box in shapes
    ]

    def pad(arrays, size, value):
        padded = [((0, 0), (0, size - x.shape[1])) for x in arrays]
        arrays = zip(arrays, padded, strict=True)
        return jnp.concatenate(
            [jnp.pad(x, p, constant_values=value) for x, p in arrays]
        )

    left, right, top, bottom, area = zip(*edges, strict=True)
    return _Canvas(
        edges=Edges(
            left=pad(left, width, jnp.inf),
            right=pad(right, width, -jnp.inf),
            top=pad(top, height + margin, jnp.inf),
            bottom=pad(bottom, height + margin, -jnp.inf),
            area=jnp.concatenate(area),
        ),
        first_row=(np.cumsum(rows) - rows).astype(np.int32),
        height=int(rows.sum()) + margin,
        width=width,
        cell=np.array(cells, np.float32),
        stride=np.array([level.stride for level, _ in shapes], np.float32),
        num_cells=np.array([level.shape for level, _ in shapes], np.float32),
    )


def _first_cells(
    canvas: _Canvas,
    boxes: Float[jax.Array, "m 4"],
    axis: int,
    shared: Float[jax.Array, "a m"],
    pixel_offset: float,
) -> Int[jax.Array, "a m"]:
    """The first cell along an axis that can share so much with each box, or less."""
    starts = (
        boxes[None, :, 1 - axis]
        + shared
        - pixel_offset
        - canvas.cell[:, 3 - axis, None]
    )
    cells = jnp.floor(starts / canvas.stride[:, axis, None])
    return jnp.clip(cells, 0.0, canvas.num_cells[:, axis, None] - 1.0).astype(jnp.int32)


def _end_rows(
    canvas: _Canvas, boxes: Float[jax.Array, "m 4"], pixel_offset: float
) -> Int[jax.Array, "a m"]:
    """The row after the last that can share anything with each box, or a later one."""
    ends = boxes[None, :, 3] + pixel_offset - canvas.cell[:, 1, None]
    rows = jnp.ceil(ends / canvas.stride[:, 0, None]) + 1.0
    return jnp.clip(rows, 0.0, canvas.num_cells[:, 0, None]).astype(jnp.int32)


def _shared_part(
    edges, shape, start, size, box, pixel_offset
) -> Float[jax.Array, "1 cells"]:
    low, high = (
        jax.lax.dynamic_slice(edge, (shape, start), (1, size)) for edge in edges
    )
    return shared_length(low, high, box[0], box[1], pixel_offset)


def _or_one(x: Float[jax.Array, "a m"]) -> Float[jax.Array, "a m"]:
    return jnp.where(x > 0.0, x, 1.0)


def _cut(canvas: jax.Array, levels: Sequence[AnchorLevel]) -> list[jax.Array]:
    """The maps `[a h w]` of every level."""
    maps, row = [], 0
    for level in levels:
        (height, width), shapes = level.shape, len(level.cell)
        part = canvas[row : row + shapes * height, :width]
        maps.append(part.reshape(shapes, height, width))
        row += shapes * height
    return maps


def _following(mask: Bool[jax.Array, " p"]) -> Int[jax.Array, " p+1"]:
    """For each row and the end, the first row from there on that is set, or the end."""
    end = mask.shape[0]
    rows = jnp.where(mask, jnp.arange(end, dtype=jnp.int32), end)
    return jnp.append(jax.lax.cummin(rows, reverse=True), jnp.int32(end))
