"""The random sample: its size, its fairness, and that a key decides it alone."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import reference

import rpn_jax

MIXED = np.random.default_rng(0).choice([-1, 0, 1], 96, p=[0.3, 0.4, 0.3])
MIXED = MIXED.astype(np.int32)


def compiled(**settings):
    return jax.jit(functools.partial(rpn_jax.sample_anchors, **settings))


def counts(labels):
    labels = np.asarray(labels)
    return int((labels == 1).sum()), int((labels == 0).sum())


@pytest.mark.parametrize(
    "labels",
    [
        MIXED,
        np.zeros(96, np.int32),
        np.ones(96, np.int32),
        np.full(96, -1, np.int32),
        np.where(np.arange(96) == 7, 1, 0).astype(np.int32),
        np.where(np.arange(96) == 7, 0, 1).astype(np.int32),
        np.where(np.arange(96) < 20, MIXED, -1).astype(np.int32),
    ],
    ids=[
        "mixed",
        "negatives",
        "positives",
        "ignored",
        "one_positive",
        "one_negative",
        "few",
    ],
)
@pytest.mark.parametrize(
    ("num_samples", "positive_fraction"),
    [
        (16, 0.5),
        (32, 0.25),
        (7, 0.5),
        (1, 0.5),
        (1, 1.0),
        (16, 0.0),
        (16, 1.0),
        (256, 0.5),
    ],
)
def test_a_sample_holds_the_promised_numbers(labels, num_samples, positive_fraction):
    settings = {"num_samples": num_samples, "positive_fraction": positive_fraction}
    sampled = compiled_once(num_samples, positive_fraction)(jax.random.key(1), labels)
    assert sampled.dtype == jnp.int32
    assert counts(sampled) == reference.sample_counts(labels, **settings)
    kept = np.asarray(sampled) >= 0
    np.testing.assert_array_equal(sampled[kept], labels[kept])
    np.testing.assert_array_equal(sampled[~kept], -1)


@functools.cache
def compiled_once(num_samples, positive_fraction):
    return compiled(num_samples=num_samples, positive_fraction=positive_fraction)


@given(
    labels=st.lists(st.sampled_from([-1, 0, 1]), min_size=24, max_size=24),
    seed=st.integers(0, 2**31),
)
def test_any_sample_is_a_subset_of_the_promised_size(labels, seed):
    labels = np.array(labels, np.int32)
    sampled = np.asarray(compiled_once(10, 0.5)(jax.random.key(seed), labels))
    assert np.all((sampled == labels) | (sampled == -1))
    assert counts(sampled) == reference.sample_counts(labels, 10, 0.5)


def test_the_paper_samples_256_anchors_half_of_them_positive_by_default():
    labels = np.repeat(np.array([0, 1], np.int32), 400)
    sample = jax.jit(rpn_jax.sample_anchors)
    assert counts(sample(jax.random.key(0), labels)) == (128, 128)


def test_an_eager_call_equals_a_compiled_one():
    key = jax.random.key(2)
    eager = rpn_jax.sample_anchors(key, MIXED, num_samples=16)
    np.testing.assert_array_equal(eager, compiled(num_samples=16)(key, MIXED))


def test_the_same_key_gives_the_same_sample_and_others_differ():
    keys = jax.random.split(jax.random.key(3), 20)
    sample = compiled(num_samples=16)
    first = np.stack([sample(key, MIXED) for key in keys])
    again = np.stack([sample(key, MIXED) for key in keys])
    np.testing.assert_array_equal(first, again)
    assert len(np.unique(first, axis=0)) == len(keys)


@pytest.mark.parametrize("images", [3, 8])
def test_a_sample_does_not_depend_on_the_batch_that_it_is_drawn_in(images):
    keys = jax.random.split(jax.random.key(5), 8)
    labels = np.random.default_rng(5).permuted(np.tile(MIXED, (8, 1)), axis=1)
    pairs = zip(keys, labels, strict=True)
    alone = np.stack([compiled_once(16, 0.5)(*pair) for pair in pairs])
    together = jax.jit(jax.vmap(compiled_once(16, 0.5)))(keys[:images], labels[:images])
    np.testing.assert_array_equal(together, alone[:images])


def test_every_subset_is_equally_likely():
    """All pairs of 6 negatives beside 1 of 3 positives, by a chi-square test."""
    labels = np.array([0, 1, 0, 0, -1, 0, 1, 0, 0, 1], np.int32)
    draws = 4500
    keys = jax.random.split(jax.random.key(6), draws)
    sample = compiled(num_samples=3, positive_fraction=0.34)
    sampled = np.asarray(jax.vmap(sample, in_axes=(0, None))(keys, labels))
    outcomes, seen = np.unique(sampled, axis=0, return_counts=True)
    cells = 15 * 3
    assert len(outcomes) == cells
    chi_square = ((seen - draws / cells) ** 2 / (draws / cells)).sum()
    assert (
        chi_square < 78.7
    )  # exceeded by chance once in 1,000 at 44 degrees of freedom


@pytest.mark.parametrize("number", [100, 4097])
def test_every_anchor_of_many_is_equally_likely(number):
    draws, num_samples = 1000, 64
    keys = jax.random.split(jax.random.key(7), draws)
    sample = compiled(num_samples=num_samples)
    sampled = jax.vmap(sample, in_axes=(0, None))(keys, np.zeros(number, np.int32))
    seen = np.asarray(sampled == 0).sum(axis=0)
    share = num_samples / number
    expected, variance = draws * share, draws * share * (1 - share)
    chi_square = ((seen - expected) ** 2 / variance).sum() * (number - 1) / number
    # Normal approximation of chi-square, at 3.1 standard deviations to either side.
    assert abs(chi_square - (number - 1)) < 3.1 * np.sqrt(2 * (number - 1))


@pytest.mark.parametrize("lag", [1, 2, 16, 64])
def test_neighbours_are_sampled_independently(lag):
    draws, number, num_samples = 500, 1024, 128
    keys = jax.random.split(jax.random.key(8), draws)
    sample = compiled(num_samples=num_samples)
    sampled = jax.vmap(sample, in_axes=(0, None))(keys, np.zeros(number, np.int32))
    kept = np.asarray(sampled == 0)
    both = (kept[:, :-lag] & kept[:, lag:]).sum()
    share = num_samples / number * (num_samples - 1) / (number - 1)
    expected = share * draws * (number - lag)
    assert abs(both - expected) < 4 * np.sqrt(expected)


def test_changing_values_are_traced_once():
    sample = jax.jit(chex.assert_max_traces(rpn_jax.sample_anchors, n=1))
    for seed in range(3):
        sample(jax.random.key(seed), np.roll(MIXED, seed))
