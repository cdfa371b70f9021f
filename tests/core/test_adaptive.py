"""Adaptive convolution, against loops and against an ordinary convolution."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.reference import feature_between

from rpn_jax.core import adaptive
from rpn_jax.core.adaptive import Places, adaptive_convolution

SHAPES = [(4, 6), (2, 3)]
CHANNELS, OUTPUTS = 3, 2
RNG = np.random.default_rng(0)
MAPS = [RNG.normal(size=(*shape, CHANNELS)).astype(np.float32) for shape in SHAPES]
CELLS = np.concatenate([x.reshape(-1, CHANNELS) for x in MAPS])
KERNEL = RNG.normal(size=(3, 3, CHANNELS, OUTPUTS)).astype(np.float32)
# Inside, across each border, outside, and so far outside that no integer counts it.
CORNERS = RNG.uniform(-2, 4, (20, 2))
BOXES = np.concatenate([CORNERS, CORNERS + RNG.uniform(0, 4, (20, 2))], axis=1)
BOXES[-3:] = [[-9, 1, -4, 3], [1, -1e30, 3, 1e30], [2, 1, 2, 1]]
BOXES = BOXES.astype(np.float32)
LEVELS = np.arange(20) % 2


def places(levels):
    starts = np.array([0, 24])[levels]
    heights, widths = (np.array(SHAPES)[levels, i] for i in (0, 1))
    return Places(*(jnp.asarray(x, jnp.int32) for x in (starts, heights, widths)))


def convolve_by_hand(x, box, kernel):
    """Nine points from the centre of the box, half a side apart."""
    x0, y0, x1, y1 = box.astype(float)
    total = np.zeros(kernel.shape[-1])
    for i in (-1, 0, 1):
        for j in (-1, 0, 1):
            row = (y0 + y1) / 2 + i * (y1 - y0) / 2
            column = (x0 + x1) / 2 + j * (x1 - x0) / 2
            total += feature_between(x, row, column) @ kernel[i + 1, j + 1]
    return total


@pytest.mark.parametrize("variant", ["jit", "eager"], indirect=True)
def test_it_equals_loops_over_points_and_cells(variant):
    actual = variant(adaptive_convolution)(CELLS, BOXES, places(LEVELS), KERNEL)
    expected = [
        convolve_by_hand(MAPS[level], box, KERNEL)
        for level, box in zip(LEVELS, BOXES, strict=True)
    ]
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


def test_boxes_of_two_cells_around_every_cell_make_an_ordinary_convolution():
    y, x = np.divmod(np.arange(24, dtype=np.float32), 6)
    boxes = np.stack([x - 1, y - 1, x + 1, y + 1], axis=1)
    on_first = places(np.zeros(24, int))
    actual = jax.jit(adaptive_convolution)(CELLS, boxes, on_first, KERNEL)
    expected = jax.lax.conv_general_dilated(
        jnp.asarray(MAPS[0][None]),
        jnp.asarray(KERNEL),
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    np.testing.assert_allclose(
        actual.reshape(expected.shape), expected, rtol=1e-4, atol=1e-5
    )


def test_gradients_are_finite_differences():
    few = BOXES[:6]
    rows = places(LEVELS[:6])

    @jax.jit
    def total(cells, boxes, kernel):
        return jnp.sum(adaptive_convolution(cells, boxes, rows, kernel) ** 2)

    chex.assert_numerical_grads(
        total, (CELLS, few, KERNEL), order=1, atol=0.3, rtol=0.02
    )


def test_many_boxes_are_computed_in_parts(monkeypatch):
    where = places(LEVELS)
    whole = jax.jit(adaptive_convolution)(CELLS, BOXES, where, KERNEL)
    monkeypatch.setattr(adaptive, "_BATCH", 8)
    parts = jax.jit(lambda *x: adaptive_convolution(*x))(CELLS, BOXES, where, KERNEL)
    np.testing.assert_allclose(parts, whole, rtol=1e-5, atol=1e-6)
