"""The model of a run, which users keep while the run goes on."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from rpn_jax.train import init_state, make_mesh
from rpn_jax.train.step import copied_model


class Small(nnx.Module):
    """As much of a network as a state needs."""

    def __init__(self):
        self.kernel = nnx.Param(jnp.arange(4.0))
        self.mean = nnx.BatchStat(jnp.ones(3))

    def is_trainable(self, path, value):
        return isinstance(value, nnx.Param)


def test_a_model_that_is_kept_survives_the_next_step():
    small: Any = Small()
    graphdef, state = init_state(small, optax.sgd(0.1), make_mesh())
    kept: Any = copied_model(graphdef, state)
    step = jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0)
    after = step(state)
    assert all(x.is_deleted() for x in jax.tree.leaves(state.params))
    np.testing.assert_array_equal(kept.kernel[...], np.arange(4.0))
    np.testing.assert_array_equal(kept.mean[...], np.ones(3))
    newer: Any = copied_model(graphdef, after)
    np.testing.assert_array_equal(newer.kernel[...], np.arange(4.0) + 1)
