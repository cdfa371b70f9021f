"""Where the centres of anchors lie: what the rules about locations share."""

import jax
import jax.numpy as jnp

from .._typing import Bool, Float
from ..anchors import AnchorGrid, AnchorLevel, Anchors
from ..boxes import finite_boxes

# An anchor belongs to a box if its centre lies more than so many pixels inside, as in
# the ATSS and task-aligned assigners of mmdetection.
MARGIN = 0.01

Axes = tuple[Float[jax.Array, "a w"], Float[jax.Array, "a h"]]
Points = tuple[Float[jax.Array, " _"], Float[jax.Array, " _"]]  # x and y of each
Coordinate = Float[jax.Array, "..."]


def level_centers(level: AnchorLevel, pixel_offset: float) -> Axes:
    """Where the anchors of a level have their centres, per column and per row."""
    (left, right), (top, bottom) = level.x_edges(), level.y_edges()
    return (
        jnp.asarray((left + right + pixel_offset) / 2, jnp.float32),
        jnp.asarray((top + bottom + pixel_offset) / 2, jnp.float32),
    )


def anchor_centers(anchors: Anchors, pixel_offset: float) -> Points:
    """The `x` and the `y` of the centre of every anchor."""
    if not isinstance(anchors, AnchorGrid):
        boxes = jax.lax.stop_gradient(finite_boxes(anchors))
        return box_centers(boxes, pixel_offset)
    xs, ys = [], []
    for level in anchors.levels:
        x, y = level_centers(level, pixel_offset)
        shape = (*level.shape, len(level.cell))
        xs.append(jnp.broadcast_to(x.T[None, :, :], shape).reshape(-1))
        ys.append(jnp.broadcast_to(y.T[:, None, :], shape).reshape(-1))
    return jnp.concatenate(xs), jnp.concatenate(ys)


def box_centers(boxes: Float[jax.Array, "n 4"], pixel_offset: float) -> Points:
    """The `x` and the `y` of the centre of every box."""
    x, y = ((boxes[:, i] + boxes[:, i + 2] + pixel_offset) / 2 for i in (0, 1))
    return x, y


def depth(
    x: Coordinate, y: Coordinate, boxes: Float[jax.Array, "*m 4"], pixel_offset: float
) -> Coordinate:
    """Pixels from each point to the nearest edge of its box; negative outside.

    Args:
        x: abscissae.
        y: ordinates.
        boxes: boxes whose leading dimensions broadcast with the points.
        pixel_offset: added to `x1 - x0` to get the width.
    """
    left, top = x - boxes[..., 0], y - boxes[..., 1]
    right = boxes[..., 2] + pixel_offset - x
    bottom = boxes[..., 3] + pixel_offset - y
    return jnp.minimum(jnp.minimum(left, right), jnp.minimum(top, bottom))


def split_by_level(
    flat: Bool[jax.Array, " n"], anchors: AnchorGrid
) -> list[Bool[jax.Array, "_ _ _"]]:
    """Cuts values of all anchors into `[a h w]` of every level."""
    levels, start = [], 0
    for level in anchors.levels:
        part = flat[start : start + level.size]
        levels.append(part.reshape(*level.shape, len(level.cell)).transpose(2, 0, 1))
        start += level.size
    return levels
