"""Random keys that give an image the same bits alone and in a batch."""

import jax
import jax.numpy as jnp

from ._typing import PRNGKey


def threefry_key(key: PRNGKey) -> PRNGKey:
    """The same randomness as a key of threefry, which gives `vmap` the same bits.

    The generators "rbg" and "unsafe_rbg" draw other bits in a batch than one by one. A
    key of threefry is returned as it is.
    """
    is_typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    words = jax.random.key_data(key) if is_typed else jnp.asarray(key)
    threefry = jax.random.wrap_key_data(words[:2], impl="threefry2x32")
    for word in words[2:]:
        threefry = jax.random.fold_in(threefry, word)
    return threefry
