"""Adaptive convolution: a 3x3 convolution whose nine points span a box.

"Cascade RPN" by Vu et al. (https://arxiv.org/abs/1909.06720), Sec. 3.2: the points are
the corners of an anchor, the middles of its sides, and its centre. So the features of a
moved anchor come from where it looks, and not from the cell that it started at. With an
anchor of two cells in the middle of its own cell, it is an ordinary 3x3 convolution.

Features between cells are interpolated bilinearly, and a cell beyond the map is zero,
as in `deform_conv2d` of torchvision with the offsets of mmdetection's `anchor_offset`.
Only the given boxes are computed, be they a few or those of all cells.
"""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ._typing import Array, Float, Int

# Boxes that are computed together. 9 points of 256 channels in float32 take 36 MiB.
_BATCH = 4096


class Places(NamedTuple):
    """The map that each box lies on, among the maps of all levels.

    Attributes:
        start: `[k]` row of the map's first cell in the list of all cells.
        height: `[k]` number of rows of the map.
        width: `[k]` number of columns of the map.
    """

    start: Int[Array, " k"]
    height: Int[Array, " k"]
    width: Int[Array, " k"]


def adaptive_convolution(
    cells: Float[Array, "n c"],
    boxes: Float[Array, "k 4"],
    places: Places,
    kernel: Float[Array, "3 3 c o"],
) -> Float[jax.Array, "k o"]:
    """The outputs of a 3x3 convolution at nine points of each box.

    Args:
        cells: the features of all cells, of one map after the other, row by row.
        boxes: finite boxes `(x0, y0, x1, y1)` in cells: the centre of a map's first
            cell is `(0, 0)`, and that of its right neighbour `(1, 0)`.
        places: the map of each box.
        kernel: weights by row and column of the points. The first row of weights
            belongs to the upper side of the box.

    Returns:
        The outputs, in the dtype of `cells`.
    """
    weights = jnp.asarray(kernel, cells.dtype).reshape(-1, kernel.shape[-1])

    def convolve(boxes, places):
        features = _at_points(cells, *_points(boxes), places)
        return features.reshape(len(features), -1) @ weights

    if len(boxes) <= _BATCH:
        return convolve(boxes, places)

    # All at once, the features of nine points per cell would be the largest array.
    def convolve_one(row):
        return convolve(*jax.tree.map(lambda x: x[None], row))[0]

    return jax.lax.map(convolve_one, (boxes, places), batch_size=_BATCH)


def _points(
    boxes: Float[Array, "k 4"],
) -> tuple[Float[jax.Array, "k 9"], Float[jax.Array, "k 9"]]:
    """The ordinates and the abscissae of the nine points of each box, row by row."""
    shares = jnp.asarray([0.0, 0.5, 1.0], jnp.float32)[None, :]
    x, y = (
        boxes[:, i, None] * (1.0 - shares) + boxes[:, i + 2, None] * shares
        for i in (0, 1)
    )
    return jnp.repeat(y, 3, axis=1), jnp.tile(x, (1, 3))


def _at_points(
    cells: Float[Array, "n c"],
    y: Float[jax.Array, "k p"],
    x: Float[jax.Array, "k p"],
    places: Places,
) -> Float[jax.Array, "k p c"]:
    """The features at points between cells; zeros outside of the maps."""
    start, height, width = (jnp.asarray(v, jnp.int32)[:, None] for v in places)
    # Points far outside are moved nearer, where they still see no cell, so that their
    # coordinates are integers of 32 bits.
    y, x = (
        jnp.clip(v, -2.0, number.astype(jnp.float32) + 1.0)
        for v, number in ((y, height), (x, width))
    )
    top, left = jnp.floor(y), jnp.floor(x)
    total = jnp.zeros((), cells.dtype)
    for down, right in itertools.product((0.0, 1.0), repeat=2):  # four cells around
        row, column = (v.astype(jnp.int32) for v in (top + down, left + right))
        is_cell = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        share = (1.0 - jnp.abs(y - top - down)) * (1.0 - jnp.abs(x - left - right))
        share = jnp.where(is_cell, share, 0.0).astype(cells.dtype)
        place = jnp.where(is_cell, start + row * width + column, 0)
        total += share[..., None] * jnp.asarray(cells)[place]
    return total
