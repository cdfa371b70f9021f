"""Matching of anchors that are given as a grid: which form runs, and in what order.

The best IoU of each anchor over all boxes has two forms that agree to the bit: one
fused reduction per level on GPUs and TPUs (`on_accelerator.py`), and loops over windows
of cells on a CPU (`on_cpu.py`). The same holds for the anchors that a box forces
(`forced.py`). Neither stores a matrix of anchors times boxes.
"""

import functools

import jax
import jax.numpy as jnp

from .._typing import Bool, Float, ImageSize
from ..anchors import AnchorGrid
from ..config import TargetConfig
from .association import Association, LevelBest
from .axes import LevelFit, axis_masks, fit_level, flatten_levels, masked_cells
from .forced import forced_on_grid
from .ground_truth import MatchBoxes
from .ignore_regions import force_again, keep_outside
from .on_accelerator import best_by_reduction
from .on_cpu import best_by_windows


def associate_grid(
    anchors: AnchorGrid,
    gt: MatchBoxes,
    image_size: ImageSize | None,
    *,
    config: TargetConfig,
    floor: float,
) -> Association:
    """Relates every anchor of a grid to the boxes of an image.

    Args:
        anchors: the grid.
        gt: objects and ignored regions.
        image_size: `(height, width)`, for the border rules of `config`.
        config: the rules.
        floor: IoUs below it, and their boxes, may be wrong. A higher floor makes the
            CPU form faster.
    """
    fits, is_kept = _fit_levels(anchors, gt.objects, image_size, config)
    best = _best_boxes(fits, gt.objects, config.pixel_offset, floor)
    forced_by = forced_on_grid(fits, gt.objects, config)
    # The best box of an anchor does not depend on ignored regions, so they come last.
    if gt.ignored is not None:
        is_kept = keep_outside(is_kept, fits, gt.ignored, config)
        forced_by = force_again(forced_by, fits, gt.objects, is_kept, config)
        best = [
            LevelBest(*(jnp.where(kept, x, 0) for x in level))
            for level, kept in zip(best, is_kept, strict=True)
        ]
    return Association(
        iou=flatten_levels([level.iou for level in best]),
        gt_index=flatten_levels([level.gt_index for level in best]),
        forced_by=flatten_levels(forced_by),
        is_kept=flatten_levels(is_kept),
    )


def kept_in_grid(
    anchors: AnchorGrid,
    gt: MatchBoxes,
    image_size: ImageSize | None,
    *,
    config: TargetConfig,
) -> Bool[jax.Array, " n"]:
    """Which anchors take part; the arguments are those of `associate_grid`."""
    fits, is_kept = _fit_levels(anchors, gt.objects, image_size, config)
    if gt.ignored is not None:
        is_kept = keep_outside(is_kept, fits, gt.ignored, config)
    return flatten_levels(is_kept)


def grid_inside(
    anchors: AnchorGrid, image_size: ImageSize | None, border: float | None
) -> Bool[jax.Array, " n"]:
    """Which anchors lie in the image, or extend beyond it by less than a border."""
    levels = [axis_masks(x, image_size, border, False) for x in anchors.levels]
    return flatten_levels([masked_cells(masks) for masks in levels])


def _fit_levels(
    anchors: AnchorGrid,
    boxes: Float[jax.Array, "m 4"],
    image_size: ImageSize | None,
    config: TargetConfig,
) -> tuple[list[LevelFit], list[Bool[jax.Array, "_ _ _"]]]:
    """How well the boxes fit every level, and which anchors the border rules keep."""
    border = None if config.border_after_matching else config.allowed_border
    fits, is_kept = [], []
    for level in anchors.levels:
        masks = axis_masks(level, image_size, border, config.ignore_padding)
        fits.append(fit_level(level, masks, boxes, config.pixel_offset))
        is_kept.append(masked_cells(masks))
    return fits, is_kept


def _best_boxes(
    fits: list[LevelFit],
    boxes: Float[jax.Array, "m 4"],
    pixel_offset: float,
    floor: float,
) -> list[LevelBest]:
    """The box that each anchor overlaps most, in the form that suits the backend."""
    # As a batch, the loops of a CPU would copy their maps in every iteration, so there
    # a `vmap` visits one image after the other.
    on_cpu = functools.partial(best_by_windows, pixel_offset=pixel_offset, floor=floor)
    return jax.lax.platform_dependent(
        fits,
        boxes,
        cpu=jax.custom_batching.sequential_vmap(on_cpu),
        default=functools.partial(best_by_reduction, pixel_offset=pixel_offset),
    )
