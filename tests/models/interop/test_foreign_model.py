"""Weights of other systems give the same numbers as in those systems."""

import functools

import jax
import numpy as np
import pytest
from support.foreign_layouts import assert_close, random_weights
from support.foreign_networks import NETWORKS, run_network
from support.foreign_proposals import PROPOSALS

import rpn_jax
from rpn_jax.models import grid_for
from rpn_jax.models.interop import make_foreign_model, translate

# The stem halves this to 65 x 95; further stages have odd and even sides.
SHAPE = (130, 190)
SIZES = np.array([SHAPE], np.float32)
IMAGES = np.random.default_rng(0).integers(0, 256, (1, *SHAPE, 3), dtype=np.uint8)


@functools.cache
def scaled_weights(layout):
    """Random weights with logits of about 2 and deltas of about 0.3."""
    weights = random_weights(layout)
    outputs = run_network(layout, weights, IMAGES)
    logits, deltas = (np.std(np.concatenate(x)) for x in outputs[1:])
    scales = (2.0 / logits, 2.0 / logits, 0.3 / deltas, 0.3 / deltas)
    # The last four arrays are the weights and biases of the logits and of the deltas.
    for name, scale in zip(list(weights)[-4:], scales, strict=True):
        weights[name] = weights[name] * scale
    return weights


@functools.cache
def run_theirs(layout):
    return run_network(layout, scaled_weights(layout), IMAGES)


@functools.cache
def run_ours(layout):
    """The feature maps, predictions and proposals of the converted weights."""
    found = make_foreign_model(translate(scaled_weights(layout), layout.split(" ")[0]))
    anchors = grid_for(found.model, found.config.anchors, SHAPE)

    @jax.jit
    def run(model):
        features = model.features(IMAGES, SIZES)
        output, config = model.head(features), found.config.proposals
        return features, output, rpn_jax.propose(output, anchors, SIZES, config=config)

    return run(found.model)


@pytest.mark.parametrize("layout", NETWORKS)
def test_the_same_image_gives_the_same_features_and_predictions(layout):
    (features, output, _), theirs = run_ours(layout), run_theirs(layout)
    for actual, expected in zip(features, theirs.features, strict=True):
        assert_close(actual, expected)
    assert_close(output.logits[0], np.concatenate(theirs.logits))
    assert_close(output.deltas[0], np.concatenate(theirs.deltas))


@pytest.mark.parametrize("layout", NETWORKS)
def test_the_same_image_gives_the_same_proposals_in_the_same_order(layout):
    proposals = run_ours(layout)[2]
    boxes, scores = PROPOSALS[layout](run_theirs(layout), SHAPE)
    valid = np.asarray(proposals.valid[0])
    assert valid.sum() == len(boxes)
    # The networks differ by rounding, so scores that are closer may be in any order.
    gaps = -np.diff(scores, prepend=np.inf, append=-np.inf)
    is_clear = np.minimum(gaps[:-1], gaps[1:]) > 1e-6
    assert is_clear.mean() > 0.9
    np.testing.assert_allclose(
        proposals.boxes[0][valid][is_clear], boxes[is_clear], rtol=0, atol=0.01
    )
    np.testing.assert_allclose(proposals.scores[0][valid], scores, rtol=1e-4, atol=1e-5)
