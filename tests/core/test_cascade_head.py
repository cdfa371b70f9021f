"""The head of Cascade RPN, against loops, at all anchors and at a few."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from support.filled import filled_module
from support.reference import feature_between

import rpn_jax
from rpn_jax import AnchorConfig, CascadeHead
from rpn_jax.core.cascade_head import FIRST_SCALE, SECOND_SCALE

CHANNELS, SHAPES = 3, [(4, 6), (2, 3)]
ANCHORS = AnchorConfig(sizes=(20, 36), strides=(8, (16, 12)), aspect_ratios=(2.0,))
GRID = rpn_jax.make_anchors(ANCHORS, SHAPES)
RNG = np.random.default_rng(1)
FEATURES = [
    jnp.asarray(RNG.normal(size=(2, *shape, CHANNELS)), jnp.float32) for shape in SHAPES
]


@functools.cache
def make_head(num_logits=1):
    """With weights large enough to move anchors by whole cells."""
    return filled_module(
        lambda rngs: CascadeHead(
            CHANNELS, ANCHORS, hidden_features=4, num_logits=num_logits, rngs=rngs
        ),
        scale=0.7,
    )


def weights_of(conv):
    kernel = np.asarray(conv.kernel[...], float)
    bias = conv.bias
    return kernel, np.zeros(kernel.shape[-1]) if bias is None else np.asarray(bias[...])


def convolved(x, y_x, steps, conv):
    """A 3x3 convolution at one place, with its points `steps` cells apart."""
    (kernel, bias), (row, column) = weights_of(conv), y_x
    total = bias.copy()
    for i in range(3):
        for j in range(3):
            point = row + (i - 1) * steps[0], column + (j - 1) * steps[1]
            total += feature_between(x, *point) @ kernel[i, j]
    return np.maximum(total, 0.0)


def outputs(x, conv):
    kernel, bias = weights_of(conv)
    return x @ kernel[0, 0] + bias


def moved_by_hand(deltas, anchor):
    x0, y0, x1, y1 = anchor
    width, height = x1 - x0, y1 - y0
    x, y = (x0 + x1) / 2 + deltas[0] * width, (y0 + y1) / 2 + deltas[1] * height
    width, height = width * np.exp(deltas[2]), height * np.exp(deltas[3])
    return np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2])


def predict_by_hand(head, image):
    """For every anchor, its logits and its box after each of the two stages."""
    anchors, logits, boxes = iter(np.asarray(GRID.boxes, float)), [], []
    for level, features in zip(GRID.levels, FEATURES, strict=True):
        x = np.asarray(features[image], float)
        cells = np.zeros((*level.shape, 4))
        for place in np.ndindex(level.shape):
            cells[place] = convolved(x, place, (3, 3), head.conv)
        for row, column in np.ndindex(level.shape):
            anchor, (down, right) = next(anchors), level.stride
            deltas = outputs(cells[row, column], head.first_deltas) * FIRST_SCALE
            moved = moved_by_hand(deltas, anchor)
            # `anchor_offset` of mmdetection: in cells, from the centre of the anchor.
            x, y = ((moved - anchor)[i] + (moved - anchor)[i + 2] for i in (0, 1))
            place = row + y / 2 / down, column + x / 2 / right
            steps = (
                (moved[3] - moved[1]) / 2 / down,
                (moved[2] - moved[0]) / 2 / right,
            )
            seen = convolved(cells, place, steps, head.adaptive)
            logits.append(outputs(seen, head.logits))
            deltas = outputs(seen, head.deltas) * SECOND_SCALE
            boxes.append((moved, moved_by_hand(deltas, moved)))
    return np.array(logits), np.array(boxes)


@pytest.mark.parametrize("num_logits", [1, 2])
def test_predictions_equal_loops_over_anchors_and_points(num_logits):
    head = make_head(num_logits)

    @jax.jit
    def predict(head, features):
        output, first = head(features), head.first(features)
        decode = jax.vmap(rpn_jax.decode_boxes, in_axes=(0, None))
        return output.logits, first.moved(GRID), decode(output.deltas, GRID.boxes)

    logits, *boxes = predict(head, FEATURES)
    for image in range(2):
        expected, expected_boxes = predict_by_hand(head, image)
        actual = logits[image].reshape(expected.shape)
        np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-4)
        for stage in range(2):
            np.testing.assert_allclose(
                boxes[stage][image], expected_boxes[:, stage], rtol=1e-3, atol=1e-2
            )
    shifts = np.abs(np.asarray(boxes[0]) - np.asarray(GRID.boxes)[None]).max()
    assert shifts > 8  # else cells beside the own one are not seen


def test_some_anchors_are_rows_of_all_and_no_gradient_moves_them():
    index = jnp.array([[0, 5, 23, 24, 29], [7, 7, 28, 1, 0]], jnp.int32)

    @jax.jit
    def run(head, features):
        def total(head, is_some):
            first = head.first(features)
            if is_some:
                output = head.second(first, GRID, index)
            else:
                take = jax.vmap(lambda x, rows: x[rows])
                every = head.everywhere(first, GRID)
                output = jax.tree.map(lambda x: take(x, index), every)
            return sum(jnp.sum(x**3) for x in output), output

        run = jax.value_and_grad(total, has_aux=True)
        return run(head, True), run(head, False)

    some, every = run(make_head(), FEATURES)
    for a, b in zip(*map(jax.tree.leaves, (some, every)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    gradients = some[1]
    assert np.abs(gradients.conv.kernel[...]).max() > 0  # through the features
    np.testing.assert_array_equal(gradients.first_deltas.kernel[...], 0.0)


@pytest.mark.parametrize(
    ("anchors", "settings"),
    [
        (ANCHORS, {"num_logits": 3}),
        (AnchorConfig(), {}),
        (AnchorConfig(aspect_ratios=(1.0,), strides_from_image=True), {}),
    ],
)
def test_impossible_heads_are_refused(anchors, settings):
    with pytest.raises(ValueError, match="CascadeHead needs num_logits of 1 or 2"):
        CascadeHead(CHANNELS, anchors, rngs=nnx.Rngs(0), **settings)


def test_it_is_exported_with_an_open_number_of_images():
    (number,) = jax.export.symbolic_shape("b")
    maps = [jax.ShapeDtypeStruct((number, *x.shape[1:]), x.dtype) for x in FEATURES]
    exported = jax.export.export(jax.jit(lambda *x: make_head()(x)))(*maps)
    assert [x.shape for x in exported.out_avals] == [(number, 30), (number, 30, 4)]
