"""Ignored regions on a grid: the anchors they drop, and what boxes force afterwards.

The box that an anchor overlaps most is the same with and without ignored regions. So a
grid is matched as if there were none, and this file corrects the result. Only a box
whose first forced anchor was dropped has to force others, among the anchors that are
still kept.

Few rows matter here: the regions, and those boxes. A CPU visits them one at a time;
accelerators compute all rows at once. (Plain boxes as anchors handle ignored regions in
`any_boxes.py`, in the same scan that finds their overlaps.)
"""

import functools
from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp

from .._typing import Bool, Float, Int
from ..boxes import area, is_proper
from ..config import TargetConfig
from .axes import (
    LevelFit,
    flatten_levels,
    grid_overlap,
    iou_from_areas,
    shared_length,
)
from .forced import Forced, first_forced, forcing_shapes, only_first

State = TypeVar("State")
Kept = list[Bool[jax.Array, "_ _ _"]]  # for every level, `[a h w]`


def keep_outside(
    is_kept: Kept,
    fits: list[LevelFit],
    ignored: Float[jax.Array, "m 4"],
    config: TargetConfig,
) -> Kept:
    """Which of the kept anchors no ignored region drops.

    Args:
        is_kept: for every level, the anchors that are kept so far.
        fits: the levels.
        ignored: ignored regions as finite boxes; inverted ones drop nothing.
        config: the rules. An anchor is dropped if its share in a region, or the
            region's share in it, exceeds `ignore_iof`.
    """
    largest = config.ignore_iof
    if largest is None:
        return is_kept

    def drop(is_kept, regions, rows, fits):
        del rows  # all regions do the same; those that are inverted drop nothing
        shares = [_share(fit, regions, config) for fit in fits]
        pairs = zip(is_kept, shares, strict=True)
        return [kept & (share <= largest).all(axis=1) for kept, share in pairs]

    return _for_rows(drop, is_kept, ignored, is_proper(ignored), fits)


def force_again(
    forced_by: Forced,
    fits: list[LevelFit],
    boxes: Float[jax.Array, "m 4"],
    is_kept: Kept,
    config: TargetConfig,
) -> Forced:
    """What boxes force if they may force kept anchors alone.

    Args:
        forced_by: for every level, the last box that forces each anchor (or -1) when
            every anchor may be forced.
        fits: the levels, and how well each box fits them.
        boxes: the objects.
        is_kept: for every level, the anchors that are kept.
        config: the rules.
    """
    if config.force_match == "none":
        return forced_by
    # A box that still has the first of its anchors keeps its best IoU, and with it the
    # other anchors that tie for it and are kept.
    pairs = zip(forced_by, is_kept, strict=True)
    still_forced = [jnp.where(kept, forced, -1) for forced, kept in pairs]
    # A box that lost the first of its anchors looks again. An index out of bounds means
    # that it forced nothing, and so lost nothing.
    first = first_forced(fits, boxes, config)
    has_lost = ~flatten_levels(is_kept).at[first].get(mode="fill", fill_value=True)
    force = functools.partial(_force_kept, config=config)
    return _for_rows(force, still_forced, boxes, has_lost, fits, is_kept)


def _force_kept(
    forced_by: Forced,
    boxes: Float[jax.Array, "m 4"],
    rows: Int[jax.Array, " m"],
    fits: list[LevelFit],
    is_kept: Kept,
    *,
    config: TargetConfig,
) -> Forced:
    """Lets boxes force kept anchors, beside what is forced already.

    Args:
        forced_by: what is forced already.
        boxes: the boxes.
        rows: the row of each box, or -1 for one that forces nothing here.
        fits: the levels.
        is_kept: the anchors that may be forced.
        config: the rules.
    """
    # The best IoU with each shape is no longer where row and column are best: that
    # anchor may be dropped. So the overlaps with all kept anchors are needed.
    overlaps = [
        jnp.where(kept[:, None], grid_overlap(fit.edges, boxes, config.pixel_offset), 0)
        for fit, kept in zip(fits, is_kept, strict=True)
    ]
    most = [overlap.max(axis=(2, 3)) for overlap in overlaps]
    areas = area(boxes, pixel_offset=config.pixel_offset)[None]
    shapes = zip(most, fits, strict=True)
    ious = [iou_from_areas(x, fit.edges.area[:, None], areas) for x, fit in shapes]
    # As arrays, so that the maximum and the values equal to it are the same bits.
    forces = forcing_shapes(jax.lax.optimization_barrier(ious), config)
    ties = [
        force[:, :, None, None] & (overlap == x[:, :, None, None])
        for force, overlap, x in zip(forces, overlaps, most, strict=True)
    ]
    ties = only_first(ties, [fit.level for fit in fits], config)
    # Of several boxes that force an anchor, the last one wins, as without regions.
    rows = rows[None, :, None, None]
    return [
        jnp.maximum(forced, jnp.where(tie, rows, -1).max(axis=1))
        for forced, tie in zip(forced_by, ties, strict=True)
    ]


def _share(
    fit: LevelFit, regions: Float[jax.Array, "m 4"], config: TargetConfig
) -> Float[jax.Array, "a m h w"]:
    """The share of each anchor in each region, or of each region in each anchor."""
    offset = config.pixel_offset
    if config.ignore_wrt_candidates:
        # The area of an anchor as its overlap with itself: 0 if it is not kept, since
        # its edges are inverted.
        left, right, top, bottom = fit.edges[:4]
        width = shared_length(left, right, left, right, offset)
        height = shared_length(top, bottom, top, bottom, offset)
        whole = (height[:, :, None] * width[:, None, :])[:, None]
    else:
        whole = area(regions, pixel_offset=offset)[None, :, None, None]
    overlap = grid_overlap(fit.edges, regions, offset)
    return overlap / jnp.where(whole > 0.0, whole, 1.0)


def _for_rows(
    visit: Callable[..., State],
    state: State,
    boxes: Float[jax.Array, "m 4"],
    is_set: Bool[jax.Array, " m"],
    *constants: object,
) -> State:
    """The state after `visit(state, boxes, rows, *constants)` of the rows that are set.

    A CPU calls `visit` with one such row at a time. Accelerators call it once with all
    boxes, and with a row of -1 where none is set.
    """

    def one_at_a_time(state, boxes, is_set, *constants):
        # The numbers of the set rows, first in an array of static length.
        rows = jnp.nonzero(is_set, size=is_set.shape[0], fill_value=0)[0]
        rows = rows.astype(jnp.int32)

        def step(i, state):
            row = rows[i]
            return visit(state, boxes[row][None], row[None], *constants)

        # Tied to inputs: under `shard_map`, a loop's state has to vary like its result.
        nothing = is_set.any() & False
        state = jax.tree.map(lambda x: x | nothing.astype(x.dtype), state)
        return jax.lax.fori_loop(0, is_set.sum(dtype=jnp.int32), step, state)

    def all_at_once(state, boxes, is_set, *constants):
        rows = jnp.where(is_set, jnp.arange(boxes.shape[0], dtype=jnp.int32), -1)
        return visit(state, boxes, rows, *constants)

    return jax.lax.platform_dependent(
        state,
        boxes,
        is_set,
        *constants,
        cpu=jax.custom_batching.sequential_vmap(one_at_a_time),
        default=all_at_once,
    )
