"""The anchors whose centres are nearest to the centre of each box."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from .._typing import Bool, Float, Int
from .axes import AxisMasks
from .centers import Points

_FAR = 1e38  # square pixels to what does not take part; twice this is still finite


class Nearest(NamedTuple):
    """The nearest anchors of each shape, the lowest index first on ties.

    Attributes:
        place: `[m a k]` the cell `y * w + x`, or the index among given boxes.
        is_found: `[m a k]` False where fewer than `k` anchors take part.
    """

    place: Int[jax.Array, "m a k"]
    is_found: Bool[jax.Array, "m a k"]


def nearest_in_grid(
    x: Float[jax.Array, "a w"],
    y: Float[jax.Array, "a h"],
    masks: AxisMasks,
    points: Points,
    number: int,
) -> Nearest:
    """The nearest cells of a level, if whole columns and rows take part or do not.

    Args:
        x: centres of the anchors of each shape, per column.
        y: the same per row.
        masks: the columns and rows that take part.
        points: `x` and `y` of the centre of every box.
        number: how many of each shape to find.
    """
    # A cell among the k nearest lies in one of the k nearest columns: otherwise k cells
    # of its row would be nearer. The same holds for rows. So k * k cells are compared.
    width = x.shape[1]
    columns, across = _nearest_lines(x, masks[0], points[0], number)
    rows, along = _nearest_lines(y, masks[1], points[1], number)
    distance = along[:, :, :, None] + across[:, :, None, :]
    cells = rows[:, :, :, None] * width + columns[:, :, None, :]
    distance, cells = (v.reshape(*v.shape[:2], -1) for v in (distance, cells))
    negative, best = jax.lax.top_k(-distance, min(number, distance.shape[2]))
    place = jnp.take_along_axis(cells, best, axis=2)
    return Nearest(place, negative > -_FAR)


def nearest_of_all(
    x: Float[jax.Array, "a p"],
    y: Float[jax.Array, "a p"],
    is_kept: Bool[jax.Array, "a p"],
    points: Points,
    number: int,
) -> Nearest:
    """The nearest of any places, one box at a time.

    Args:
        x: centres of the anchors of each shape.
        y: the same in the other direction.
        is_kept: which of them take part.
        points: `x` and `y` of the centre of every box.
        number: how many of each shape to find.
    """

    def of_box(point):
        distance = (y - point[1]) ** 2 + (x - point[0]) ** 2
        distance = jnp.where(is_kept, distance, _FAR)
        return jax.lax.top_k(-distance, min(number, x.shape[1]))

    negative, place = jax.lax.map(of_box, points)
    return Nearest(place, negative > -_FAR)


def _nearest_lines(
    lines: Float[jax.Array, "a w"],
    mask: Bool[jax.Array, "a w"],
    points: Float[jax.Array, " m"],
    number: int,
) -> tuple[Int[jax.Array, "m a k"], Float[jax.Array, "m a k"]]:
    """The nearest columns or rows in ascending order, and their squared distance."""
    distance = (lines[None] - points[:, None, None]) ** 2
    distance = jnp.where(mask[None], distance, _FAR)
    nearest = jax.lax.top_k(-distance, min(number, lines.shape[1]))[1]
    nearest = jnp.sort(nearest, axis=2)
    return nearest, jnp.take_along_axis(distance, nearest, axis=2)
