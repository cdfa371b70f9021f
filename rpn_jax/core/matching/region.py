"""The region rule: cells at the centre of a box are positive, on the level of its size.

"Region Proposal by Guided Anchoring" by Wang et al. (https://arxiv.org/abs/1901.03278),
Sec. 3.2, and "Cascade RPN" by Vu et al. (https://arxiv.org/abs/1909.06720), Sec. 3.3,
whose first stage uses it:

1. A box belongs to the level whose anchors are nearest to its size.
2. There, anchors with their centre in the middle `center_ratio` of the box are
   positive. Those around them, in the middle `ignore_ratio`, are ignored.
3. On the two adjacent levels, anchors in the middle `ignore_ratio` are ignored, also if
   another box makes them positive.
4. All other anchors are negative.

The `RegionAssigner` of mmdetection decides the details: regions have whole cells as
edges, rounded half to even, and the last box wins where regions overlap. All shapes of
a cell have the same label; both papers have one. mmdetection expects levels whose sizes
double. Here the border between two levels is the geometric mean of their sizes, which
is the same for such levels.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .._typing import Bool, Float, Int
from ..anchors import AnchorGrid, AnchorLevel
from ..boxes import area, is_proper
from ..config import TargetConfig
from .association import Association, Matches
from .axes import flatten_levels
from .centers import level_centers


class _Marks(NamedTuple):
    """What the boxes so far say about the anchors of a level.

    Attributes:
        last: `[a h w]` twice the row of the last box of this level in whose region the
            anchor lies, plus 1 if it is positive there; -1 if there is none.
        is_adjacent: `[a h w]` whether it lies in the region of a box of the level above
            or below.
    """

    last: Int[jax.Array, "a h w"]
    is_adjacent: Bool[jax.Array, "a h w"]


def match_regions(
    anchors: AnchorGrid,
    objects: Float[jax.Array, "m 4"],
    found: Association,
    config: TargetConfig,
) -> Matches:
    """Labels the anchors of an image by the region that they lie in.

    Args:
        anchors: the grid, from the finest level to the coarsest.
        objects: the objects.
        found: which anchors are kept, and their highest IoU.
        config: the rules.
    """
    levels = _levels_of(anchors, objects, config)
    marks = [
        _mark(level, objects, levels - i, config)
        for i, level in enumerate(anchors.levels)
    ]
    last = flatten_levels([mark.last for mark in marks])
    is_adjacent = flatten_levels([mark.is_adjacent for mark in marks])
    is_negative = (last < 0) & ~is_adjacent
    is_positive = (last >= 0) & (last % 2 == 1) & ~is_adjacent & found.is_kept
    labels = jnp.where(is_positive, 1, jnp.where(is_negative & found.is_kept, 0, -1))
    gt_index = jnp.where(is_positive, last // 2, 0)
    return Matches(labels.astype(jnp.int32), gt_index, found.iou)


def _levels_of(
    anchors: AnchorGrid, objects: Float[jax.Array, "m 4"], config: TargetConfig
) -> Int[jax.Array, " m"]:
    """The level of every box; one that is next to no level for a row of padding."""
    sizes, offset = [], config.pixel_offset
    for level in anchors.levels:
        areas = [
            (x1 - x0 + offset) * (y1 - y0 + offset) for x0, y0, x1, y1 in level.cell
        ]
        sizes.append(math.exp(sum(map(math.log, areas)) / len(areas) / 2))
    borders = [low * high for low, high in zip(sizes, sizes[1:], strict=False)]
    areas = area(objects, pixel_offset=offset)
    levels = sum(
        [(areas >= border).astype(jnp.int32) for border in borders],
        start=jnp.zeros(areas.shape, jnp.int32),
    )
    return jnp.where(is_proper(objects), levels, -2 * len(sizes))


def _mark(
    level: AnchorLevel,
    objects: Float[jax.Array, "m 4"],
    distances: Int[jax.Array, " m"],
    config: TargetConfig,
) -> _Marks:
    """Marks a level, one box at a time.

    Args:
        level: the level.
        objects: the objects.
        distances: number of levels between this level and that of each box.
        config: the rules.
    """
    x, y = level_centers(level, config.pixel_offset)

    def visit(marks, box):
        row, box, distance = box
        is_near = _cells(level, x, y, box, config.region.ignore_ratio, config)
        is_central = _cells(level, x, y, box, config.region.center_ratio, config)
        code = jnp.where(
            is_near & (distance == 0), 2 * row + is_central.astype(jnp.int32), -1
        )
        is_adjacent = is_near & (jnp.abs(distance) == 1)
        return _Marks(
            jnp.maximum(marks.last, code), marks.is_adjacent | is_adjacent
        ), None

    # Made from inputs: under `shard_map`, a scan's state has to vary like its results.
    zero = jnp.zeros_like(objects[0, 0])
    nowhere = jnp.full((len(level.cell), *level.shape), zero > 0.0)
    marks = _Marks(nowhere.astype(jnp.int32) - 1, nowhere)
    rows = jnp.arange(objects.shape[0], dtype=jnp.int32)
    return jax.lax.scan(visit, marks, (rows, objects, distances))[0]


def _cells(
    level: AnchorLevel,
    x: Float[jax.Array, "a w"],
    y: Float[jax.Array, "a h"],
    box: Float[jax.Array, "4"],
    ratio: float,
    config: TargetConfig,
) -> Bool[jax.Array, "a h w"]:
    """Which centres lie in the middle of a box, with edges rounded to whole cells."""

    def within(centers, axis):
        stride, cells = level.stride[axis], level.shape[axis]
        start = box[1 - axis] / stride
        end = (box[3 - axis] + config.pixel_offset) / stride
        share = (1.0 - ratio) / 2.0
        low = jnp.round((1.0 - share) * start + share * end)
        high = jnp.round(share * start + (1.0 - share) * end)
        low, high = (jnp.clip(edge, 0.0, cells) for edge in (low, high))
        return (centers / stride >= low) & (centers / stride <= high)

    return within(y, 0)[:, :, None] & within(x, 1)[:, None, :]
