"""Max pooling, and its form for ONNX Runtime."""

import jax
import jax.numpy as jnp

from ..core._typing import Float
from ..core.platforms import portable_forms


def max_pool(
    x: Float[jax.Array, "b h w c"], size: int, stride: int, padding: int = 0
) -> Float[jax.Array, "b _ _ c"]:
    """The largest value in every window.

    Args:
        x: maps.
        size: side of the windows.
        stride: cells between two windows.
        padding: number of rows and columns of minus infinity on every side.

    Returns:
        One value for every window inside of the padded map, as in PyTorch with
        `ceil_mode=False`.
    """
    if portable_forms.value:
        return _max_pool_of_three_axes(x, size, stride, padding)
    sides = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    lowest = -jnp.inf  # the only initial value with a gradient in JAX
    return jax.lax.reduce_window(
        x, lowest, jax.lax.max, (1, size, size, 1), (1, stride, stride, 1), sides
    )


def _max_pool_of_three_axes(
    x: Float[jax.Array, "b h w c"], size: int, stride: int, padding: int
) -> Float[jax.Array, "b _ _ c"]:
    """`max_pool` for ONNX Runtime, which pools over three axes at most.

    The channels of all images become one axis.
    """
    images, height, width, channels = x.shape
    joined = x.transpose(1, 2, 0, 3).reshape(height, width, images * channels)
    sides = ((padding, padding), (padding, padding), (0, 0))
    found = jax.lax.reduce_window(
        joined, -jnp.inf, jax.lax.max, (size, size, 1), (stride, stride, 1), sides
    )
    split = found.reshape(*found.shape[:2], images, channels)
    return split.transpose(2, 0, 1, 3)
