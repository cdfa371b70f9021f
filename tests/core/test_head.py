"""The head, against convolutions by hand, and in every form that a trainer holds it."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import rpn_jax
from rpn_jax import RPNHead
from rpn_jax.core.head import _take_at_once, _take_by_level

CHANNELS, CELL = 5, 3
SHAPES = [(4, 6), (2, 3)]
GRID = rpn_jax.make_anchors(
    rpn_jax.AnchorConfig(sizes=(16, 32), strides=(8, 16)), SHAPES
)


def make_features(batch=2, channels=CHANNELS, dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(1), len(SHAPES))
    shapes = [(batch, *shape, channels) for shape in SHAPES]
    return [jax.random.normal(*x).astype(dtype) for x in zip(keys, shapes, strict=True)]


def make_head(**settings):
    """With weights large enough to tell a right output from a wrong one."""
    head = RPNHead(CHANNELS, CELL, hidden_features=4, rngs=nnx.Rngs(0), **settings)
    graph, parameters = nnx.split(head, nnx.Param)
    leaves, tree = jax.tree.flatten(parameters)
    keys = jax.random.split(jax.random.key(2), len(leaves))
    leaves = [
        0.3 * jax.random.normal(k, x.shape, x.dtype)
        for k, x in zip(keys, leaves, strict=True)
    ]
    return nnx.merge(graph, jax.tree.unflatten(tree, leaves))


def convolve_by_hand(x, kernel, bias):
    """One output at a time, with zeros around the map."""
    size, reach = kernel.shape[0], kernel.shape[0] // 2
    height, width, _ = x.shape
    out = np.zeros((height, width, kernel.shape[-1]))
    for row in range(height):
        for column in range(width):
            total = np.array(bias, float)
            for i in range(size):
                for j in range(size):
                    y, z = row + i - reach, column + j - reach
                    if 0 <= y < height and 0 <= z < width:
                        total = total + x[y, z] @ kernel[i, j]
            out[row, column] = total
    return out


def predict_by_hand(head, features, image):
    """Rows in the order (level, y, x, anchor in cell)."""
    logits, deltas = [], []
    for level in features:
        x = np.asarray(level[image], float)
        for conv in head.convs:
            x = convolve_by_hand(x, np.asarray(conv.kernel), np.asarray(conv.bias))
            x = np.maximum(x, 0.0)
        for out, conv, width in (
            (logits, head.logits, head.num_logits),
            (deltas, head.deltas, 4),
        ):
            y = convolve_by_hand(x, np.asarray(conv.kernel), np.asarray(conv.bias))
            for row in range(y.shape[0]):
                for column in range(y.shape[1]):
                    for anchor in range(CELL):
                        first = anchor * width
                        out.append(y[row, column, first : first + width])
    return np.array(logits), np.array(deltas)


@pytest.mark.parametrize(
    ("variant", "num_logits", "num_convs", "num_pointwise"),
    [
        ("jit", 1, 1, 0),
        ("jit", 2, 1, 2),
        ("jit", 1, 2, 0),
        ("jit", 2, 3, 1),
        ("eager", 1, 1, 0),
    ],
    indirect=["variant"],
)
def test_predictions_equal_convolutions_by_hand(
    variant, num_logits, num_convs, num_pointwise
):
    head, features = (
        make_head(
            num_logits=num_logits, num_convs=num_convs, num_pointwise=num_pointwise
        ),
        make_features(),
    )
    output = variant(lambda head, x: head(x))(head, features)
    output = jax.tree.map(np.asarray, output)
    for image in range(2):
        logits, deltas = predict_by_hand(head, features, image)
        actual = output.logits[image].reshape(logits.shape)
        np.testing.assert_allclose(actual, logits, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(output.deltas[image], deltas, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("number", [1, 2])
def test_predictions_at_some_anchors_are_rows_of_those_at_all(number):
    # The case of two also has 1x1 convolutions, whose rows are those of single cells.
    head, features = (
        make_head(num_logits=number, num_convs=number, num_pointwise=2 * number - 2),
        make_features(),
    )
    index = jnp.array([[0, 5, 71, 72, 89, 33], [3, 3, 88, 74, 17, 0]])

    def some(head, features):
        output = head.at(features, GRID, index)
        return sum(jnp.sum(x**3) for x in output), output

    def all_of_them(head, features):
        output = jax.tree.map(
            lambda x: jax.vmap(lambda v, i: v[i])(x, index), head(features)
        )
        return sum(jnp.sum(x**3) for x in output), output

    actual, expected = (
        jax.jit(jax.value_and_grad(f, argnums=(0, 1), has_aux=True))(head, features)
        for f in (some, all_of_them)
    )
    chex.assert_trees_all_close(actual[0][1], expected[0][1], rtol=1e-5, atol=1e-6)
    for a, b in zip(*map(jax.tree.leaves, (actual[1], expected[1])), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("take", [_take_at_once, _take_by_level])
def test_cells_are_taken_from_all_levels(take):
    levels = [x[0].reshape(-1, CHANNELS) for x in make_features()]
    cells = np.concatenate([*levels, np.zeros((1, CHANNELS), np.float32)])
    place = np.random.default_rng(0).integers(0, len(cells), (40, 3, 3))
    np.testing.assert_array_equal(take(jnp.asarray(place), *levels), cells[place])
    slopes = jax.grad(lambda levels: jnp.sum(take(jnp.asarray(place), *levels)))(levels)
    times = np.bincount(place.ravel(), minlength=len(cells))[:-1]  # each was taken
    for slope, expected in zip(slopes, np.split(times, [len(levels[0])]), strict=True):
        expected = np.broadcast_to(expected[:, None], slope.shape)
        np.testing.assert_array_equal(slope, expected)


def test_maps_of_another_grid_are_refused():
    with pytest.raises(ValueError, match=r"RPNHead.at needs the feature maps"):
        make_head().at(make_features()[::-1], GRID, jnp.zeros((2, 1), jnp.int32))


@pytest.mark.parametrize(
    "settings", [{"num_logits": 3}, {"num_convs": 0}, {"num_pointwise": -1}]
)
def test_impossible_heads_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        RPNHead(CHANNELS, CELL, rngs=nnx.Rngs(0), **settings)


def test_maps_of_another_width_are_refused():
    with pytest.raises((ValueError, TypeError), match="7"):
        make_head()(make_features(channels=7))


def test_parameters_start_as_in_the_paper():
    head = RPNHead(64, 3, num_logits=2, num_pointwise=1, rngs=nnx.Rngs(0))
    for conv in (*head.convs, head.logits, head.deltas):
        kernel = np.asarray(conv.kernel)
        assert abs(kernel.mean()) < 5 * 0.01 / np.sqrt(kernel.size)
        assert abs(kernel.std() / 0.01 - 1) < 5 / np.sqrt(kernel.size)
        np.testing.assert_array_equal(conv.bias, 0.0)
        assert kernel.dtype == np.float32
    assert head.convs[0].kernel.shape == (3, 3, 64, 64)
    assert head.convs[1].kernel.shape == (1, 1, 64, 64)
    assert head.logits.kernel.shape == (1, 1, 64, 6)
    assert head.deltas.kernel.shape == (1, 1, 64, 12)


def test_bfloat16_computes_in_it_and_returns_float32():
    plain, features = make_head(), make_features()
    head = make_head(dtype=jnp.bfloat16)
    predict = jax.jit(lambda head, features: head(features))
    output, exact = (
        jax.tree.map(np.asarray, predict(x, features)) for x in (head, plain)
    )
    chex.assert_type(output, jnp.float32)
    chex.assert_type(jax.tree.leaves(nnx.state(head, nnx.Param)), jnp.float32)
    assert not np.array_equal(output.logits, exact.logits)
    chex.assert_trees_all_close(output, exact, rtol=0.1, atol=0.1)
    index = np.tile(np.arange(20, dtype=np.int32), (2, 1))
    few = jax.jit(lambda head, *x: head.at(x[0], GRID, x[1]))(head, features, index)
    chex.assert_type(few, jnp.float32)
    np.testing.assert_allclose(few.deltas, output.deltas[:, :20], rtol=0.05, atol=0.05)


def test_the_split_head_is_a_pure_function_that_compiles_once():
    graph, parameters = nnx.split(make_head(), nnx.Param)

    @jax.jit
    @chex.assert_max_traces(n=1)
    def loss(parameters, features):
        output = nnx.merge(graph, parameters)(features)
        return jnp.sum(output.logits**2) + jnp.sum(output.deltas**2)

    for values in (parameters, jax.tree.map(lambda x: 2.0 * x, parameters)):
        gradients = jax.grad(loss)(values, make_features())
        chex.assert_trees_all_equal_shapes_and_dtypes(gradients, parameters)
        chex.assert_tree_all_finite(gradients)
        assert all(np.abs(x).max() > 0 for x in jax.tree.leaves(gradients))


def test_the_linen_form_gives_the_same_output():
    head, features = make_head(num_logits=2), make_features()
    module = nnx.bridge.to_linen(
        RPNHead, CHANNELS, CELL, hidden_features=4, num_logits=2
    )
    assert isinstance(module, nn.Module)
    variables = module.init(jax.random.key(0), features)
    values = jax.tree.leaves(nnx.to_pure_dict(nnx.state(head, nnx.Param)))
    tree = jax.tree.structure(variables["params"])
    output = module.apply({"params": jax.tree.unflatten(tree, values)}, features)
    chex.assert_trees_all_close(output, head(features), rtol=1e-5, atol=1e-6)
