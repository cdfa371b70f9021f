"""MobileNetV3-Large: depthwise convolutions with squeeze-and-excitation."""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from ..core._typing import Float
from .layers import Builder, Layer, Sequential
from .trunk import Trunk


class Block(NamedTuple):
    """A row of Table 1, which describes one block.

    Attributes:
        size: side of the depthwise kernel.
        inside: number of channels between the two 1x1 convolutions.
        width: number of output channels.
        has_weights: whether the block has squeeze-and-excitation.
        activation: ReLU or hard swish.
        stride: stride of the depthwise convolution.
    """

    size: int
    inside: int
    width: int
    has_weights: bool
    activation: Layer
    stride: int


RELU, SWISH = jax.nn.relu, jax.nn.hard_swish
BLOCKS = (
    Block(3, 16, 16, False, RELU, 1),
    Block(3, 64, 24, False, RELU, 2),
    Block(3, 72, 24, False, RELU, 1),
    Block(5, 72, 40, True, RELU, 2),
    Block(5, 120, 40, True, RELU, 1),
    Block(5, 120, 40, True, RELU, 1),
    Block(3, 240, 80, False, SWISH, 2),
    Block(3, 200, 80, False, SWISH, 1),
    Block(3, 184, 80, False, SWISH, 1),
    Block(3, 184, 80, False, SWISH, 1),
    Block(3, 480, 112, True, SWISH, 1),
    Block(3, 672, 112, True, SWISH, 1),
    Block(5, 672, 160, True, SWISH, 2),
    Block(5, 960, 160, True, SWISH, 1),
    Block(5, 960, 160, True, SWISH, 1),
)


class SqueezeExcitation(nnx.Module):
    """Weighs each channel by a number computed from the means of all channels.

    See "Squeeze-and-Excitation Networks" by Hu et al.
    (https://arxiv.org/abs/1709.01507). The names are torchvision's.
    """

    def __init__(self, build: Builder, features: int) -> None:
        """Makes the two 1x1 convolutions.

        Args:
            build: makes the layers.
            features: number of channels.
        """
        hidden = _round_to_eight(features // 4)
        self.fc1 = build.conv(features, hidden, 1, use_bias=True)
        self.fc2 = build.conv(hidden, features, 1, use_bias=True, gain=1.0)

    def __call__(self, x: Float[jax.Array, "b h w c"]) -> Float[jax.Array, "b h w c"]:
        """Multiplies every channel by its weight, which is between 0 and 1."""
        mean = jnp.mean(x, axis=(1, 2), keepdims=True)
        hidden = jax.nn.relu(self.fc1(mean))
        return x * jax.nn.hard_sigmoid(self.fc2(hidden))


class InvertedResidual(nnx.Module):
    """A block that widens with 1x1, filters and weighs channels, narrows with 1x1.

    Attributes:
        block: the layers, under torchvision's name.
    """

    def __init__(self, build: Builder, inputs: int, row: Block) -> None:
        """Makes the layers.

        Args:
            build: makes the layers.
            inputs: number of input channels.
            row: its row of the table.
        """
        self.is_residual = row.stride == 1 and inputs == row.width
        layers: list[Layer] = []
        # Widen, unless the inside is as wide as the input.
        if row.inside != inputs:
            layers.append(
                build.conv_norm(inputs, row.inside, 1, activation=row.activation)
            )
        # Filter every channel by itself.
        layers.append(
            build.conv_norm(
                row.inside,
                row.inside,
                row.size,
                stride=row.stride,
                groups=row.inside,
                activation=row.activation,
            )
        )
        if row.has_weights:
            layers.append(SqueezeExcitation(build, row.inside))
        self.block = Sequential([*layers, build.conv_norm(row.inside, row.width, 1)])

    def __call__(self, x: Float[jax.Array, "b h w c"]) -> Float[jax.Array, "b _ _ _"]:
        """Applies the layers, with a skip connection if the shapes agree."""
        return x + self.block(x) if self.is_residual else self.block(x)


def mobilenet_v3_large(build: Builder) -> Trunk:
    """All layers, 0 to 16, of torchvision's `mobilenet_v3_large().features`.

    See "Searching for MobileNetV3" by Howard et al. (https://arxiv.org/abs/1905.02244).
    Stages 1 to 5 begin with the layers of stride 2, which are 0, 2, 4, 7 and 13. As in
    torchvision's detector, stage 5 is this one layer, and stage 6 has layers 14 to 16.

    Args:
        build: makes the layers.

    Returns:
        The trunk; its last map has a stride of 32.
    """
    stem = build.conv_norm(3, 16, stride=2, activation=SWISH)
    layers: dict[str, Layer] = {"0": stem}
    inputs = 16
    for row in BLOCKS:
        layers[str(len(layers))] = InvertedResidual(build, inputs, row)
        inputs = row.width
    layers["16"] = build.conv_norm(inputs, 960, 1, activation=SWISH)
    # Stage `i` has the layers from bounds[i - 1] up to, not including, bounds[i].
    names, bounds = list(layers), (0, 2, 4, 7, 13, 14, 17)
    return Trunk(
        layers=nnx.Dict(layers),
        stages=tuple(tuple(names[i:j]) for i, j in itertools.pairwise(bounds)),
        widths=(16, 24, 40, 112, 160, 960),
        strides=(2, 4, 8, 16, 32, 32),
    )


def _round_to_eight(features: int) -> int:
    """The nearest multiple of 8, at least 8, that is not below 90 % of `features`.

    It computes the same as `_make_divisible` of torchvision, which rounds the hidden
    channels of squeeze-and-excitation with it.
    """
    rounded = max(8, (features + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * features else rounded
