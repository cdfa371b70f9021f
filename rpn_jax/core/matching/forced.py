"""Which anchors a box forces positive. No other file knows the rule.

A box forces the anchors with its best IoU, so that every object has a positive anchor
even if none reaches the positive threshold: Sec. 3.1.2 of "Faster R-CNN" by Ren et al.
(https://arxiv.org/abs/1506.01497). `TargetConfig.force_match` says which of the anchors
that tie for the best IoU: all of them, the first, or none. A box whose best IoU is 0,
or below `TargetConfig.min_force_iou`, forces nothing.

The rule is `_may_force` and `forced_of_box`. The rest applies it to a grid without
visiting every anchor: `forcing_shapes` finds the shapes with the best IoU from the
peaks of the levels, and the anchors of such a shape that tie are those at its peak.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from .._typing import Bool, Float, Int
from ..anchors import AnchorGrid, AnchorLevel
from ..config import TargetConfig
from .axes import LevelFit
from .on_accelerator import forced_by_reduction, peak_cells
from .on_cpu import forced_by_loop

Forced = list[Int[jax.Array, "_ _ _"]]  # for every level, `[a h w]` a row or -1
Ties = list[Bool[jax.Array, "_ m _ _"]]  # for every level, `[a m h w]`


def _may_force(
    best_iou: Float[jax.Array, "*m"], config: TargetConfig
) -> Bool[jax.Array, "*m"]:
    """Whether a box with this best IoU forces anchors at all."""
    if config.force_match == "none":
        return jnp.zeros_like(best_iou, bool)
    return (best_iou > 0.0) & (best_iou >= config.min_force_iou)


def forced_of_box(
    iou: Float[jax.Array, " n"], config: TargetConfig
) -> Bool[jax.Array, " n"]:
    """The anchors that one box forces.

    Args:
        iou: IoU of the box with every anchor; 0 for those that are not kept.
        config: the rules.
    """
    best = iou.max()
    if config.force_match == "first":
        is_best = jnp.arange(iou.shape[0]) == iou.argmax()
    else:
        is_best = iou == best
    return _may_force(best, config) & is_best


def forcing_shapes(
    ious: Sequence[Float[jax.Array, "_ m"]], config: TargetConfig
) -> list[Bool[jax.Array, "_ m"]]:
    """The shapes with which a box reaches its best IoU, if it forces any anchor.

    Args:
        ious: for every level, `[a m]` the best IoU of each box with each shape there.
        config: the rules.
    """
    best = jnp.stack([iou.max(axis=0) for iou in ious]).max(axis=0)
    may_force = _may_force(best, config)
    return [(iou == best[None]) & may_force[None] for iou in ious]


def forced_on_grid(
    fits: list[LevelFit], boxes: Float[jax.Array, "m 4"], config: TargetConfig
) -> Forced:
    """The last box that forces each anchor of a grid, or -1.

    Args:
        fits: the levels, and how well each box fits them.
        boxes: the objects.
        config: the rules.
    """
    if config.force_match != "ties":
        return _forced_at(first_forced(fits, boxes, config), fits)
    forces = forcing_shapes([fit.peak_iou for fit in fits], config)
    offset = config.pixel_offset
    # A `vmap` on a CPU visits one image after the other: as a batch, the loop would
    # copy its maps in every iteration.
    by_loop = functools.partial(forced_by_loop, pixel_offset=offset)
    return jax.lax.platform_dependent(
        fits,
        forces,
        boxes,
        cpu=jax.custom_batching.sequential_vmap(by_loop),
        default=functools.partial(forced_by_reduction, pixel_offset=offset),
    )


def first_forced(
    fits: list[LevelFit], boxes: Float[jax.Array, "m 4"], config: TargetConfig
) -> Int[jax.Array, " m"]:
    """The first anchor that each box forces, or the number of anchors if there is none.

    Args:
        fits: the levels, and how well each box fits them.
        boxes: the objects.
        config: the rules.
    """
    num_anchors = sum(fit.level.size for fit in fits)
    forces = forcing_shapes([fit.peak_iou for fit in fits], config)
    firsts, start = [], 0
    for fit, force in zip(fits, forces, strict=True):
        # The first column and the first row at the peak, as an index of an anchor.
        x, y = (
            jax.lax.argmax(cells, 2, jnp.int32)
            for cells in peak_cells(fit, boxes, config.pixel_offset)
        )
        num_shapes = len(fit.level.cell)
        shape = jnp.arange(num_shapes, dtype=jnp.int32)[:, None]
        index = start + (y * fit.level.shape[1] + x) * num_shapes + shape
        firsts.append(jnp.where(force, index, num_anchors).min(axis=0))
        start += fit.level.size
    return jnp.stack(firsts).min(axis=0)


def only_first(ties: Ties, levels: Sequence[AnchorLevel], config: TargetConfig) -> Ties:
    """Which of the anchors that tie for a box it forces: all, or the first.

    Args:
        ties: for every level, the anchors `[a m h w]` with the best IoU of each box.
        levels: the levels.
        config: the rules.
    """
    if config.force_match != "first":
        return ties
    # The index of every anchor, in the layout of the ties.
    order, start = [], 0
    for level in levels:
        index = np.arange(start, start + level.size, dtype=np.int32)
        cells = index.reshape(*level.shape, len(level.cell))
        order.append(cells.transpose(2, 0, 1)[:, None])
        start += level.size
    # The lowest index of every box over all levels, and the anchor that has it.
    pairs = list(zip(ties, order, strict=True))
    firsts = [jnp.where(tie, index, start).min(axis=(0, 2, 3)) for tie, index in pairs]
    first = jnp.stack(firsts).min(axis=0)[None, :, None, None]
    return [tie & (index == first) for tie, index in pairs]


def _forced_at(index: Int[jax.Array, " m"], fits: list[LevelFit]) -> Forced:
    """The last box that forces each anchor, where a box forces one anchor or none."""
    rows = jnp.arange(index.shape[0], dtype=jnp.int32)
    grid = AnchorGrid(tuple(fit.level for fit in fits))
    forced_by = []
    for level, cells in zip(grid.levels, grid.locate(index), strict=True):
        num_shapes = len(level.cell)
        nothing = jnp.full((num_shapes, *level.shape), -1, jnp.int32)
        # An anchor of another level gets a shape out of bounds, so it is dropped.
        shape = jnp.where(cells.is_here, cells.shape, num_shapes)
        at_cells = nothing.at[shape, cells.y, cells.x]
        forced_by.append(at_cells.max(rows, mode="drop"))
    return forced_by
