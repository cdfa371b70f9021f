"""The composition of a training loop: the same as its parts, on any batch or device."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import rpn_jax
from rpn_jax import AnchorConfig, RPNConfig, RPNHead, TargetConfig, compute_losses
from rpn_jax.core.losses import rpn_metrics

SHAPES = [(8, 10), (4, 5)]
CONFIG = RPNConfig(
    anchors=AnchorConfig(sizes=(16, 32), strides=(8, 16), rounding="corners"),
    targets=TargetConfig(num_samples=24),
    losses=rpn_jax.LossConfig(num_samples=24),
)
GRID = rpn_jax.make_anchors(CONFIG.anchors, SHAPES)
BOXES = np.array(
    [
        [[4, 4, 22, 20], [30, 8, 70, 50], [0, 0, 0, 0]],
        [[50, 30, 62, 44], [np.nan] * 4, [9, 9, 5, 5]],
        [[0, 0, 0, 0], [np.inf] * 4, [0, 0, 0, 0]],
    ],
    np.float32,
)
VALID = np.array([[1, 1, 0], [1, 0, 1], [0, 0, 0]], bool)
HEAD = RPNHead(6, 3, rngs=nnx.Rngs(3))
FEATURES = [
    np.random.default_rng(i).normal(size=(3, *shape, 6)).astype(np.float32)
    for i, shape in enumerate(SHAPES)
]


@functools.partial(jax.jit, static_argnames="config")
def run(head, key, features, boxes, valid, image_index=None, *, config=CONFIG):
    return compute_losses(
        head,
        key,
        features,
        GRID,
        boxes,
        valid,
        image_index=image_index,
        config=config,
    )


def grid_of(features):
    """The anchors of the first levels, as many as there are maps."""
    return rpn_jax.AnchorGrid(GRID.levels[: len(features)])


@functools.cache
def value_and_gradients(config):
    """Compiled: the result of `compute_losses`, and gradients of the total."""

    @jax.jit
    @functools.partial(jax.value_and_grad, argnums=(0, 1), has_aux=True)
    def total(head, features):
        key, grid = jax.random.key(0), grid_of(features)
        out = compute_losses(head, key, features, grid, BOXES, VALID, config=config)
        return out.losses.total, (out.losses, out.metrics)

    return total


def losses_of_parts(head, key, features, config=CONFIG):
    """Dense: targets of every anchor, predictions at every anchor."""
    grid = grid_of(features)

    def assign(index, boxes, valid):
        key_of_image = jax.random.fold_in(key, index)
        return rpn_jax.assign_targets(
            key_of_image, grid, boxes, valid, config=config.targets
        )

    targets = jax.vmap(assign)(jnp.arange(3), BOXES, VALID)
    output = head(features)
    losses = rpn_jax.rpn_loss(output, targets, anchors=grid, config=config.losses)
    return losses, rpn_metrics(output, targets)


@pytest.mark.parametrize(
    ("rules", "num_levels"),
    [({}, 2), ({"box_loss": "ciou"}, 1), ({"objectness": "iou"}, 1)],
    ids=["smooth_l1", "ciou", "quality"],
)
def test_it_equals_its_parts_in_value_and_gradient(rules, num_levels):
    losses = dataclasses.replace(CONFIG.losses, **rules)
    config = dataclasses.replace(CONFIG, losses=losses)
    key, features = jax.random.key(0), FEATURES[:num_levels]

    @jax.jit
    @functools.partial(jax.value_and_grad, argnums=(0, 1), has_aux=True)
    def dense(head, features):
        losses, metrics = losses_of_parts(head, key, features, config)
        return losses.total, (losses, metrics)

    (_, actual), gradients = value_and_gradients(config)(HEAD, features)
    (_, expected), dense_gradients = dense(HEAD, features)
    chex.assert_trees_all_close(actual, expected, rtol=1e-5)
    assert actual[1].num_positive > 0
    for a, b in zip(*map(jax.tree.leaves, (gradients, dense_gradients)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-8)


def test_any_function_of_the_features_serves_as_a_head():
    key = jax.random.key(1)

    @jax.jit
    def with_function(features):
        return compute_losses(
            lambda x: HEAD(x), key, features, GRID, BOXES, VALID, config=CONFIG
        )

    expected = run(HEAD, key, FEATURES, BOXES, VALID)
    chex.assert_trees_all_close(with_function(FEATURES), expected, rtol=1e-5)


def test_the_log_counts_boxes_and_degenerate_rows():
    key = jax.random.key(0)
    out = run(HEAD, key, FEATURES, BOXES, VALID)
    assert out.num_degenerate == 1  # the inverted row that is marked valid
    assert out.unsampled_fraction == 0.0
    assert 3 <= out.metrics.num_positive <= 3 * 12
    assert out.metrics.num_positive + out.metrics.num_negative == 3 * 24
    none = dataclasses.replace(CONFIG.targets, positive_fraction=0.0)
    config = dataclasses.replace(CONFIG, targets=none)
    out = run(HEAD, key, FEATURES, BOXES, VALID, config=config)
    assert out.unsampled_fraction == 1.0
    assert out.losses.box == 0.0


def test_the_sample_of_an_image_does_not_depend_on_its_batch():
    """Losses of a batch, of each image alone, and of images under `vmap`."""
    key = jax.random.key(5)
    losses = dataclasses.replace(CONFIG.losses, normalizer="image")
    config = dataclasses.replace(CONFIG, losses=losses)

    def loss(index, boxes, valid, *maps):
        return run(HEAD, key, list(maps), boxes, valid, index, config=config).losses

    rows = [np.array([i]) for i in range(3)]
    alone = [loss(i, BOXES[i], VALID[i], *(x[i] for x in FEATURES)) for i in rows]
    expected = jax.tree.map(lambda *x: np.mean(x), *alone)
    whole = loss(np.arange(3), BOXES, VALID, *FEATURES)
    chex.assert_trees_all_close(whole, expected, rtol=1e-5)
    images = np.arange(3), BOXES, VALID, *FEATURES
    mapped = jax.jit(jax.vmap(loss))(*(x[:, None] for x in images))
    for i in range(3):
        of_image = jax.tree.map(lambda x, i=i: np.asarray(x)[i], mapped)
        chex.assert_trees_all_close(of_image, alone[i], rtol=1e-5)


def test_it_compiles_once_for_changing_values():
    @jax.jit
    @chex.assert_max_traces(n=1)
    def once(key, features, boxes):
        return compute_losses(HEAD, key, features, GRID, boxes, VALID, config=CONFIG)

    for seed in range(3):
        key, boxes = jax.random.key(seed), BOXES + seed
        once.trace(key, FEATURES, boxes)
        chex.assert_tree_all_finite(run(HEAD, key, FEATURES, boxes, VALID))


@pytest.mark.parametrize("training", [False, True])
def test_proposals_of_a_batch_follow_the_limits_asked_for(training):
    limits = rpn_jax.ProposalConfig(
        post_nms_top_k=7, train_pre_nms_top_k=30, train_post_nms_top_k=11
    )
    config = dataclasses.replace(CONFIG, proposals=limits)
    sizes = np.full((3, 2), 60, np.float32)

    @jax.jit
    def propose(head, features):
        return rpn_jax.compute_proposals(
            head, features, GRID, sizes, training=training, config=config
        )

    actual = jax.tree.map(np.asarray, propose(HEAD, FEATURES))
    rules = limits.for_training() if training else limits
    output = jax.jit(lambda head, features: head(features))(HEAD, FEATURES)
    expected = jax.jit(rpn_jax.propose, static_argnames=("anchors", "config"))(
        output, anchors=GRID, image_size=sizes, config=rules
    )
    chex.assert_trees_all_close(actual, expected, rtol=1e-5, atol=1e-5)
    assert actual.boxes.shape == (3, 11 if training else 7, 4)
    assert actual.valid.all()


def test_a_few_steps_of_descent_lower_the_loss():
    head, values = HEAD, []
    for _ in range(40):
        (value, _), (gradients, _) = value_and_gradients(CONFIG)(head, FEATURES)
        step = functools.partial(jax.tree.map, lambda p, g: p - np.float32(0.5) * g)
        head = step(jax.tree.map(np.asarray, head), jax.tree.map(np.asarray, gradients))
        values.append(value)
    assert values[-1] < 0.8 * values[0]


def test_rules_that_read_predictions_get_them_from_one_forward_pass():
    rules = dataclasses.replace(
        CONFIG.targets, assigner="sim_ota", negative_sampler="hardest"
    )
    config = dataclasses.replace(CONFIG, targets=rules)
    features, calls = [jnp.asarray(x) for x in FEATURES], []

    def head(features):
        calls.append(1)
        return HEAD(features)

    @functools.partial(jax.value_and_grad, has_aux=True)
    def short(features):
        key = jax.random.key(0)
        out = compute_losses(head, key, features, GRID, BOXES, VALID, config=config)
        return out.losses.total, out.metrics

    @functools.partial(jax.value_and_grad, has_aux=True)
    def by_parts(features):
        output = HEAD(features)

        def assign(index, boxes, valid, of_image):
            key = jax.random.fold_in(jax.random.key(0), index)
            return rpn_jax.assign_targets(
                key, GRID, boxes, valid, predictions=of_image, config=rules
            )

        targets = jax.vmap(assign)(jnp.arange(3), BOXES, VALID, output)
        losses = rpn_jax.rpn_loss(output, targets, config=config.losses)
        return losses.total, rpn_metrics(output, targets)

    (actual, expected) = (jax.jit(form)(features) for form in (short, by_parts))
    chex.assert_trees_all_close(actual, expected, rtol=1e-4, atol=1e-7)
    assert actual[0][1].num_positive > 0
    assert calls == [1]
