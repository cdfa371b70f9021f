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


def losses_of_parts(head, key, features, config=CONFIG):
    """Dense: targets of every anchor, predictions at every anchor."""

    def assign(index, boxes, valid):
        key_of_image = jax.random.fold_in(key, index)
        return rpn_jax.assign_targets(
            key_of_image, GRID, boxes, valid, config=config.targets
        )

    targets = jax.vmap(assign)(jnp.arange(3), BOXES, VALID)
    output = head(features)
    losses = rpn_jax.rpn_loss(output, targets, anchors=GRID, config=config.losses)
    return losses, rpn_jax.rpn_metrics(output, targets)


@pytest.mark.parametrize("box_loss", ["smooth_l1", "ciou"])
def test_it_equals_its_parts_in_value_and_gradient(box_loss):
    losses = dataclasses.replace(CONFIG.losses, box_loss=box_loss)
    config = dataclasses.replace(CONFIG, losses=losses)
    key = jax.random.key(0)

    @functools.partial(jax.value_and_grad, argnums=(0, 1), has_aux=True)
    def short(head, features):
        out = compute_losses(head, key, features, GRID, BOXES, VALID, config=config)
        return out.losses.total, (out.losses, out.metrics)

    @functools.partial(jax.value_and_grad, argnums=(0, 1), has_aux=True)
    def dense(head, features):
        losses, metrics = losses_of_parts(head, key, features, config)
        return losses.total, (losses, metrics)

    features = [jnp.asarray(x) for x in FEATURES]
    (_, actual), gradients = jax.jit(short)(HEAD, features)
    (_, expected), dense_gradients = jax.jit(dense)(HEAD, features)
    chex.assert_trees_all_close(actual, expected, rtol=1e-5)
    assert actual[1].num_positive > 0
    for a, b in zip(*map(jax.tree.leaves, (gradients, dense_gradients)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-8)


def test_any_function_of_the_features_serves_as_a_head():
    key, features = jax.random.key(1), [jnp.asarray(x) for x in FEATURES]
    run = jax.jit(compute_losses, static_argnames=("head", "config"))
    actual = run(lambda x: HEAD(x), key, features, GRID, BOXES, VALID, config=CONFIG)
    expected = jax.jit(functools.partial(compute_losses, config=CONFIG))(
        HEAD, key, features, GRID, BOXES, VALID
    )
    chex.assert_trees_all_close(actual, expected, rtol=1e-5)


def test_the_log_counts_boxes_and_degenerate_rows():
    out = compute_losses(
        HEAD, jax.random.key(0), list(map(jnp.asarray, FEATURES)), GRID, BOXES, VALID
    )
    assert out.num_degenerate == 1  # the inverted row that is marked valid
    assert out.unsampled_fraction == 0.0
    assert 3 <= out.metrics.num_positive <= 3 * 128
    few = dataclasses.replace(CONFIG.targets, positive_fraction=0.0)
    config = dataclasses.replace(CONFIG, targets=few)
    out = compute_losses(
        HEAD,
        jax.random.key(0),
        list(map(jnp.asarray, FEATURES)),
        GRID,
        BOXES,
        VALID,
        config=config,
    )
    assert out.unsampled_fraction == 1.0
    assert out.losses.box == 0.0


def test_the_sample_of_an_image_does_not_depend_on_its_batch():
    """Per-image losses of a batch, of each image alone and under another batching."""
    key, features = jax.random.key(5), [jnp.asarray(x) for x in FEATURES]

    def loss(index):
        maps = [x[index] for x in features]
        return compute_losses(
            HEAD,
            key,
            maps,
            GRID,
            BOXES[index],
            VALID[index],
            image_index=index,
            config=config,
        ).losses

    losses = dataclasses.replace(CONFIG.losses, normalizer="image")
    config = dataclasses.replace(CONFIG, losses=losses)
    alone = [loss(np.array([i])) for i in range(3)]
    expected = jax.tree.map(lambda *x: sum(x) / 3, *alone)
    chex.assert_trees_all_close(loss(np.arange(3)), expected, rtol=1e-5)
    mapped = jax.vmap(
        lambda index, boxes, valid, *maps: (
            compute_losses(
                HEAD,
                key,
                [x[None] for x in maps],
                GRID,
                boxes[None],
                valid[None],
                image_index=index[None],
                config=config,
            ).losses
        )
    )(jnp.arange(3), BOXES, VALID, *features)
    for i in range(3):
        chex.assert_trees_all_close(
            jax.tree.map(lambda x, i=i: x[i], mapped), alone[i], rtol=1e-5
        )


def test_it_compiles_once_for_changing_values():
    run = jax.jit(
        chex.assert_max_traces(functools.partial(compute_losses, config=CONFIG), n=1)
    )
    features = [jnp.asarray(x) for x in FEATURES]
    for seed in range(3):
        out = run(HEAD, jax.random.key(seed), features, GRID, BOXES + seed, VALID)
        chex.assert_tree_all_finite(out)


def test_a_few_steps_of_descent_lower_the_loss():
    graph, parameters = nnx.split(HEAD, nnx.Param)
    features = [jnp.asarray(x) for x in FEATURES]

    @jax.jit
    def step(parameters):
        def loss(parameters):
            head = nnx.merge(graph, parameters)
            out = compute_losses(
                head, jax.random.key(0), features, GRID, BOXES, VALID, config=CONFIG
            )
            return out.losses.total

        value, gradients = jax.value_and_grad(loss)(parameters)
        return value, jax.tree.map(lambda p, g: p - 0.5 * g, parameters, gradients)

    values = []
    for _ in range(40):
        value, parameters = step(parameters)
        values.append(value)
    assert values[-1] < 0.8 * values[0]
