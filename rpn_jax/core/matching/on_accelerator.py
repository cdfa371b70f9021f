"""The form of GPUs and TPUs: one fused reduction over all boxes per level.

XLA fuses the overlaps into the reduction, so no array of anchors times boxes is stored.
"""

import jax
import jax.numpy as jnp

from .._typing import Bool, Float, Int
from ..boxes import area
from .association import LevelBest
from .axes import LevelFit, iou_from_areas, shared_length, shared_sides


def best_by_reduction(
    fits: list[LevelFit], boxes: Float[jax.Array, "m 4"], *, pixel_offset: float
) -> list[LevelBest]:
    """The box that each anchor overlaps most.

    Args:
        fits: the levels.
        boxes: finite boxes; inverted ones overlap nothing.
        pixel_offset: added to `x1 - x0` to get the width.
    """
    x0, y0, x1, y1 = (boxes[:, i, None, None] for i in range(4))
    box_area = area(boxes, pixel_offset=pixel_offset)[:, None, None, None]

    def larger(a, b):
        # Ties go to the lower row, whatever the order of the reduction.
        first = (a[0] > b[0]) | ((a[0] == b[0]) & (a[1] < b[1]))
        return jnp.where(first, a[0], b[0]), jnp.where(first, a[1], b[1])

    def over_level(fit):
        edges = fit.edges
        x = shared_length(edges.left[None], edges.right[None], x0, x1, pixel_offset)
        y = shared_length(edges.top[None], edges.bottom[None], y0, y1, pixel_offset)
        overlap = y[:, :, :, None] * x[:, :, None, :]
        iou = iou_from_areas(overlap, edges.area[None, :, None, None], box_area)
        row = jax.lax.broadcasted_iota(jnp.int32, iou.shape, 0)
        nothing = (jnp.float32(0.0), jnp.int32(0))
        return LevelBest(*jax.lax.reduce((iou, row), nothing, larger, (0,)))

    return [over_level(fit) for fit in fits]


def forced_by_reduction(
    fits: list[LevelFit],
    forces: list[Bool[jax.Array, "_ m"]],
    boxes: Float[jax.Array, "m 4"],
    *,
    pixel_offset: float,
) -> list[Int[jax.Array, "_ _ _"]]:
    """The last box that forces each anchor, or -1, if all anchors that tie are forced.

    Args:
        fits: the levels, and how well each box fits them.
        forces: for every level, `[a m]` whether a box forces anchors of a shape.
        boxes: the objects.
        pixel_offset: added to `x1 - x0` to get the width.
    """

    def over_level(fit, force):
        x, y = peak_cells(fit, boxes, pixel_offset)
        tie = (y & force[:, :, None])[:, :, :, None] & x[:, :, None, :]
        row = jax.lax.broadcasted_iota(jnp.int32, tie.shape, 1)
        return jnp.where(tie, row, -1).max(axis=1)

    return [over_level(*level) for level in zip(fits, forces, strict=True)]


def peak_cells(
    fit: LevelFit, boxes: Float[jax.Array, "m 4"], pixel_offset: float
) -> tuple[Bool[jax.Array, "a m w"], Bool[jax.Array, "a m h"]]:
    """The columns and the rows where each box fits each shape best.

    Args:
        fit: the level, and how well each box fits it.
        boxes: the boxes.
        pixel_offset: added to `x1 - x0` to get the width.
    """
    x, y = shared_sides(fit.edges, boxes, pixel_offset)
    return x == fit.peak_x[:, :, None], y == fit.peak_y[:, :, None]
