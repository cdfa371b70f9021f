"""Objectness as quality: its targets, its losses, and what they leave alone."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import assigners, quality_reference, reference

from rpn_jax import LossConfig, RPNOutput, Targets, encode_boxes, rpn_loss
from rpn_jax.core.loss_terms import masked_losses
from rpn_jax.core.matching.centerness import centerness as assigned_centerness
from rpn_jax.core.quality import centerness, predicted_iou, quality_targets
from rpn_jax.core.quality_losses import quality_focal_loss, varifocal_loss

N, SAMPLES = 24, 12
LABEL = LossConfig()
CONFIGS = {
    "iou": LossConfig(objectness="iou"),
    "centerness": LossConfig(objectness="centerness"),
    "oln_iou": LossConfig(objectness="oln_iou"),
    "oln_centerness": LossConfig(objectness="oln_centerness"),
    "varifocal": LossConfig(objectness="iou", quality_loss="varifocal"),
    "varifocal_centerness": LossConfig(
        objectness="centerness",
        quality_loss="varifocal",
        varifocal_alpha=0.5,
        quality_beta=0.0,
    ),
    "cross_entropy": LossConfig(objectness="iou", quality_beta=0.0),
    "exponent_1": LossConfig(objectness="centerness", quality_beta=1.0),
    "smooth": LossConfig(
        objectness="oln_iou", oln_beta=0.25, quality_normalizer="batch_clamped"
    ),
    "weighted": LossConfig(
        objectness="iou", objectness_weight=3.0, delta_weights=(10, 10, 5, 5)
    ),
    "weighted_centerness": LossConfig(
        objectness="oln_centerness", delta_weights=(10, 10, 5, 5)
    ),
    "few_samples": LossConfig(
        objectness="iou", num_samples=SAMPLES, quality_normalizer="fixed"
    ),
}
EVERY_CASE = pytest.mark.parametrize(
    ("name", "num_logits"),
    [*((name, 1) for name in CONFIGS), ("iou", 2), ("oln_centerness", 2)],
)
EVERY_KIND = pytest.mark.parametrize("name", list(CONFIGS)[:5])


def batch(name="iou", num_logits=1, seed=0):
    """Predictions, targets, anchors; image 1 has no positive and image 2 no sample."""
    rng = np.random.default_rng(seed)
    labels = rng.choice([-1, 0, 1], (3, N)).astype(np.int32)
    labels[1] = np.minimum(labels[1], 0)
    labels[2] = -1
    assert (labels >= 0).sum(1).max() > SAMPLES
    deltas, target = rng.normal(0, 0.4, (2, 3, N, 4)) * CONFIGS[name].delta_weights
    target[labels != 1] = 0
    shape = (3, N) if num_logits == 1 else (3, N, 2)
    logits, deltas, target = (
        x.astype(np.float32) for x in (rng.normal(0, 2, shape), deltas, target)
    )
    targets = Targets(labels, target)
    return RPNOutput(logits, deltas), targets, reference.random_boxes(rng, N, 32)


@functools.partial(jax.jit, static_argnames="config")
def losses_and_gradient(output, targets, *, config):
    def total(output):
        losses = rpn_loss(output, targets, config=config)
        return losses.total, losses

    gradient, losses = jax.grad(total, has_aux=True)(output)
    return losses, gradient


def test_the_batch_has_centres_outside_their_box():
    output, targets, anchors = batch()
    config = CONFIGS["centerness"]
    quality = quality_reference.qualities(output, targets, anchors, config)
    quality = quality[targets.labels == 1]
    assert (quality == 0).any()
    assert (quality > 0).sum() > 3


@EVERY_CASE
def test_losses_and_gradients_match_oracle(name, num_logits):
    """The derivative of the oracle is its finite difference in float64."""
    config = CONFIGS[name]
    output, targets, anchors = batch(name, num_logits)
    losses, gradient = losses_and_gradient(output, targets, config=config)
    logits = output.logits.astype(float)
    if num_logits == 2:
        logits = logits[..., 1] - logits[..., 0]
    quality = quality_reference.qualities(output, targets, anchors, config)
    terms = functools.partial(
        quality_reference.objectness_terms,
        quality=quality,
        labels=targets.labels,
        config=config,
    )
    np.testing.assert_allclose(losses.objectness, terms(logits).sum(), rtol=1e-5)
    slope = (terms(logits + 1e-5) - terms(logits - 1e-5)) / 2e-5
    found = np.asarray(gradient.logits)
    if num_logits == 2:
        np.testing.assert_array_equal(found[..., 0], -found[..., 1])
        found = found[..., 1]
    np.testing.assert_allclose(found, slope, rtol=1e-3, atol=1e-6)


@EVERY_KIND
def test_the_box_loss_and_the_gradient_of_deltas_are_those_of_labels(name):
    output, targets, _ = batch()
    losses, gradient = losses_and_gradient(output, targets, config=CONFIGS[name])
    expected = losses_and_gradient(output, targets, config=LABEL)
    np.testing.assert_array_equal(losses.box, expected[0].box)
    np.testing.assert_array_equal(gradient.deltas, expected[1].deltas)


@EVERY_KIND
def test_predictions_and_targets_that_are_not_needed_may_hold_anything(name):
    output, targets, _ = batch()
    expected = losses_and_gradient(output, targets, config=CONFIGS[name])
    output.logits[targets.labels < 0] = np.nan
    output.deltas[targets.labels != 1] = np.nan
    targets.deltas[targets.labels != 1] = np.nan
    found = losses_and_gradient(output, targets, config=CONFIGS[name])
    chex.assert_tree_all_finite(found)
    chex.assert_trees_all_equal(found, expected)


@EVERY_KIND
@pytest.mark.parametrize("label", [-1, 0])
def test_a_batch_without_a_positive_has_finite_losses(name, label):
    output, targets, _ = batch()
    targets = Targets(np.full_like(targets.labels, label), targets.deltas * 0)
    found = losses_and_gradient(output, targets, config=CONFIGS[name])
    chex.assert_tree_all_finite(found)
    nothing_counts = label == -1 or name.startswith("oln")
    assert (found[0].objectness == 0.0) == nothing_counts
    assert found[1].logits.any() != nothing_counts


@EVERY_KIND
@pytest.mark.parametrize("size", [60.0, 1e4])
def test_large_predictions_and_targets_have_finite_losses(name, size):
    output, targets, _ = batch()
    output, deltas = jax.tree.map(
        lambda x: np.float32(size) * np.sign(x), (output, targets.deltas)
    )
    targets = targets._replace(deltas=np.clip(deltas, -100, 100))
    chex.assert_tree_all_finite(
        losses_and_gradient(output, targets, config=CONFIGS[name])
    )


def test_few_sampled_rows_have_the_losses_of_all_rows():
    """Sampled rows are gathered on a CPU; in `masked_losses` all rows are summed."""
    config = CONFIGS["few_samples"]
    output, targets, _ = batch()
    for image in targets.labels:
        image[np.flatnonzero(image >= 0)[SAMPLES - 4 :]] = -1

    @jax.jit
    def both(output):
        sampled = jax.value_and_grad(lambda x: rpn_loss(x, targets, config=config)[0])
        everywhere = jax.value_and_grad(
            lambda x: masked_losses(x, targets, None, config)[0]
        )
        return sampled(output), everywhere(output)

    found, expected = both(output)
    assert np.asarray(found[1].logits).any()
    chex.assert_trees_all_close(found, expected, rtol=1e-5)


def test_vmap_equals_the_batch():
    config = LossConfig(objectness="iou", quality_normalizer="image")
    output, targets, _ = batch()
    loss = functools.partial(rpn_loss, config=config)

    @jax.jit
    def both(output, targets):
        return loss(output, targets), jax.vmap(loss)(output, targets)

    whole, of_each = both(output, targets)
    np.testing.assert_allclose(of_each.objectness.mean(), whole.objectness, rtol=1e-5)


@pytest.mark.parametrize("pixel_offset", [0.0, 1.0])
def test_qualities_are_those_of_the_encoded_boxes(pixel_offset):
    rng = np.random.default_rng(0)
    anchors, objects = (reference.random_boxes(rng, N, 32) for _ in range(2))
    boxes = np.where(np.arange(N)[:, None] % 3 == 0, objects, anchors)
    predicted, truth = (
        reference.encode_boxes(x, anchors, pixel_offset=pixel_offset)
        for x in (boxes, objects)
    )
    found = jax.jit(predicted_iou)(np.float32(predicted), np.float32(truth))
    expected = reference.pairwise_iou(boxes, objects, pixel_offset).diagonal()
    np.testing.assert_allclose(found, expected, atol=2e-6)
    np.testing.assert_array_equal(found[::3], 1.0)
    # In the legacy convention, a box ends where its last pixel ends.
    ends = np.array([0, 0, pixel_offset, pixel_offset])
    pairs = zip(anchors + ends, objects + ends, strict=True)
    expected = [assigners.centerness(*pair) for pair in pairs]
    found = jax.jit(centerness)(np.float32(truth))
    np.testing.assert_allclose(found, expected, atol=2e-6)
    assert (found == 0).any()


def test_rows_that_are_not_positive_are_not_computed_with():
    output, targets, _ = batch()
    output.deltas[targets.labels != 1] = np.nan
    targets.deltas[targets.labels != 1] = np.nan
    with jax.debug_nans(True):
        quality = quality_targets(output.deltas, targets, CONFIGS["centerness"])
    np.testing.assert_array_equal(quality[targets.labels != 1], 0)


# The formulas of mmdetection 3.3 and of OLN's `oln_rpn_head.py`, run with torch 2.13 in
# float64 on these inputs.
LOGITS = np.array([-2.0, 0.5, 1.5, -0.25, 3.0, -1.0], np.float32)
QUALITY = np.array([0.0, 0.0, 0.8125, 0.3125, 0.9375, 0.625], np.float32)
KNOWN = {
    "quality_focal_loss": (
        functools.partial(quality_focal_loss, beta=2.0),
        [0.001803563, 0.377411601, 1.2429e-05, 0.010272722, 5.3646e-05, 0.118950669],
        [0.00487094, 0.526151822, 0.000730729, 0.042319373, 0.000324976, -0.176506996],
    ),
    "varifocal_loss": (
        functools.partial(varifocal_loss, alpha=0.75, gamma=2.0),
        [0.001352672, 0.283058701, 0.392163913, 0.204395131, 0.221331892, 0.586413555],
        [0.003653205, 0.394613866, 0.004123012, 0.039163593, 0.014131994, -0.222536612],
    ),
}


@pytest.mark.parametrize("name", KNOWN)
def test_losses_and_gradients_are_those_of_mmdetection(name):
    loss, values, slopes = KNOWN[name]
    found, pullback = jax.vjp(lambda logits: loss(logits, QUALITY), LOGITS)
    np.testing.assert_allclose(found, values, rtol=1e-4)
    gradient = pullback(np.ones_like(LOGITS))[0]
    np.testing.assert_allclose(gradient, slopes, rtol=1e-4)


@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_centerness_of_deltas_is_that_of_the_rule_that_assigns_by_it(offset):
    rng = np.random.default_rng(3)
    start = rng.uniform(0, 25, (2, 64, 2))
    boxes = np.concatenate([start, start + rng.uniform(10, 60, (2, 64, 2))], axis=2)
    anchors, objects = jnp.asarray(boxes, jnp.float32)
    weights = (10.0, 10.0, 5.0, 5.0)
    deltas = encode_boxes(objects, anchors, weights=weights, pixel_offset=offset)
    by_rule = assigned_centerness(anchors, objects, jnp.arange(64), offset)
    found = centerness(deltas, weights=weights)
    assert 10 < (np.asarray(found) > 0.0).sum() < 60  # inside and outside
    np.testing.assert_allclose(found, by_rule, atol=1e-5)


def test_centerness_is_that_of_oln():
    anchors = np.array([[0, 0, 16, 16], [4, 8, 36, 24], [10, 10, 20, 30], [0, 0, 8, 8]])
    boxes = np.array(
        [[2, 1, 20, 14], [0, 0, 40, 40], [12, 6, 40, 26], [20, 20, 40, 40]]
    )
    known = [0.654653671, 0.816496581, 0.226778684, 0.0]
    truth = reference.encode_boxes(boxes, anchors).astype(np.float32)
    np.testing.assert_allclose(centerness(truth), known, rtol=1e-6)
