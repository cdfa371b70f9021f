"""A small residual trunk for the built-in scenes, trained from scratch on a CPU."""

import jax
from flax import nnx

from .layers import Builder, Sequential
from .resnet import BasicBlock
from .trunk import Trunk

WIDTHS = (16, 32, 64, 128, 128)


def tiny(build: Builder) -> Trunk:
    """A convolution of stride 2 and four residual blocks, each of stride 2.

    Args:
        build: makes the layers.

    Returns:
        The trunk, of stride 32.
    """
    layers = [build.conv_norm(3, WIDTHS[0], stride=2, activation=jax.nn.relu)]
    for inputs, width in zip(WIDTHS, WIDTHS[1:], strict=False):
        layers.append(Sequential([BasicBlock(build, inputs, width, 2, False)]))
    return Trunk(
        layers=nnx.Dict({str(i): layer for i, layer in enumerate(layers)}),
        stages=tuple((str(i),) for i in range(5)),
        widths=WIDTHS,
        strides=(2, 4, 8, 16, 32),
    )
