"""Targets: the sample of the matched anchors, and what its positives regress to."""

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
from rpn_jax import AnchorConfig, TargetConfig, assign_targets, sample_targets
from rpn_jax.core.targets import unmatched_fraction

ANCHORS = AnchorConfig(
    sizes=(16, 32), strides=(8, 16), aspect_ratios=(0.5, 1.0), rounding="corners"
)
GRID = rpn_jax.make_anchors(ANCHORS, [(8, 10), (4, 5)])
BOXES = reference.make_anchors(ANCHORS, [(8, 10), (4, 5)])
SIZE = np.array([60, 75], np.float32)
ROWS = 6
RULES = {
    "paper": {"num_samples": 48},
    "few": {"num_samples": 5},
    "more_than_there_are": {"num_samples": 1000},
    "retarget": {"num_samples": 48, "retarget_forced": True},
    "legacy": {"num_samples": 48, "pixel_offset": 1.0, "allowed_border": 0},
    "weighted": {"num_samples": 48, "delta_weights": (10.0, 10.0, 5.0, 5.0)},
    "easy": {"num_samples": 48, "positive_iou": 0.4, "negative_iou": 0.4},
}
EITHER_FORM = pytest.mark.parametrize("form", ["grid", "boxes"])


def truth(seed):
    """Boxes, one of them twice, beside rows of padding that hold NaN."""
    rng = np.random.default_rng(seed)
    boxes = reference.random_boxes(rng, ROWS, 60)
    boxes[1] = boxes[0]
    valid = rng.random(ROWS) < 0.8
    boxes[~valid] = np.nan
    return boxes, valid


@functools.cache
def compiled(function, form, **settings):
    anchors, config = GRID if form == "grid" else BOXES, TargetConfig(**settings)

    def assign(key, gt_boxes, gt_valid):
        return function(key, anchors, gt_boxes, gt_valid, SIZE, config=config)

    return jax.jit(assign)


def assert_targets_match_oracle(targets, gt_boxes, gt_valid, config):
    labels, gt_index, _ = reference.match_anchors(
        BOXES, gt_boxes, gt_valid, SIZE, config=config
    )
    sampled = np.asarray(targets.labels)
    assert np.all((sampled == labels) | (sampled == -1))
    counts = int((sampled == 1).sum()), int((sampled == 0).sum())
    share = config.num_samples, config.positive_fraction
    assert counts == reference.sample_counts(labels, *share)
    expected = reference.target_deltas(sampled, gt_index, BOXES, gt_boxes, config)
    np.testing.assert_allclose(targets.deltas, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("form", "rule"),
    [("grid", "paper"), ("grid", "retarget"), *(("boxes", x) for x in RULES)],
)
def test_targets_match_oracle(form, rule):
    assign = compiled(assign_targets, form, **RULES[rule])
    for seed in range(5):
        targets = assign(jax.random.key(seed), *truth(seed))
        assert_targets_match_oracle(targets, *truth(seed), TargetConfig(**RULES[rule]))


def test_an_eager_call_matches_oracle():
    config = TargetConfig(num_samples=48)
    targets = assign_targets(jax.random.key(0), BOXES, *truth(0), config=config)
    assert_targets_match_oracle(targets, *truth(0), config)


@given(seed=st.integers(0, 2**16))
def test_a_grid_and_its_boxes_have_the_same_targets(seed):
    arguments = jax.random.key(seed), *truth(seed)
    grid, boxes = (
        compiled(assign_targets, form, num_samples=48)(*arguments)
        for form in ("grid", "boxes")
    )
    np.testing.assert_array_equal(grid.labels, boxes.labels)
    np.testing.assert_allclose(grid.deltas, boxes.deltas, rtol=1e-6, atol=1e-6)


def test_assigning_is_matching_then_sampling():
    key, (gt_boxes, gt_valid) = jax.random.key(1), truth(1)
    targets = compiled(assign_targets, "boxes", num_samples=48)(key, gt_boxes, gt_valid)

    @jax.jit
    def match_then_sample(key, gt_boxes, gt_valid):
        labels = rpn_jax.match_anchors(BOXES, gt_boxes, gt_valid).labels
        return rpn_jax.sample_anchors(key, labels, num_samples=48)

    sampled = match_then_sample(key, gt_boxes, gt_valid)
    np.testing.assert_array_equal(targets.labels, sampled)


@pytest.mark.parametrize(
    ("form", "rule"),
    [("grid", "paper"), ("boxes", "more_than_there_are"), ("boxes", "retarget")],
)
def test_the_short_form_holds_the_sampled_rows_alone(form, rule):
    arguments = jax.random.key(2), *truth(2)
    targets, (index, sampled, gt_index) = (
        jax.tree.map(np.asarray, compiled(x, form, **RULES[rule])(*arguments))
        for x in (assign_targets, sample_targets)
    )
    is_row = sampled.labels >= 0
    kept = index[is_row]
    assert sorted(kept) == np.flatnonzero(targets.labels >= 0).tolist()
    np.testing.assert_array_equal(sampled.labels[is_row], targets.labels[kept])
    np.testing.assert_array_equal(sampled.deltas[is_row], targets.deltas[kept])
    assert not sampled.deltas[~is_row].any()
    positive = sampled.labels == 1
    boxes = truth(2)[0][gt_index[positive]]
    deltas = reference.encode_boxes(boxes, BOXES[index[positive]])
    np.testing.assert_allclose(sampled.deltas[positive], deltas, rtol=1e-5, atol=1e-6)


