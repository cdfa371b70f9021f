"""Initial weights, without compiling a program for every shape."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from ..core._typing import Float, PRNGKey

# So many numbers are drawn at once, or 4, 16, 64, ... times as many.
_FEWEST = 4096


def normal(
    key: PRNGKey, shape: tuple[int, ...], variance: float
) -> Float[jax.Array, "..."]:
    """Draws normal numbers of mean 0: `jax.random.normal`, scaled.

    The program that draws takes half a second to compile, and a network has dozens of
    shapes. So more numbers are drawn than are needed, in a few sizes. With JAX's
    default keys, a number depends on its position alone, and the result is the same.

    Args:
        key: source of randomness.
        shape: shape of the result.
        variance: variance of the numbers.
    """
    scale = np.sqrt(np.float32(variance))
    if isinstance(key, Tracer) or not _depends_on_position_alone(key):
        return jax.random.normal(key, shape, jnp.float32) * scale
    number = math.prod(shape)
    drawn = _FEWEST
    while drawn < number:
        drawn *= 4
    values = np.asarray(jax.random.normal(key, (drawn,), jnp.float32))[:number]
    return jnp.array(values.reshape(shape) * scale)


def filled(value: float, features: int) -> Float[jax.Array, " c"]:
    """One value for every channel; copied from the host, so nothing is compiled."""
    return jnp.array(np.full(features, value, np.float32))


def _depends_on_position_alone(key: PRNGKey) -> bool:
    """Whether a key gives the same first numbers, however many are drawn."""
    is_threefry = str(jax.random.key_impl(key)) == "threefry2x32"
    return is_threefry and jax.config.values["jax_threefry_partitionable"]
