"""MobileNetV3-Large: depthwise convolutions with channels that weigh one another."""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from ..core._typing import Float
from .layers import Builder, Layer, Sequential
from .trunk import Trunk


class Block(NamedTuple):
    """A row of Table 1.

    Attributes:
        size: of the depthwise kernel.
        inside: channels between the two 1x1.
        width: channels after it.
        has_weights: whether channels are weighed by squeeze and excitation.
        activation: ReLU or hard swish.
        stride: of the depthwise convolution.
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
    """Weighs channels by what their means tell, under torchvision's names."""

    def __init__(self, build: Builder, features: int) -> None:
        """Makes the two 1x1 convolutions.

        Args:
            build: makes layers.
            features: number of channels.
        """
        quarter = features // 4
        hidden = max(8, (quarter + 4) // 8 * 8)
        # A multiple of 8 that is not below nine tenths of a quarter.
        hidden += 8 if hidden < 0.9 * quarter else 0
        self.fc1 = build.conv(features, hidden, 1, use_bias=True)
        self.fc2 = build.conv(hidden, features, 1, use_bias=True, gain=1.0)

    def __call__(self, x: Float[jax.Array, "b h w c"]) -> Float[jax.Array, "b h w c"]:
        """Multiplies every channel by its weight, from 0 to 1."""
        mean = jnp.mean(x, axis=(1, 2), keepdims=True)
        hidden = jax.nn.relu(self.fc1(mean))
        return x * jax.nn.hard_sigmoid(self.fc2(hidden))


class InvertedResidual(nnx.Module):
    """Widens with 1x1, filters every channel, weighs them, narrows with 1x1.

    Attributes:
        block: torchvision's `block`.
    """

    def __init__(self, build: Builder, inputs: int, row: Block) -> None:
        """Makes the layers.

        Args:
            build: makes layers.
            inputs: channels before it.
            row: the rest of its shape.
        """
        self.is_residual = row.stride == 1 and inputs == row.width
        layers: list[Layer] = []
        if row.inside != inputs:
            layers.append(
                build.conv_norm(inputs, row.inside, 1, activation=row.activation)
            )
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
        """Filters `x`, and adds it where the shapes agree."""
        return x + self.block(x) if self.is_residual else self.block(x)


def mobilenet_v3_large(build: Builder) -> Trunk:
    """All layers, 0 to 16, of torchvision's `mobilenet_v3_large().features`.

    From "Searching for MobileNetV3" by Howard et al.
    (https://arxiv.org/abs/1905.02244). As in torchvision's detector, stages 1 to 5 end
    where the next layer strides, and stage 5 is followed by a sixth, the last 1x1
    convolution, of the same stride.

    Args:
        build: makes the layers.

    Returns:
        The trunk, of stride 32.
    """
    stem = build.conv_norm(3, 16, stride=2, activation=SWISH)
    layers: dict[str, Layer] = {"0": stem}
    inputs = 16
    for row in BLOCKS:
        layers[str(len(layers))] = InvertedResidual(build, inputs, row)
        inputs = row.width
    layers["16"] = build.conv_norm(inputs, 960, 1, activation=SWISH)
    names, bounds = list(layers), (0, 2, 4, 7, 13, 14, 17)
    return Trunk(
        layers=nnx.Dict(layers),
        stages=tuple(tuple(names[i:j]) for i, j in itertools.pairwise(bounds)),
        widths=(16, 24, 40, 112, 160, 960),
        strides=(2, 4, 8, 16, 32, 32),
    )
