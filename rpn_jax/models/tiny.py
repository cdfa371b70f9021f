"""A small residual trunk, to be trained from scratch on a CPU with synthetic scenes."""

import jax
import jax.numpy as jnp
from flax import nnx

from ..core._typing import Float
from .layers import Builder, Sequential
from .resnet import BasicBlock
from .trunk import Trunk

WIDTHS = (32, 32, 64, 128, 128)
_PATCH = 4  # side of a patch in pixels


def tiny(build: Builder) -> Trunk:
    """A convolution of patches of 4x4 pixels, followed by four residual blocks.

    The first block keeps the stride of 4, at which small objects are located. Each of
    the others doubles the stride. The convolution and every block are a stage.

    Args:
        build: makes the layers.

    Returns:
        The trunk; its last map has a stride of 32.
    """
    layers = [build.conv_norm(3 * _PATCH**2, WIDTHS[0], activation=jax.nn.relu)]
    for i, (inputs, width) in enumerate(zip(WIDTHS, WIDTHS[1:], strict=False)):
        block = BasicBlock(build, inputs, width, 1 if i == 0 else 2)
        layers.append(Sequential([block]))
    return Trunk(
        layers=nnx.Dict({str(i): layer for i, layer in enumerate(layers)}),
        stages=((space_to_depth, "0"), *((str(i),) for i in range(1, 5))),
        widths=WIDTHS,
        strides=(4, 4, 8, 16, 32),
    )


def space_to_depth(x: Float[jax.Array, "b h w 3"]) -> Float[jax.Array, "b _ _ 48"]:
    """Turns every patch of 4x4 pixels into one cell; zeros complete the last patches.

    A 3x3 convolution of the result is a 12x12 convolution of the image with a stride of
    4. It is fast on a CPU because it has 48 input channels; one with 3 is slow.
    """
    below, right = (-n % _PATCH for n in x.shape[1:3])
    x = jnp.pad(x, ((0, 0), (0, below), (0, right), (0, 0)))
    b, h, w, _ = x.shape
    # Rows and columns are split into patches and positions within them. The positions
    # move behind the patches, into the channels.
    x = x.reshape(b, h // _PATCH, _PATCH, w // _PATCH, _PATCH, 3).swapaxes(2, 3)
    return x.reshape(b, h // _PATCH, w // _PATCH, -1)
