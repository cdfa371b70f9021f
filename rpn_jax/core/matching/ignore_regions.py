"""Regions to ignore on a grid: the anchors they drop, and the best of those that stay.

The box that an anchor overlaps most is the same with and without regions, so a grid is
matched as if there were none. Only a box that loses the first of its best anchors has
to look for others, among all that stay. The few rows that this takes, regions and such
boxes, are visited one at a time on a CPU; elsewhere all rows are, at once.
"""

import functools
from collections.abc import Callable, Sequence
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from .._typing import Bool, Float, Int
from ..anchors import AnchorGrid, AnchorLevel
from ..boxes import is_proper
from ..config import TargetConfig
from .axes import (
    Edges,
    box_areas,
    claiming_shapes,
    flatten_levels,
    iou_from_areas,
    shared_length,
    shared_sides,
)

State = TypeVar("State")
Kept = list[Bool[jax.Array, "_ _ _"]]
Claims = list[Int[jax.Array, "_ _ _"]]
Ties = list[Bool[jax.Array, "_ m _ _"]]


def keep_outside(
    is_kept: Kept,
    edges: list[Edges],
    regions: Float[jax.Array, "m 4"],
    max_share: float,
    config: TargetConfig,
) -> Kept:
    """Which of the kept anchors no region drops.

    Args:
        is_kept: `[a h w]` of every level.
        edges: of every level.
        regions: finite boxes; inverted ones drop nothing.
        max_share: how much of an anchor may lie in a region, or of a region in an
            anchor.
        config: the rules.
    """

    def keep(is_kept, regions, rows, edges):
        del rows
        shares = [_share(edge, regions, config) for edge in edges]
        pairs = zip(is_kept, shares, strict=True)
        return [kept & (share <= max_share).all(axis=1) for kept, share in pairs]

    return _for_rows(keep, is_kept, regions, is_proper(regions), edges)


def claim_kept(
    claimed_by: Claims,
    first: Int[jax.Array, " m"],
    anchors: AnchorGrid,
    edges: list[Edges],
    boxes: Float[jax.Array, "m 4"],
    is_kept: Kept,
    config: TargetConfig,
) -> Claims:
    """The last box that claims each anchor, or -1, if boxes claim those kept alone.

    Args:
        claimed_by: `[a h w]` of every level, the same if they claim any.
        first: the first anchor that each box claims then, out of bounds if none.
        anchors: the grid.
        edges: of every level.
        boxes: finite boxes.
        is_kept: `[a h w]` of every level.
        config: the rules.
    """
    if config.force_match == "none":
        return claimed_by
    pairs = zip(claimed_by, is_kept, strict=True)
    claimed_by = [jnp.where(kept, claimed, -1) for claimed, kept in pairs]
    # The others keep their best IoU, and with it the claims that are left.
    has_lost = ~flatten_levels(is_kept).at[first].get(mode="fill", fill_value=True)
    claim = functools.partial(_claim, levels=anchors.levels, config=config)
    return _for_rows(claim, claimed_by, boxes, has_lost, edges, is_kept)


def _for_rows(
    visit: Callable[..., State],
    state: State,
    boxes: Float[jax.Array, "m 4"],
    is_set: Bool[jax.Array, " m"],
    *constants: object,
) -> State:
    """The state after `visit(state, boxes, rows, *constants)` of the rows that are set.

    A CPU calls it for one such row at a time. Elsewhere it gets all boxes at once, with
    a row of -1 where none is set.
    """

    def one_at_a_time(state, boxes, is_set, *constants):
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


def _share(
    edges: Edges, regions: Float[jax.Array, "m 4"], config: TargetConfig
) -> Float[jax.Array, "a m h w"]:
    """The share of each anchor in each region, or of each region in each anchor."""
    offset = config.pixel_offset
    if config.ignore_wrt_candidates:
        left, right, top, bottom = edges[:4]
        width = shared_length(left, right, left, right, offset)
        height = shared_length(top, bottom, top, bottom, offset)
        whole = (height[:, :, None] * width[:, None, :])[:, None]
    else:
        whole = box_areas(regions, offset)[None, :, None, None]
    return _overlap(edges, regions, offset) / jnp.where(whole > 0.0, whole, 1.0)


def _claim(
    claimed_by: Claims,
    boxes: Float[jax.Array, "m 4"],
    rows: Int[jax.Array, " m"],
    edges: list[Edges],
    is_kept: Kept,
    *,
    levels: Sequence[AnchorLevel],
    config: TargetConfig,
) -> Claims:
    """Adds the claims of boxes to the anchors that are kept."""
    areas = box_areas(boxes, config.pixel_offset)[None]
    overlaps = [
        jnp.where(kept[:, None], _overlap(edge, boxes, config.pixel_offset), 0.0)
        for edge, kept in zip(edges, is_kept, strict=True)
    ]
    most = [overlap.max(axis=(2, 3)) for overlap in overlaps]
    shapes = zip(most, edges, strict=True)
    ious = [iou_from_areas(x, edge.area[:, None], areas) for x, edge in shapes]
    # As arrays, so that the maximum and those equal to it see the same bits.
    claims = claiming_shapes(jax.lax.optimization_barrier(ious), config)
    ties = [
        claim[:, :, None, None] & (overlap == x[:, :, None, None])
        for claim, overlap, x in zip(claims, overlaps, most, strict=True)
    ]
    if config.force_match == "first":
        ties = _first_of(ties, levels)
    rows = rows[None, :, None, None]
    return [
        jnp.maximum(claimed, jnp.where(tie, rows, -1).max(axis=1))
        for claimed, tie in zip(claimed_by, ties, strict=True)
    ]


def _first_of(ties: Ties, levels: Sequence[AnchorLevel]) -> Ties:
    """Of the anchors that tie, the first of every box."""
    order, start = [], 0
    for level in levels:
        index = np.arange(start, start + level.size, dtype=np.int32)
        cells = index.reshape(*level.shape, len(level.cell))
        order.append(cells.transpose(2, 0, 1)[:, None])
        start += level.size
    pairs = list(zip(ties, order, strict=True))
    firsts = [jnp.where(tie, index, start).min(axis=(0, 2, 3)) for tie, index in pairs]
    first = jnp.stack(firsts).min(axis=0)[None, :, None, None]
    return [tie & (index == first) for tie, index in pairs]


def _overlap(
    edges: Edges, boxes: Float[jax.Array, "m 4"], pixel_offset: float
) -> Float[jax.Array, "a m h w"]:
    x, y = shared_sides(edges, boxes, pixel_offset)
    return y[:, :, :, None] * x[:, :, None, :]
