"""Samplers: which of the labelled anchors the losses see.

A sampler gives every anchor a priority, and the highest are sampled; ties go to the
lowest index. `TargetConfig.positive_sampler` and `negative_sampler` name one each:

* `"uniform"`: the priority is random, as in Sec. 3.1.3 of "Faster R-CNN" by Ren et al.
  (https://arxiv.org/abs/1506.01497).
* `"hardest"`: it is the objectness loss, as in "OHEM" by Shrivastava et al.
  (https://arxiv.org/abs/1604.03540). Cross entropy and focal loss both order the
  anchors of a label by their logit.
* `"instance_balanced"` positives: as many of each box, and random among them. The
  `InstanceBalancedPosSampler` of mmdetection decides the numbers.
* `"iou_balanced"` negatives: as many of each interval of IoU, from "Libra R-CNN" by
  Pang et al. (https://arxiv.org/abs/1904.02701), Sec. 3.1. The
  `IoUBalancedNegSampler` of mmdetection decides the numbers, except for the end of the
  last interval. Here it is the highest IoU of a negative; there it is that of a
  positive, so that most negatives share one interval.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ._arguments import lenient
from ._typing import Array, ArrayLike, Bool, Float, Int, PRNGKey
from .config import TargetConfig
from .keys import random_priorities, threefry_key
from .matching.association import Matches
from .platforms import by_platform
from .rule_configs import IouBalanceConfig

_DIGIT_BITS = 8
_BASE = 2**_DIGIT_BITS
_NOT_SET = np.finfo(np.float32).min  # finite, for `jax_debug_infs`; below any priority


class Sampled(NamedTuple):
    """The sampled anchors: positives first, then negatives, then empty rows.

    Attributes:
        anchor_index: `[k]` index of the anchor; 0 in an empty row.
        labels: `[k]` 1 or 0; -1 in an empty row.
    """

    anchor_index: Int[jax.Array, " k"]
    labels: Int[jax.Array, " k"]


class _Chosen(NamedTuple):
    """The anchors of one label that are sampled.

    Attributes:
        rows: `[k]` their indices, best first, and some others behind them.
        number: how many there are.
    """

    rows: Int[jax.Array, " k"]
    number: Int[jax.Array, ""]


@lenient
def sample_anchors(
    key: PRNGKey,
    labels: Int[ArrayLike, " n"],
    *,
    num_samples: int = 256,
    positive_fraction: float = 0.5,
) -> Int[jax.Array, " n"]:
    """Keeps a random subset of the labels and sets the others to -1.

    The sample is uniform without replacement. It has up to
    `num_samples * positive_fraction` positives; negatives fill it up to `num_samples`,
    as long as there are any. See Sec. 3.1.3 of "Faster R-CNN" by Ren et al.
    (https://arxiv.org/abs/1506.01497).

    Args:
        key: the random key. The same key gives the same sample, alone or under `vmap`,
            on any backend.
        labels: 1, 0 or -1 for every anchor.
        num_samples: number of labels to keep.
        positive_fraction: largest share of positives among them.

    Returns:
        The labels, with -1 for every anchor that was not sampled.

    >>> labels = sample_anchors(jax.random.key(0), [1, 0, 0, 0, 0, -1], num_samples=3)
    >>> labels.sum().item(), (labels == 0).sum().item()
    (-2, 2)
    """
    config = TargetConfig(num_samples=num_samples, positive_fraction=positive_fraction)
    unused = jnp.zeros(len(labels), jnp.int32)
    matches = Matches(jnp.asarray(labels), unused, unused.astype(jnp.float32))
    index, sampled = sample_matches(key, matches, num_boxes=1, config=config)
    # The index of an empty row is put out of bounds, so that it is dropped.
    row = jnp.where(sampled >= 0, index, len(labels))
    return jnp.full(len(labels), -1, jnp.int32).at[row].set(sampled, mode="drop")


def sample_matches(
    key: PRNGKey,
    matches: Matches,
    *,
    logits: Float[Array, " n"] | None = None,
    num_boxes: int,
    config: TargetConfig,
) -> Sampled:
    """Samples anchors of an image by the samplers that `config` names.

    Args:
        key: the random key. The same key gives the same sample, alone or under `vmap`,
            on any backend.
        matches: the labels, and what the balanced samplers balance.
        logits: predicted logits of being an object. `"hardest"` needs them; a NaN is
            the hardest of all.
        num_boxes: number of rows of ground truth, which `matches.gt_index` counts.
        config: the samplers, the number of samples and the share of positives.
    """
    matches = jax.lax.stop_gradient(matches)
    num_samples, num_anchors = config.num_samples, matches.labels.shape[0]
    key = threefry_key(key)
    draw = _Draw(random_priorities(key, num_anchors), key)
    max_positives = min(int(num_samples * config.positive_fraction), num_anchors)
    max_negatives = min(num_samples, num_anchors)
    # Negatives take the places that positives leave.
    positives = _positives(draw, matches, logits, max_positives, num_boxes, config)
    left = num_samples - positives.number
    negatives = _negatives(draw, matches, logits, left, max_negatives, config)
    # Both in one list: the negatives are written behind the sampled positives, over the
    # unused rows of these.
    index = jnp.zeros(max_positives + max_negatives, jnp.int32)
    index = index.at[:max_positives].set(positives.rows)
    index = jax.lax.dynamic_update_slice(index, negatives.rows, (positives.number,))
    index = index[:max_negatives]
    # The label of a row follows from its place in the list.
    rows = jnp.arange(max_negatives, dtype=jnp.int32)
    is_negative = rows < positives.number + jnp.minimum(negatives.number, left)
    sampled = jnp.where(rows < positives.number, 1, jnp.where(is_negative, 0, -1))
    sampled = sampled.astype(jnp.int32)
    return Sampled(jnp.where(sampled >= 0, index, 0), sampled)


class _Draw(NamedTuple):
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


def _positives(
    draw: _Draw,
    matches: Matches,
    logits: Float[Array, " n"] | None,
    size: int,
    num_boxes: int,
    config: TargetConfig,
) -> _Chosen:
    if config.positive_sampler == "instance_balanced":
        return _instance_balanced(draw, matches, size, num_boxes)
    is_positive = matches.labels == 1
    if config.positive_sampler == "hardest" and logits is not None:
        return _highest(_hardness(-jnp.asarray(logits)), is_positive, size)
    return _highest(draw.first, is_positive, size)


def _negatives(
    draw: _Draw,
    matches: Matches,
    logits: Float[Array, " n"] | None,
    left: Int[jax.Array, ""],
    size: int,
    config: TargetConfig,
) -> _Chosen:
    is_negative = matches.labels == 0
    if config.negative_sampler == "hardest" and logits is not None:
        return _highest(_hardness(jnp.asarray(logits)), is_negative, size)
    if config.negative_sampler == "iou_balanced":
        iou, rules = matches.max_iou, config.iou_balance
        return _iou_balanced(draw, is_negative, iou, left, size, rules)
    return _highest(draw.first, is_negative, size)


def _hardness(logits: Float[jax.Array, " n"]) -> Float[jax.Array, " n"]:
    """Finite numbers in the order of the logits, where NaN is the highest."""
    limit = np.nextafter(-_NOT_SET, np.float32(0.0))
    logits = jax.lax.stop_gradient(logits.astype(jnp.float32))
    return jnp.clip(jnp.where(jnp.isnan(logits), limit, logits), -limit, limit)


def _instance_balanced(
    draw: _Draw, matches: Matches, size: int, num_boxes: int
) -> _Chosen:
    """The same number of positives of each box, and others if there is room."""
    is_positive = matches.labels == 1
    # Those without a box get one more row.
    box = jnp.where(is_positive, matches.gt_index, num_boxes)
    counts = jnp.zeros(num_boxes + 1, jnp.int32).at[box].add(1)[:num_boxes]
    # The share of each box, which is one more than a fair one.
    fair_share = size / jnp.maximum(jnp.sum(counts > 0, dtype=jnp.int32), 1).astype(
        jnp.float32
    )
    share = jnp.round(fair_share).astype(jnp.int32) + 1
    is_early = by_platform(
        (box, draw.first, share),
        cpu=functools.partial(_first_by_digits, num_boxes=num_boxes),
        default=_first_by_sorting,
    )
    # The first `share` of each box go before all others. They and the others are in
    # random order again, so that no box is preferred. A bit of the priorities is given
    # up for that, since float32 has 24.
    priority = jnp.floor(draw.second() / 2) + jnp.where(is_early, 2.0**23, 0)
    return _highest(priority, is_positive, size)


def _first_by_sorting(
    drawn: tuple[Int[jax.Array, " n"], Float[jax.Array, " n"], Int[jax.Array, ""]],
) -> Bool[jax.Array, " n"]:
    """Which anchors are among the first `share` of their box.

    Args:
        drawn: the box of each anchor, its random priority, of which the lowest come
            first and equal ones by their index, and the share.
    """
    box, priority, share = drawn
    place = jnp.arange(len(box), dtype=jnp.int32)
    box, _, order = jax.lax.sort((box, priority, place), num_keys=2)
    is_first = jnp.concatenate([jnp.ones(1, bool), box[1:] != box[:-1]])[: len(box)]
    rank = place - jax.lax.cummax(jnp.where(is_first, place, 0))
    return jnp.zeros(len(box), bool).at[order].set(rank < share)


def _first_by_digits(
    drawn: tuple[Int[jax.Array, " n"], Float[jax.Array, " n"], Int[jax.Array, ""]],
    num_boxes: int,
) -> Bool[jax.Array, " n"]:
    """The same, without a sort, which takes ten times as long on a CPU.

    The key of an anchor is its priority, followed by its index. The highest key among
    the first `share` of each box is found digit by digit, from counts of the digits
    that follow those already known, as radix selection does.
    """
    box, priority, share = drawn
    priority = priority.astype(jnp.int32)
    place = jnp.arange(len(box), dtype=jnp.int32)
    num_digits = -(-max(len(box) - 1, 1).bit_length() // _DIGIT_BITS)
    keys = [(priority, shift) for shift in (16, 8, 0)]
    keys += [(place, shift * _DIGIT_BITS) for shift in reversed(range(num_digits))]
    left = jnp.full(num_boxes + 1, share)
    # Whether a key is below the highest of its box so far, or equal to it.
    is_below, is_equal = jnp.zeros(len(box), bool), jnp.ones(len(box), bool)
    for key, shift in keys:
        digit = (key >> shift) & (_BASE - 1)
        counts = jnp.zeros((num_boxes + 1, _BASE), jnp.int32)
        counts = counts.at[box, digit].add(is_equal.astype(jnp.int32))
        before = jnp.cumsum(counts, axis=1) - counts
        # The last digit with room before it; the keys of a small box are all below.
        limit = jnp.sum(before < left[:, None], axis=1, dtype=jnp.int32) - 1
        left = left - jnp.take_along_axis(before, limit[:, None], axis=1)[:, 0]
        is_below |= is_equal & (digit < limit[box])
        is_equal &= digit == limit[box]
    return is_below | is_equal


def _iou_balanced(
    draw: _Draw,
    is_negative: Bool[jax.Array, " n"],
    iou: Float[jax.Array, " n"],
    left: Int[jax.Array, ""],
    size: int,
    rules: IouBalanceConfig,
) -> _Chosen:
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
        index, available = _highest(priority, mask & ~taken, size)
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
    taken = take(taken, first, is_negative & ~is_high, missing(taken, left), size)
    taken = take(taken, second, is_negative, missing(taken, left), size)
    return _highest(first, taken, size)


def _highest(
    priority: Float[jax.Array, " n"], mask: Bool[jax.Array, " n"], size: int
) -> _Chosen:
    """The set rows of highest priority, best first, and the number of them."""
    chosen, index = jax.lax.top_k(jnp.where(mask, priority, _NOT_SET), size)
    return _Chosen(index, jnp.sum(chosen > _NOT_SET, dtype=jnp.int32))
