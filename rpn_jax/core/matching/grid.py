"""What relates the anchors of a grid to boxes, without a matrix of the two.

The best IoU of each anchor over all boxes has two forms that agree: on GPU and TPU one
fused reduction over boxes for each level, on CPU the loops of `windows.py`. So have the
claims of each box to its best anchors. Regions to ignore are `regions.py`.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .._typing import Bool, Float, ImageSize, Int
from ..anchors import AnchorGrid
from ..config import TargetConfig
from .axes import (
    Edges,
    Peaks,
    axis_masks,
    box_areas,
    claiming_shapes,
    find_peaks,
    flatten_levels,
    iou_from_areas,
    make_edges,
    masked_cells,
    shared_length,
    shared_sides,
)
from .ignore_regions import claim_kept, keep_outside
from .on_cpu import LevelBest, best_by_windows, claims_by_loop


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
    regions: Float[jax.Array, "m 4"] | None,
    image_size: ImageSize | None,
    *,
    config: TargetConfig,
    floor: float,
) -> Association:
    """Relates every anchor of a grid to the boxes of an image.

    Args:
        anchors: the grid.
        boxes: finite boxes; inverted ones overlap nothing.
        regions: the same, those to ignore; None if they have no effect.
        image_size: `(height, width)`, for the border rules of `config`.
        config: the rules.
        floor: the lowest IoU that must be exact, or its box. The higher, the less work
            on a CPU.
    """
    offset = config.pixel_offset
    edges, is_kept = _make_edges(anchors, image_size, config)
    peaks = [find_peaks(edge, boxes, offset) for edge in edges]
    best = _best_boxes(anchors, edges, peaks, boxes, offset, floor)
    claims = claiming_shapes([level.iou for level in peaks], config)
    forced_by = _forced_by(anchors, edges, peaks, boxes, claims, config)
    if regions is not None and config.ignore_iof is not None:
        is_kept = keep_outside(is_kept, edges, regions, config.ignore_iof, config)
        best = [
            LevelBest(*(jnp.where(kept, x, 0) for x in level))
            for level, kept in zip(best, is_kept, strict=True)
        ]
        first = _first_claimed(anchors, edges, peaks, boxes, claims, offset)
        forced_by = claim_kept(forced_by, first, anchors, edges, boxes, is_kept, config)
    return Association(
        iou=flatten_levels([level.iou for level in best]),
        gt_index=flatten_levels([level.gt_index for level in best]),
        forced_by=flatten_levels(forced_by),
        is_kept=flatten_levels(is_kept),
    )


def grid_inside(
    anchors: AnchorGrid, image_size: ImageSize | None, border: float | None
) -> Bool[jax.Array, " n"]:
    """Which anchors lie in the image, or reach out of it by less than a border."""
    levels = [axis_masks(x, image_size, border, False) for x in anchors.levels]
    return flatten_levels([masked_cells(mask) for mask in levels])


def _make_edges(
    anchors: AnchorGrid, image_size: ImageSize | None, config: TargetConfig
) -> tuple[list[Edges], list[Bool[jax.Array, "_ _ _"]]]:
    """The edges of every level, and which anchors the border rules keep."""
    border = None if config.border_after_matching else config.allowed_border
    masks = [
        axis_masks(x, image_size, border, config.ignore_padding) for x in anchors.levels
    ]
    levels = zip(anchors.levels, masks, strict=True)
    edges = [make_edges(level, mask, config.pixel_offset) for level, mask in levels]
    return edges, [masked_cells(mask) for mask in masks]


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
    claims: list[Bool[jax.Array, "_ m"]],
    config: TargetConfig,
) -> list[Int[jax.Array, "_ _ _"]]:
    """The last box that forces each anchor positive, or -1."""
    offset = config.pixel_offset
    if config.force_match != "ties":
        first = _first_claimed(anchors, edges, peaks, boxes, claims, offset)
        return _claim_at(first, anchors)
    by_loop = functools.partial(
        claims_by_loop, levels=anchors.levels, pixel_offset=offset
    )
    return jax.lax.platform_dependent(
        edges,
        peaks,
        boxes,
        claims,
        cpu=jax.custom_batching.sequential_vmap(by_loop),
        default=functools.partial(claims_by_reduction, pixel_offset=offset),
    )


def _claim_at(
    index: Int[jax.Array, " m"], anchors: AnchorGrid
) -> list[Int[jax.Array, "_ _ _"]]:
    """The last box that claims each anchor, or -1, where it claims one or none."""
    rows = jnp.arange(index.shape[0], dtype=jnp.int32)
    claimed_by = []
    for level, cells in zip(anchors.levels, anchors.locate(index), strict=True):
        shapes = len(level.cell)
        nothing = jnp.full((shapes, *level.shape), -1, jnp.int32)
        # Out of bounds, so dropped, where it is in another level.
        shape = jnp.where(cells.is_here, cells.shape, shapes)
        at_cells = nothing.at[shape, cells.y, cells.x]
        claimed_by.append(at_cells.max(rows, mode="drop"))
    return claimed_by


def _ties(
    edges: Edges, peaks: Peaks, boxes: Float[jax.Array, "m 4"], pixel_offset: float
) -> tuple[Bool[jax.Array, "a m w"], Bool[jax.Array, "a m h"]]:
    """The columns and the rows where each box fits each shape best."""
    x, y = shared_sides(edges, boxes, pixel_offset)
    return x == peaks.x[:, :, None], y == peaks.y[:, :, None]


def _first_claimed(
    anchors, edges, peaks, boxes, claims, pixel_offset
) -> Int[jax.Array, " m"]:
    """The first anchor that each box claims; the number of anchors if there is none."""
    firsts, start = [], 0
    for level, edge, peak, claim in zip(
        anchors.levels, edges, peaks, claims, strict=True
    ):
        x, y = (ties.argmax(axis=2) for ties in _ties(edge, peak, boxes, pixel_offset))
        shape = jnp.arange(len(level.cell))[:, None]
        index = start + (y * level.shape[1] + x) * len(level.cell) + shape
        firsts.append(jnp.where(claim, index, len(anchors)).min(axis=0))
        start += level.size
    return jnp.stack(firsts).min(axis=0)


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
