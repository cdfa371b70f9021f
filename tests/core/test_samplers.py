"""Samplers other than the uniform one: what they promise, against loops."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import reference

from rpn_jax import TargetConfig
from rpn_jax.core import balanced_samplers
from rpn_jax.core.matching.match import Matches
from rpn_jax.core.rule_configs import IouBalanceConfig
from rpn_jax.core.samplers import sample_matches

NUMBER, SAMPLES, DRAWS = 120, 32, 400
POSITIVES, BOXES = 16, 4  # most positives in a sample; rows of ground truth
LIBRA = TargetConfig(
    num_samples=SAMPLES,
    positive_sampler="instance_balanced",
    negative_sampler="iou_balanced",
    iou_balance=IouBalanceConfig(floor_iou=0.1, floor_fraction=0.25, num_bins=3),
)
HARDEST = TargetConfig(
    num_samples=SAMPLES, positive_sampler="hardest", negative_sampler="hardest"
)


def make_matches(seed, shares=(0.2, 0.5, 0.3)):
    """Labels with a share of each, boxes of very different popularity, and IoUs."""
    rng = np.random.default_rng(seed)
    labels = rng.choice([-1, 0, 1], NUMBER, p=shares).astype(np.int32)
    rows = rng.choice(BOXES, NUMBER, p=[0.8, 0.1, 0.07, 0.03]).astype(np.int32)
    iou = (0.3 * rng.random(NUMBER) ** 3).astype(np.float32)
    matches: Any = Matches  # NumPy serves as well as JAX
    return matches(labels, rows, iou), rng.normal(size=NUMBER).astype(np.float32)


@functools.cache
def many(config):
    """Samples of one image, with `DRAWS` keys."""

    def draw(keys, matches, logits):
        sample = functools.partial(sample_matches, num_boxes=BOXES, config=config)
        return jax.vmap(lambda key: sample(key, matches, logits=logits))(keys)

    return jax.jit(draw)


def sample(config, matches, logits, seed=0):
    """The sampled positives and the sampled negatives of every draw."""
    keys = jax.random.split(jax.random.key(seed), DRAWS)
    index, labels = map(np.asarray, many(config)(keys, matches, logits))
    out = []
    for rows, kinds in zip(index, labels, strict=True):
        assert (np.diff(kinds) <= 0).all()  # positives first, empty rows last
        chosen = [rows[kinds == label] for label in (1, 0)]
        for label, anchors in zip((1, 0), chosen, strict=True):
            assert len(set(anchors)) == len(anchors)
            assert (matches.labels[anchors] == label).all()
        counts = reference.sample_counts(matches.labels, SAMPLES, 0.5)
        assert tuple(map(len, chosen)) == counts
        out.append(chosen)
    return out


SHARES = {
    "usual": (0.2, 0.5, 0.3),
    "few_positives": (0.2, 0.75, 0.05),
    "few_negatives": (0.4, 0.1, 0.5),
    "nothing": (1.0, 0.0, 0.0),
}


@pytest.mark.parametrize("shares", SHARES)
@pytest.mark.parametrize("config", [LIBRA, HARDEST], ids=["libra", "hardest"])
def test_every_sampler_fills_the_sample_as_the_uniform_one_does(config, shares):
    sample(config, *make_matches(1, SHARES[shares]))


def test_the_hardest_are_those_of_highest_loss():
    matches, logits = make_matches(2)
    loss = np.logaddexp(0, np.where(matches.labels == 1, -1, 1) * logits.astype(float))
    for label in (0, 1):  # NaN is the hardest of all
        last = np.flatnonzero(matches.labels == label)[-1]
        logits[last], loss[last] = np.nan, np.inf
    for label, chosen in zip((1, 0), sample(HARDEST, matches, logits)[0], strict=True):
        rows = np.flatnonzero(matches.labels == label)
        hardest = rows[np.argsort(-loss[rows])][: len(chosen)]
        np.testing.assert_array_equal(chosen, hardest)


@pytest.mark.parametrize("available", [(20, 8, 3, 2), (20, 9, 8, 7), (29, 4, 2, 1)])
def test_boxes_share_positives_equally_and_the_rest_is_uniform(available):
    """Loops of `InstanceBalancedPosSampler`: shares first, then whatever fits."""
    matches, logits = make_matches(3)
    rng, available = np.random.default_rng(4), np.array(available)
    anchors = rng.permutation(NUMBER)[: available.sum()]
    matches.labels[:] = rng.choice([-1, 0], NUMBER)
    matches.labels[anchors] = 1
    matches.gt_index[anchors] = np.repeat(np.arange(BOXES), available)
    share = round(POSITIVES / int((available > 0).sum())) + 1
    first = np.minimum(available, share)
    counts = np.array(
        [
            np.bincount(matches.gt_index[positives], minlength=BOXES)
            for positives, _ in sample(LIBRA, matches, logits)
        ]
    )
    assert first.sum() != POSITIVES
    if first.sum() > POSITIVES:  # a random part of the shares
        assert (counts <= first).all()
        expected = POSITIVES * first / first.sum()
    else:  # the shares, and a random part of the others
        assert (counts >= first).all()
        others = available - first
        expected = first + (POSITIVES - first.sum()) * others / others.sum()
    np.testing.assert_allclose(counts.mean(axis=0), expected, atol=0.3)


@pytest.mark.parametrize("number", [1, 256, 5000])
@pytest.mark.parametrize("top", [3, 5000, 2**24])
@pytest.mark.parametrize("size", [1, 20, 2000])
def test_both_forms_find_the_first_of_each_box(number, top, size):
    rng = np.random.default_rng(number + size)
    box = rng.choice(7, number, p=[0.6, 0.2, 0.1, 0.05, 0.03, 0.02, 0]).astype(np.int32)
    priority = rng.integers(0, top, number).astype(np.float32)  # many are equal
    share = round(size / max(len(set(box) - {5}), 1)) + 1
    expected = np.zeros(number, bool)
    for row in range(5):  # 5 stands for no box
        ascending = sorted(priority[box == row])
        if ascending:
            last = ascending[min(share, len(ascending)) - 1]
            expected |= (box == row) & (priority <= last)
    drawn = (jnp.asarray(box), jnp.asarray(priority))
    for form in (
        balanced_samplers._first_by_sorting,
        balanced_samplers._first_by_digits,
    ):
        find = jax.jit(functools.partial(form, num_boxes=5, size=size))
        np.testing.assert_array_equal(find(drawn), expected)


def test_intervals_share_negatives_equally():
    """Loops of `IoUBalancedNegSampler`, with intervals up to the highest negative."""
    matches, logits = make_matches(8)
    rules, is_negative = LIBRA.iou_balance, matches.labels == 0
    top = matches.max_iou[is_negative].max()
    width = (top - rules.floor_iou) / rules.num_bins
    # Interval -1 is below the floor, and the last one includes its end.
    place = np.floor((matches.max_iou - rules.floor_iou) / width)
    place = np.clip(place, -1, rules.num_bins - 1).astype(int)
    available = np.bincount(place[is_negative] + 1, minlength=4)
    seen, share = [], 0
    for positives, negatives in sample(LIBRA, matches, logits):
        num_high = int((SAMPLES - len(positives)) * (1 - rules.floor_fraction))
        counts = np.bincount(place[negatives] + 1, minlength=4)
        share = num_high // rules.num_bins
        assert (counts[1:] >= np.minimum(available[1:], share)).all()
        assert counts[1:].sum() == min(num_high, available[1:].sum())
        seen.append(negatives)
    # Some interval has too few for its share, and every negative has its chance.
    assert (available[1:] < share).any()
    assert set(np.concatenate(seen)) == set(np.flatnonzero(is_negative))


def test_a_sample_depends_on_its_key_alone():
    matches, logits = make_matches(5)
    keys = jax.random.split(jax.random.key(9), DRAWS)
    together = jax.tree.map(np.asarray, many(LIBRA)(keys, matches, logits))
    alone = jax.jit(functools.partial(sample_matches, num_boxes=BOXES, config=LIBRA))
    for i in (0, 7):
        found = alone(keys[i], matches, logits=logits)
        np.testing.assert_array_equal(found.anchor_index, together.anchor_index[i])
        np.testing.assert_array_equal(found.labels, together.labels[i])
    assert len(np.unique(together.anchor_index, axis=0)) == DRAWS
