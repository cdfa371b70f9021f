"""MobileNetV2: a trunk of depthwise convolutions that CPUs can train."""

import itertools

import jax
from flax import nnx

from ..core._typing import Float
from .layers import Builder, Layer, Sequential
from .trunk import Trunk

# Expansion, width, number of blocks, and stride of the first block: Table 2.
BLOCKS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class InvertedResidual(nnx.Module):
    """A block that widens with 1x1, filters each channel with 3x3, narrows with 1x1.

    Attributes:
        conv: the layers, under torchvision's name.
    """

    def __init__(
        self, build: Builder, inputs: int, outputs: int, stride: int, expansion: int
    ) -> None:
        """Makes the layers.

        Args:
            build: makes the layers.
            inputs: number of input channels.
            outputs: number of output channels.
            stride: stride of the 3x3 convolution.
            expansion: number of channels inside the block, divided by `inputs`.
        """
        self.is_residual = stride == 1 and inputs == outputs
        width, relu6 = inputs * expansion, jax.nn.relu6
        widen = build.conv_norm(inputs, width, 1, activation=relu6)
        layers = [
            build.conv_norm(
                width, width, stride=stride, groups=width, activation=relu6
            ),
            *build.conv_norm(width, outputs, 1),
        ]
        self.conv = Sequential(layers if expansion == 1 else [widen, *layers])

    def __call__(self, x: Float[jax.Array, "b h w c"]) -> Float[jax.Array, "b _ _ _"]:
        """Applies the layers, with a skip connection if the shapes agree."""
        return x + self.conv(x) if self.is_residual else self.conv(x)


def mobilenet_v2(build: Builder) -> Trunk:
    """Layers 0 to 17 of torchvision's `mobilenet_v2().features`.

    See "MobileNetV2" by Sandler et al. (https://arxiv.org/abs/1801.04381). Stages 1 to
    5 have strides of 2 to 32 and end with layers 1, 3, 6, 13 and 17. The last layer,
    which widens to 1,280 channels for classification, is left out.

    Args:
        build: makes the layers.

    Returns:
        The trunk; its last map has a stride of 32.
    """
    stem = build.conv_norm(3, 32, stride=2, activation=jax.nn.relu6)
    layers: dict[str, Layer] = {"0": stem}
    inputs = 32
    for expansion, width, number, stride in BLOCKS:
        for i in range(number):
            step = stride if i == 0 else 1
            block = InvertedResidual(build, inputs, width, step, expansion)
            layers[str(len(layers))] = block
            inputs = width
    # Stage `i` has the layers from bounds[i - 1] up to, not including, bounds[i].
    names, bounds = list(layers), (0, 2, 4, 7, 14, 18)
    return Trunk(
        layers=nnx.Dict(layers),
        stages=tuple(tuple(names[i:j]) for i, j in itertools.pairwise(bounds)),
        widths=(16, 24, 32, 96, 320),
        strides=(2, 4, 8, 16, 32),
    )