@EITHER_FORM
def test_an_image_has_the_same_targets_alone_and_in_any_batch(form):
    assign = compiled(assign_targets, form, num_samples=48)
    keys = jax.random.split(jax.random.key(3), 4)
    truths = [truth(seed) for seed in range(4)]
    alone = [assign(key, *x) for key, x in zip(keys, truths, strict=True)]
    alone = jax.tree.map(lambda *xs: np.stack(xs), *alone)
    batch = jax.tree.map(lambda *xs: np.stack(xs), *truths)
    together = jax.jit(jax.vmap(assign))(keys, *batch)
    chex.assert_trees_all_equal(together, alone)


def test_changing_values_are_traced_once():
    @jax.jit
    @chex.assert_max_traces(n=1)
    def assign(key, gt_boxes, gt_valid, image_size):
        config = TargetConfig(allowed_border=0)
        return assign_targets(key, BOXES, gt_boxes, gt_valid, image_size, config=config)

    for seed in range(3):
        assign.trace(jax.random.key(seed), *truth(seed), SIZE - np.float32(seed))


def test_targets_pass_no_gradient():
    gt_boxes, gt_valid = truth(4)

    def sum_of_deltas(anchors, gt_boxes):
        key = jax.random.key(4)
        return assign_targets(key, anchors, gt_boxes, gt_valid).deltas.sum()

    gradients = jax.jit(jax.grad(sum_of_deltas, argnums=(0, 1)))(BOXES, gt_boxes)
    assert not any(np.any(gradient) for gradient in gradients)


def test_decoding_the_targets_gives_the_boxes():
    gt_boxes, gt_valid = truth(5)
    targets = compiled(assign_targets, "grid", num_samples=48)(
        jax.random.key(5), gt_boxes, gt_valid
    )
    positive = np.asarray(targets.labels) == 1
    decoded = jax.jit(rpn_jax.decode_boxes)(targets.deltas, BOXES)
    decoded = np.asarray(decoded)[positive]
    distance = np.abs(decoded[:, None] - gt_boxes[None, gt_valid])
    assert positive.any()
    np.testing.assert_allclose(distance.max(axis=2).min(axis=1), 0, atol=1e-3)


@pytest.mark.parametrize(
    "size", [SIZE, (60, 75), [60.0, 75.0]], ids=["array", "tuple", "list"]
)
def test_the_image_size_may_be_an_array_or_a_sequence(size):
    config = TargetConfig(allowed_border=0)
    assign = functools.partial(assign_targets, config=config)
    targets = jax.jit(assign)(jax.random.key(6), BOXES, *truth(6), size)
    assert_targets_match_oracle(targets, *truth(6), config)


def test_degenerate_rows_are_counted():
    boxes = np.array(
        [
            [0, 0, 4, 4],
            [0, 0, 0, 4],
            [5, 0, 4, 4],
            [0, 0, np.inf, 4],
            [np.nan] * 4,
            [1] * 4,
        ],
        np.float32,
    )
    valid = np.array([True, True, True, True, False, False])
    count = jax.jit(rpn_jax.count_degenerate)(boxes, valid)
    assert count.dtype == jnp.int32
    assert count == 3


compiled_fraction = jax.jit(unmatched_fraction)


@pytest.mark.parametrize(
    ("labels", "gt_index", "valid", "expected"),
    [
        ([1, 0, 1, -1], [0, 1, 0, 2], [True, True, True], 2 / 3),
        ([1, 1, 1, -1], [0, 1, 2, 2], [True, True, True], 0.0),
        ([1, 0, 0, 0], [2, 0, 0, 0], [True, False, True], 0.5),
        ([0, 0, 0, 0], [0, 0, 0, 0], [True, True, False], 1.0),
        ([0, 0, 0, 0], [0, 0, 0, 0], [False, False, False], 0.0),
    ],
)
def test_unmatched_boxes_are_those_without_a_positive(
    labels, gt_index, valid, expected
):
    labels, gt_index = (jnp.asarray(np.array(x, np.int32)) for x in (labels, gt_index))
    matches = rpn_jax.Matches(labels, gt_index, jnp.asarray(np.ones(4, np.float32)))
    boxes = np.array([[0, 0, 4, 4]] * 3, np.float32)
    share = compiled_fraction(matches, boxes, np.array(valid))
    np.testing.assert_allclose(share, expected, rtol=1e-6)


def test_a_degenerate_box_is_not_an_unmatched_one():
    boxes = np.array([[0, 0, 16, 16], [9, 9, 9, 9]], np.float32)
    valid = np.ones(2, bool)

    @jax.jit
    def fraction(boxes, valid):
        matches = rpn_jax.match_anchors(BOXES, boxes, valid)
        return unmatched_fraction(matches, boxes, valid)

    assert fraction(boxes, valid) == 0.0
