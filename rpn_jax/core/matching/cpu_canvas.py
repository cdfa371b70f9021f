"""The canvas on which the loops of a CPU visit windows of cells.

The maps of all shapes lie on one canvas, one below the other, so that one loop serves
them all. A window may reach into the next map. That changes nothing, since the rows of
its own map have ended: they are padded with inverted edges, which share nothing with
any box.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._typing import Float, Int
from .axes import FAR, Edges, LevelFit, shared_length

Index = Int[jax.Array, ""]


class Canvas(NamedTuple):
    """The maps of several levels, one below the other, and the facts of every shape.

    Attributes:
        edges: edges of all shapes, padded with inverted edges to the widest and highest
            map.
        peak_x: `[a m]` as in `LevelFit`.
        peak_y: `[a m]` as in `LevelFit`.
        peak_iou: `[a m]` as in `LevelFit`.
        first_row: `[a]` the row of the canvas in which the map of each shape begins.
        height: rows of the canvas, with a margin for the last window.
        width: columns of the canvas.
        cell: `[a 4]` the box of the first cell.
        stride: `[a 2]` (vertical, horizontal) pixels between two cells.
        num_cells: `[a 2]` rows and columns of the map.
    """

    edges: Edges
    peak_x: Float[jax.Array, "a m"]
    peak_y: Float[jax.Array, "a m"]
    peak_iou: Float[jax.Array, "a m"]
    first_row: Int[np.ndarray, " a"]
    height: int
    width: int
    cell: Float[np.ndarray, "a 4"]
    stride: Float[np.ndarray, "a 2"]
    num_cells: Float[np.ndarray, "a 2"]


def make_canvas(fits: list[LevelFit], margin: int) -> Canvas:
    """Lays out the shapes of several levels, with a margin of rows at the end."""
    levels = [fit.level for fit in fits]
    height, width = (max(level.shape[axis] for level in levels) for axis in (0, 1))
    shapes = [(level, box) for level in levels for box in level.cell]
    rows = np.array([level.shape[0] for level, _ in shapes])
    cells = [
        np.array(box) + np.array([*level.origin[::-1]] * 2) for level, box in shapes
    ]

    def pad(arrays: Sequence[jax.Array], size: int, value: float) -> jax.Array:
        padding = [((0, 0), (0, size - x.shape[1])) for x in arrays]
        pairs = zip(arrays, padding, strict=True)
        return jnp.concatenate([jnp.pad(x, p, constant_values=value) for x, p in pairs])

    left, right, top, bottom, area = zip(*(fit.edges for fit in fits), strict=True)
    return Canvas(
        edges=Edges(
            left=pad(left, width, FAR),
            right=pad(right, width, -FAR),
            top=pad(top, height + margin, FAR),
            bottom=pad(bottom, height + margin, -FAR),
            area=jnp.concatenate(area),
        ),
        peak_x=jnp.concatenate([fit.peak_x for fit in fits]),
        peak_y=jnp.concatenate([fit.peak_y for fit in fits]),
        peak_iou=jnp.concatenate([fit.peak_iou for fit in fits]),
        first_row=(np.cumsum(rows) - rows).astype(np.int32),
        height=int(rows.sum()) + margin,
        width=width,
        cell=np.array(cells, np.float32),
        stride=np.array([level.stride for level, _ in shapes], np.float32),
        num_cells=np.array([level.shape for level, _ in shapes], np.float32),
    )


def cut_levels(canvas: jax.Array, fits: list[LevelFit]) -> list[jax.Array]:
    """Cuts the canvas into the maps `[a h w]` of every level."""
    maps, row = [], 0
    for fit in fits:
        (height, width), shapes = fit.level.shape, len(fit.level.cell)
        part = canvas[row : row + shapes * height, :width]
        maps.append(part.reshape(shapes, height, width))
        row += shapes * height
    return maps


def first_cells(
    canvas: Canvas,
    boxes: Float[jax.Array, "m 4"],
    axis: int,
    shared: Float[jax.Array, "a m"],
    pixel_offset: float,
) -> Int[jax.Array, "a m"]:
    """The first cell along an axis that can share so many pixels with each box.

    It may be an earlier cell, never a later one. Cells before the map count as its
    first, and cells behind it as its last.
    """
    starts = (
        boxes[None, :, 1 - axis]
        + shared
        - pixel_offset
        - canvas.cell[:, 3 - axis, None]
    )
    cells = jnp.floor(starts / canvas.stride[:, axis, None])
    return jnp.clip(cells, 0.0, canvas.num_cells[:, axis, None] - 1.0).astype(jnp.int32)


def shared_with_window(
    canvas: Canvas,
    shape: Index,
    start: tuple[Index, Index],
    size: tuple[int, int],
    box: Float[jax.Array, "4"],
    pixel_offset: float,
) -> tuple[Float[jax.Array, "1 y"], Float[jax.Array, "1 x"]]:
    """Pixels that a box shares with the rows and columns of a window of a shape.

    Args:
        canvas: all shapes.
        shape: index of the shape.
        start: first row and column of the window.
        size: number of its rows and columns.
        box: `(x0, y0, x1, y1)`.
        pixel_offset: added to `x1 - x0` to get the width.
    """
    left, right, top, bottom, _ = canvas.edges

    def along(axis, low, high):
        low, high = (
            jax.lax.dynamic_slice(x, (shape, start[axis]), (1, size[axis]))
            for x in (low, high)
        )
        return shared_length(low, high, box[1 - axis], box[3 - axis], pixel_offset)

    return along(0, top, bottom), along(1, left, right)


def end_rows(
    canvas: Canvas, boxes: Float[jax.Array, "m 4"], pixel_offset: float
) -> Int[jax.Array, "a m"]:
    """The row after the last that can share anything with each box, or a later one."""
    ends = boxes[None, :, 3] + pixel_offset - canvas.cell[:, 1, None]
    rows = jnp.ceil(ends / canvas.stride[:, 0, None]) + 1.0
    return jnp.clip(rows, 0.0, canvas.num_cells[:, 0, None]).astype(jnp.int32)
