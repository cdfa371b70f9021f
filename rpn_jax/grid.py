"""What relates the anchors of a grid to boxes, without a matrix of the two.

The best IoU of each anchor over all boxes has two forms that agree: on GPU and TPU one
fused reduction over boxes for each level, on CPU the loops of `windows.py`. So have the
claims of each box to its best anchors.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ._typing import Bool, Float, ImageSize, Int
from .anchors import AnchorGrid
from .config import TargetConfig
from .separable import (
    AxisMasks,
    Edges,
    Peaks,
    axis_masks,
    box_areas,
    find_peaks,
    iou_from_areas,
    make_edges,
    shared_length,
)
from .windows import LevelBest, best_by_windows, claims_by_loop


class Association(NamedTuple):
    """How the anchors of an image relate to its boxes.

    Attributes:
        iou: `[n]` the highest IoU with any box.
        gt_index: `[n]` the row of that box, the lowest on ties; 0 where nothing
            overlaps.
        forced_by: `[n]` the last box for which the anchor is the best, or -1.
        is_kept: `[n]` whether the anchor takes part; if not, the others are 0, 0, -1.
    """

    iou: Float[jax.Array, " n"]
    gt_index: Int[jax.Array, " n"]
    forced_by: Int[jax.Array, " n"]
    is_kept: Bool[jax.Array, " n"]


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
        floor: the lowest IoU that must be exact, or its box. The higher, the less work
            on a CPU.
    """
    border = None if config.border_after_matching else config.allowed_border
    masks = [
        axis_masks(x, image_size, border, config.ignore_padding) for x in anchors.levels
    ]
    levels = zip(anchors.levels, masks, strict=True)
    edges = [make_edges(level, mask, config.pixel_offset) for level, mask in levels]
    peaks = [find_peaks(edge, boxes, config.pixel_offset) for edge in edges]
    best = _best_boxes(anchors, edges, peaks, boxes, config.pixel_offset, floor)
    return Association(
        iou=_flatten([level.iou for level in best]),
        gt_index=_flatten([level.gt_index for level in best]),
        forced_by=_forced_by(anchors, edges, peaks, boxes, config),
        is_kept=_flatten([_outer(mask) for mask in masks]),
    )


def grid_inside(
    anchors: AnchorGrid,
    image_size: ImageSize | None,
    border: float | None,
    ignore_padding: bool,
) -> Bool[jax.Array, " n"]:
    """Which anchors the border rules keep."""
    levels = [axis_masks(x, image_size, border, ignore_padding) for x in anchors.levels]
    return _flatten([_outer(mask) for mask in levels])


def _flatten(levels: list[jax.Array]) -> jax.Array:
    """`[a h w]` of every level to `[n]` in the order of the anchors."""
    return jnp.concatenate([x.transpose(1, 2, 0).reshape(-1) for x in levels])


def _outer(mask: AxisMasks) -> Bool[jax.Array, "a h w"]:
    return mask[1][:, :, None] & mask[0][:, None, :]


def _best_boxes(
    anchors: AnchorGrid,
    edges: list[Edges],
    peaks: list[Peaks],
    boxes: Float[jax.Array, "m 4"],
    pixel_offset: float,
    floor: float,
) -> list[LevelBest]:
    by_windows = functools.partial(
        best_by_windows, levels=anchors.levels, pixel_offset=pixel_offset, floor=floor
    )
    return jax.lax.platform_dependent(
        edges,
        peaks,
        boxes,
        cpu=jax.custom_batching.sequential_vmap(by_windows),
        default=functools.partial(best_by_reduction, pixel_offset=pixel_offset),
    )


def _forced_by(
    anchors: AnchorGrid,
    edges: list[Edges],
    peaks: list[Peaks],
    boxes: Float[jax.Array, "m 4"],
    config: TargetConfig,
) -> Int[jax.Array, " n"]:
    """The last box that forces each anchor positive, or -1."""
    if config.force_match == "none":
        return jnp.full(len(anchors), -1, jnp.int32)
    best = jnp.stack([level.iou.max(axis=0) for level in peaks]).max(axis=0)
    may_force = (best > 0.0) & (best >= config.min_force_iou)
    claims = [(level.iou == best[None]) & may_force[None] for level in peaks]
    offset = config.pixel_offset
    if config.force_match == "first":
        return _first_claims(anchors, edges, peaks, boxes, claims, offset)
    by_loop = functools.partial(
        claims_by_loop, levels=anchors.levels, pixel_offset=offset
    )
    levels = jax.lax.platform_dependent(
        edges,
        peaks,
        boxes,
        claims,
        cpu=jax.custom_batching.sequential_vmap(by_loop),
        default=functools.partial(claims_by_reduction, pixel_offset=offset),
    )
    return _flatten(levels)


