"""An exponential moving average of the weights, kept in the state of the optimizer."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from ..core._typing import Int


class AverageState(NamedTuple):
    """The state of an optimizer that averages the weights.

    Attributes:
        inner: the state of the optimizer itself.
        num_updates: number of updates so far.
        average: the averaged weights.
    """

    inner: optax.OptState
    num_updates: Int[jax.Array, ""]
    average: optax.Params


def averaging(
    update: optax.GradientTransformation, decay: float
) -> optax.GradientTransformation:
    """Lets an optimizer also average the weights that it produces.

    After update t, counted from 1, the average moves towards the weights by the share
    `1 - min(decay, (1 + t) / (10 + t))`. So early weights are forgotten soon, as in
    TensorFlow's `ExponentialMovingAverage` with `num_updates`.

    Args:
        update: the optimizer, whose updates do not change.
        decay: the largest share of the old average that is kept.
    """

    def init(params: optax.Params) -> AverageState:
        # A copy, because a step reuses the memory of the weights and of the average.
        copy = jax.tree.map(jnp.copy, params)
        return AverageState(update.init(params), jnp.zeros((), jnp.int32), copy)

    def step(
        updates: optax.Updates,
        state: optax.OptState,
        params: optax.Params | None = None,
    ) -> tuple[optax.Updates, optax.OptState]:
        assert isinstance(state, AverageState)
        updates, inner = update.update(updates, state.inner, params)
        number = state.num_updates + 1
        passed = number.astype(jnp.float32)
        rate = 1.0 - jnp.minimum(decay, (1.0 + passed) / (10.0 + passed))
        average = jax.tree.map(
            lambda a, p, u: a + rate * (p + u - a), state.average, params, updates
        )
        return updates, AverageState(inner, number, average)

    return optax.GradientTransformation(init, step)


def averaged(state: optax.OptState, params: optax.Params) -> optax.Params:
    """The averaged weights, or the weights themselves if they are not averaged.

    Args:
        state: the state of an optimizer from `make_optimizer`.
        params: the weights.
    """
    if isinstance(state, optax.ApplyIfFiniteState):
        state = state.inner_state
    return state.average if isinstance(state, AverageState) else params
