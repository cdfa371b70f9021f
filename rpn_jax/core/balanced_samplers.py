"""Balanced samples: equally many positives of each box, or negatives of each IoU.

`samplers.py` says where these samplers come from.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ._typing import Bool, Float, Int, PRNGKey
from .keys import random_priorities
from .matching.association import Matches
from .platforms import by_platform
from .rule_configs import IouBalanceConfig

_DIGIT_BITS = 8  # three digits of a priority
_BASE = 2**_DIGIT_BITS
NOT_SET = np.finfo(np.float32).min  # finite, for `jax_debug_infs`; below any priority


class Chosen(NamedTuple):
    """The anchors of one label that are sampled.

    Attributes:
        rows: `[k]` their indices, best first, and some others behind them.
        number: how many there are.
    """

    rows: Int[jax.Array, " k"]
    number: Int[jax.Array, ""]


class Draw(NamedTuple):
    """Random priorities of all anchors.

    Attributes:
        first: `[n]` what uniform samples are drawn by.
        key: a key of threefry, for a second draw.
    """

    first: Float[jax.Array, " n"]
    key: PRNGKey

    def second(self) -> Float[jax.Array, " n"]:
        """Priorities that do not depend on the first ones."""
        return random_priorities(jax.random.fold_in(self.key, 1), len(self.first))


def instance_balanced(
    draw: Draw, matches: Matches, size: int, num_boxes: int
) -> Chosen:
    """The same number of positives of each box, and others if there is room.

    Args:
        draw: the randomness.
        matches: the labels, and the box of each positive.
        size: largest number of positives.
        num_boxes: number of rows of ground truth.
    """
    is_positive = matches.labels == 1
    box = jnp.where(is_positive, matches.gt_index, num_boxes)
    options = {"num_boxes": num_boxes, "size": size}
    is_early = by_platform(
        (box, draw.first),
        cpu=functools.partial(_first_by_digits, **options),
        default=functools.partial(_first_by_sorting, **options),
    )
    # The first of each box go before all others. They and the others are in random
    # order again, so that no box is preferred. A bit of the priorities is given up for
    # that, since float32 has 24.
    priority = jnp.floor(draw.second() / 2) + jnp.where(is_early, 2.0**23, 0)
    return highest(priority, is_positive, size)


def _share(num_boxes: Int[jax.Array, ""], size: int) -> Int[jax.Array, ""]:
    """The share of each box that has anchors, which is one more than a fair one."""
    fair = size / jnp.maximum(num_boxes, 1).astype(jnp.float32)
    return jnp.round(fair).astype(jnp.int32) + 1


def _first_by_sorting(
    drawn: tuple[Int[jax.Array, " n"], Float[jax.Array, " n"]],
    num_boxes: int,
    size: int,
) -> Bool[jax.Array, " n"]:
    """Which anchors are the first of their box, as many as its share of a sample.

    Args:
        drawn: the box of each anchor, `num_boxes` for none, and its random priority.
            The lowest priorities come first. All that equal the last of a share are in
            it.
        num_boxes: number of boxes.
        size: size of the sample.
    """
    box, priority = drawn
    place = jnp.arange(len(box), dtype=jnp.int32)
    in_order, ascending, order = jax.lax.sort((box, priority, place), num_keys=2)
    is_new_box = jnp.concatenate([jnp.ones(1, bool), in_order[1:] != in_order[:-1]])[
        : len(box)
    ]
    is_new = jnp.concatenate([jnp.ones(1, bool), ascending[1:] != ascending[:-1]])[
        : len(box)
    ]
    # An anchor has the rank of the first one with an equal priority.
    first = jax.lax.cummax(jnp.where(is_new_box, place, 0))
    rank = jax.lax.cummax(jnp.where(is_new_box | is_new, place, 0)) - first
    is_box = in_order < num_boxes
    share = _share(jnp.sum(is_new_box & is_box, dtype=jnp.int32), size)
    return jnp.zeros(len(box), bool).at[order].set(is_box & (rank < share))


def _first_by_digits(
    drawn: tuple[Int[jax.Array, " n"], Float[jax.Array, " n"]],
    num_boxes: int,
    size: int,
) -> Bool[jax.Array, " n"]:
    """The same, without a sort, which takes ten times as long on a CPU.

    The highest priority in the share of each box is found digit by digit, from counts
    of the digits that follow those already known, as radix selection does.
    """
    box, priority = drawn
    priority = priority.astype(jnp.int32)
    # Whether a priority is below the highest of its box so far, or equal to it.
    is_below, is_equal = jnp.zeros(len(box), bool), box < num_boxes
    left = None
    for shift in (2 * _DIGIT_BITS, _DIGIT_BITS, 0):
        digit = (priority >> shift) & (_BASE - 1)
        counts = jnp.zeros((num_boxes, _BASE), jnp.int32)
        row = jnp.where(is_equal, box, num_boxes)
        counts = counts.at[row, digit].add(1, mode="drop")
        before = jnp.cumsum(counts, axis=1) - counts
        if left is None:
            num_filled = jnp.sum(counts.any(axis=1), dtype=jnp.int32)
            left = jnp.broadcast_to(_share(num_filled, size), num_boxes)
        # The last digit with room before it; the priorities of a small box are all
        # below.
        limit = jnp.sum(before < left[:, None], axis=1, dtype=jnp.int32) - 1
        left = left - jnp.take_along_axis(before, limit[:, None], axis=1)[:, 0]
        limit = limit.at[box].get(mode="fill", fill_value=0)
        is_below |= is_equal & (digit < limit)
        is_equal &= digit == limit
    return is_below | is_equal


def iou_balanced(
    draw: Draw,
    is_negative: Bool[jax.Array, " n"],
    iou: Float[jax.Array, " n"],
    left: Int[jax.Array, ""],
    size: int,
    rules: IouBalanceConfig,
) -> Chosen:
    """The same number of negatives of each interval of IoU, and others to fill up.

    Args:
        draw: the randomness.
        is_negative: which anchors are negative.
        iou: their highest IoU with any box.
        left: number of negatives to sample.
        size: largest number of them.
        rules: the intervals.
    """
    first, second, number = draw.first, draw.second(), len(draw.first)
    is_high = is_negative & (iou >= rules.floor_iou)
    num_high = left.astype(jnp.float32) * (1.0 - rules.floor_fraction)
    num_high = num_high.astype(jnp.int32)
    # Which interval each negative lies in.
    span = jnp.maximum(jnp.where(is_high, iou, 0.0).max() - rules.floor_iou, 1e-6)
    interval = jnp.floor((iou - rules.floor_iou) / span * rules.num_bins)
    interval = jnp.clip(interval, 0, rules.num_bins - 1)

    def take(taken, priority, mask, count, size):
        index, available = highest(priority, mask & ~taken, size)
        is_taken = jnp.arange(size, dtype=jnp.int32) < jnp.minimum(available, count)
        return taken.at[jnp.where(is_taken, index, number)].set(True, mode="drop")

    def missing(taken, total):
        return total - jnp.sum(taken, dtype=jnp.int32)

    # An equal share of each interval; then others above the floor, if some interval has
    # too few; then those below it; then whatever is left.
    taken = jnp.zeros_like(is_negative)
    for i in range(rules.num_bins):
        share = num_high // rules.num_bins
        most = max(1, size // rules.num_bins)
        taken = take(taken, first, is_high & (interval == i), share, most)
    taken = take(taken, second, is_high, missing(taken, num_high), size)
    if rules.floor_iou > 0.0 or rules.floor_fraction > 0.0:
        taken = take(taken, first, is_negative & ~is_high, missing(taken, left), size)
        taken = take(taken, second, is_negative, missing(taken, left), size)
    return highest(first, taken, size)


def highest(
    priority: Float[jax.Array, " n"], mask: Bool[jax.Array, " n"], size: int
) -> Chosen:
    """The set rows of highest priority, best first, and the number of them.

    Args:
        priority: finite numbers above `NOT_SET`.
        mask: the rows to choose from.
        size: largest number of rows.
    """
    chosen, index = jax.lax.top_k(jnp.where(mask, priority, NOT_SET), size)
    return Chosen(index, jnp.sum(chosen > NOT_SET, dtype=jnp.int32))
