"""Max pooling, and its form for other runtimes."""

import jax
import jax.numpy as jnp
import numpy as np

from rpn_jax.core.platforms import portable_forms
from rpn_jax.models.pooling import max_pool


def test_max_pool_ignores_what_lies_outside_and_what_does_not_fit():
    x = -np.arange(1, 26, dtype=np.float32).reshape(1, 5, 5, 1)
    run = jax.jit(lambda x: (max_pool(x, 3, 2, 1), max_pool(x, 2, 2)))
    padded, cut = (y[0, :, :, 0] for y in jax.device_get(run(x)))
    np.testing.assert_array_equal(padded, [[-1, -2, -4], [-6, -7, -9], [-16, -17, -19]])
    np.testing.assert_array_equal(cut, [[-1, -3], [-11, -13]])


def test_the_portable_form_has_the_same_values_and_windows_over_three_axes():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 7, 6, 3)), jnp.float32)
    expected = max_pool(x, 3, 2, 1)
    with portable_forms(True):
        actual = max_pool(x, 3, 2, 1)
        program = str(jax.make_jaxpr(lambda x: max_pool(x, 3, 2, 1))(x))
    np.testing.assert_array_equal(actual, expected)
    assert "window_dimensions=(3, 3, 1)" in program
