"""Initial weights are those of JAX, drawn by fewer programs."""

import jax
import numpy as np
import pytest

from rpn_jax.models.initial_weights import filled, normal


@pytest.mark.parametrize("kind", ["threefry2x32", "rbg"])
@pytest.mark.parametrize("shape", [(3, 3, 2, 5), (1, 1, 70, 60)])
def test_weights_are_those_that_jax_draws_in_their_shape(kind, shape):
    key = jax.random.key(3, impl=kind)
    expected = np.asarray(jax.random.normal(key, shape)) * np.sqrt(np.float32(0.3))
    np.testing.assert_array_equal(normal(key, shape, 0.3), expected)
    traced = jax.eval_shape(lambda key: normal(key, shape, 0.3), key)
    assert (traced.shape, traced.dtype) == (shape, np.float32)


def test_one_value_for_every_channel_is_float32():
    found = filled(1.0, 3)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.ones(3))
