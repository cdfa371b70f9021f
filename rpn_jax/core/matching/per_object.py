"""Counts of anchors for every object: what a rule of assignment gives it."""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .._typing import Array, Bool, Float, Int
from ..anchors import Anchors
from ..boxes import finite_boxes, is_proper
from .association import Matches
from .centers import anchor_centers, depth


class ObjectAnchors(NamedTuple):
    """The anchors of every object of an image, by level.

    Attributes:
        positives: `[m l]` number of positive anchors that regress to the object.
        ignored: `[m l]` number of ignored anchors whose centre lies in the object. One
            in two objects counts for both.
    """

    positives: Int[jax.Array, "m l"]
    ignored: Int[jax.Array, "m l"]


def count_per_object(
    matches: Matches,
    anchors: Anchors,
    gt_boxes: Float[Array, "m 4"],
    gt_valid: Bool[Array, " m"],
    *,
    level_sizes: tuple[int, ...],
    pixel_offset: float = 0.0,
) -> ObjectAnchors:
    """Counts the positive and the ignored anchors of every object of an image.

    No array of anchors times objects is stored.

    Args:
        matches: the result of `match_anchors` for the image, before sampling.
        anchors: a grid, or any boxes `[n 4]`.
        gt_boxes: boxes `(x0, y0, x1, y1)` in pixels.
        gt_valid: which rows are objects. The others have counts of 0, and so do
            degenerate boxes.
        level_sizes: number of anchors on each level, as in `AnchorGrid.level_sizes`.
        pixel_offset: added to `x1 - x0` to get the width.

    >>> anchors = jnp.array([[0.0, 0, 8, 8], [2, 2, 6, 6], [20, 20, 28, 28]])
    >>> matches = Matches(jnp.array([1, -1, 0]), jnp.zeros(3, int), jnp.ones(3))
    >>> boxes, valid = jnp.array([[0.0, 0, 8, 8]]), jnp.array([True])
    >>> found = count_per_object(matches, anchors, boxes, valid, level_sizes=(1, 2))
    >>> found.positives.tolist(), found.ignored.tolist()
    ([[1, 0]], [[0, 1]])
    """
    is_object = jnp.asarray(gt_valid) & is_proper(gt_boxes)
    number, levels = len(gt_boxes), len(level_sizes)
    level = jnp.repeat(
        jnp.arange(levels, dtype=jnp.int32),
        jnp.array(level_sizes, jnp.int32),
        total_repeat_length=sum(level_sizes),
    )
    # The row of an anchor that is not positive is put out of bounds, and dropped.
    row = jnp.where(matches.labels == 1, matches.gt_index, number)
    none = jnp.zeros((number, levels), jnp.int32)
    positives = none.at[row, level].add(1, mode="drop")
    is_ignored = matches.labels == -1
    x, y = anchor_centers(anchors, pixel_offset)

    starts = list(itertools.accumulate(level_sizes))[:-1]

    # One object at a time, so that only one row of all anchors is stored.
    def count(box):
        is_inside = is_ignored & (depth(x, y, box, pixel_offset) > 0.0)
        parts = jnp.split(is_inside, starts)
        return jnp.stack([jnp.sum(part, dtype=jnp.int32) for part in parts])

    ignored = jax.lax.map(count, finite_boxes(gt_boxes))
    shown = is_object[:, None]
    return ObjectAnchors(jnp.where(shown, positives, 0), jnp.where(shown, ignored, 0))
