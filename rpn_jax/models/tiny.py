"""A small residual trunk for the built-in scenes, trained from scratch on a CPU."""

import jax
import jax.numpy as jnp
from flax import nnx

from ..core._typing import Float
from .layers import Builder, Sequential
from .resnet import BasicBlock
from .trunk import Trunk

WIDTHS = (32, 32, 64, 128, 128)
_PATCH = 4  # pixels, in both directions


def tiny(build: Builder) -> Trunk:
    """A convolution of patches of 4x4 pixels, and four residual blocks.

    The first block keeps the stride of 4, at which small objects are located; each of
    the others doubles it.

    Args:
        build: makes the layers.

    Returns:
        The trunk, of stride 32.
    """
    layers = [build.conv_norm(3 * _PATCH**2, WIDTHS[0], activation=jax.nn.relu)]
    for i, (inputs, width) in enumerate(zip(WIDTHS, WIDTHS[1:], strict=False)):
        block = BasicBlock(build, inputs, width, 1 if i == 0 else 2, False)
        layers.append(Sequential([block]))
    return Trunk(
        layers=nnx.Dict({str(i): layer for i, layer in enumerate(layers)}),
        stages=((space_to_depth, "0"), *((str(i),) for i in range(1, 5))),
        widths=WIDTHS,
        strides=(4, 4, 8, 16, 32),
    )


def space_to_depth(x: Float[jax.Array, "b h w 3"]) -> Float[jax.Array, "b _ _ 48"]:
    """The pixels of every patch side by side; zeros fill the last ones up.

    A 3x3 convolution of them is one of 12x12 pixels with a stride of 4, and fast on a
    CPU, where one of 3 channels is slow.
    """
    below, right = (-n % _PATCH for n in x.shape[1:3])
    x = jnp.pad(x, ((0, 0), (0, below), (0, right), (0, 0)))
    b, h, w, _ = x.shape
    x = x.reshape(b, h // _PATCH, _PATCH, w // _PATCH, _PATCH, 3).swapaxes(2, 3)
    return x.reshape(b, h // _PATCH, w // _PATCH, -1)