def _ties(
    edges: Edges, peaks: Peaks, boxes: Float[jax.Array, "m 4"], pixel_offset: float
) -> tuple[Bool[jax.Array, "a m w"], Bool[jax.Array, "a m h"]]:
    """The columns and the rows where each box fits each shape best."""
    x0, y0, x1, y1 = (boxes[None, :, i, None] for i in range(4))
    left, right, top, bottom = (edge[:, None, :] for edge in edges[:4])
    x = shared_length(left, right, x0, x1, pixel_offset) == peaks.x[:, :, None]
    y = shared_length(top, bottom, y0, y1, pixel_offset) == peaks.y[:, :, None]
    return x, y


def _first_claims(
    anchors, edges, peaks, boxes, claims, pixel_offset
) -> Int[jax.Array, " n"]:
    """As `_forced_by`, where a box claims only the first of the anchors that tie."""
    firsts, start = [], 0
    for level, edge, peak, claim in zip(
        anchors.levels, edges, peaks, claims, strict=True
    ):
        x, y = (ties.argmax(axis=2) for ties in _ties(edge, peak, boxes, pixel_offset))
        shape = jnp.arange(len(level.cell))[:, None]
        index = start + (y * level.shape[1] + x) * len(level.cell) + shape
        firsts.append(jnp.where(claim, index, len(anchors)).min(axis=0))
        start += level.size
    first = jnp.stack(firsts).min(axis=0)  # out of bounds, so dropped, where none
    rows = jnp.arange(boxes.shape[0], dtype=jnp.int32)
    return jnp.full(len(anchors), -1, jnp.int32).at[first].max(rows, mode="drop")


def best_by_reduction(
    edges: list[Edges],
    peaks: list[Peaks],
    boxes: Float[jax.Array, "m 4"],
    *,
    pixel_offset: float,
) -> list[LevelBest]:
    """The box that each anchor overlaps most: all boxes at once, nothing stored."""
    del peaks
    x0, y0, x1, y1 = (boxes[:, i, None, None] for i in range(4))
    box_area = box_areas(boxes, pixel_offset)[:, None, None, None]

    def larger(a, b):
        # Ties go to the lower row, whatever the order of the reduction.
        first = (a[0] > b[0]) | ((a[0] == b[0]) & (a[1] < b[1]))
        return jnp.where(first, a[0], b[0]), jnp.where(first, a[1], b[1])

    def over_level(edge):
        x = shared_length(edge.left[None], edge.right[None], x0, x1, pixel_offset)
        y = shared_length(edge.top[None], edge.bottom[None], y0, y1, pixel_offset)
        overlap = y[:, :, :, None] * x[:, :, None, :]
        iou = iou_from_areas(overlap, edge.area[None, :, None, None], box_area)
        row = jax.lax.broadcasted_iota(jnp.int32, iou.shape, 0)
        nothing = (jnp.float32(0.0), jnp.int32(0))
        return LevelBest(*jax.lax.reduce((iou, row), nothing, larger, (0,)))

    return [over_level(edge) for edge in edges]


def claims_by_reduction(
    edges: list[Edges],
    peaks: list[Peaks],
    boxes: Float[jax.Array, "m 4"],
    claims: list[Bool[jax.Array, "_ m"]],
    *,
    pixel_offset: float,
) -> list[Int[jax.Array, "_ _ _"]]:
    """The last box that claims each anchor: all boxes at once, nothing stored."""

    def over_level(edge, peak, claim):
        x, y = _ties(edge, peak, boxes, pixel_offset)
        tie = (y & claim[:, :, None])[:, :, :, None] & x[:, :, None, :]
        row = jax.lax.broadcasted_iota(jnp.int32, tie.shape, 1)
        return jnp.where(tie, row, -1).max(axis=1)

    return [over_level(*level) for level in zip(edges, peaks, claims, strict=True)]
