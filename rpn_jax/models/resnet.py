"""Residual networks of 18, 34, 50 and 101 layers."""

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from ..core._typing import Float
from .layers import Builder, Layer, Sequential
from .pooling import max_pool
from .trunk import Step, Trunk

# Number of blocks in `layer1` to `layer4`, by depth; see Table 1.
NUM_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
WIDTHS = (64, 128, 256, 512)
POOL = functools.partial(max_pool, size=3, stride=2, padding=1)


def unpadded_pool(x: Float[jax.Array, "b h w c"]) -> Float[jax.Array, "b _ _ c"]:
    """Caffe's 3x3 pooling of the stem, with stride 2 and no padding at top and left.

    The first window begins at the first cell. The last one may extend beyond the map by
    one cell, as with `ceil_mode=True` in PyTorch.
    """
    # An even size leaves a last window with two cells, so it gets a third.
    sides = [(0, 0), *((0, 1 - n % 2) for n in x.shape[1:3]), (0, 0)]
    return max_pool(jnp.pad(x, sides, constant_values=-jnp.inf), size=3, stride=2)


class BasicBlock(nnx.Module):
    """Two 3x3 convolutions with a skip connection; the block of ResNet-18 and -34."""

    expansion = 1

    def __init__(self, build: Builder, inputs: int, width: int, stride: int) -> None:
        """Makes the layers, under torchvision's names.

        Args:
            build: makes the layers.
            inputs: number of input channels.
            width: number of output channels.
            stride: stride of the first convolution.
        """
        self.conv1 = build.conv(inputs, width, stride=stride)
        self.bn1 = build.normalize(width)
        self.conv2 = build.conv(width, width)
        self.bn2 = build.normalize(width)
        self.downsample = _downsample(build, inputs, width, stride)

    def __call__(self, x: Float[jax.Array, "b h w c"]) -> Float[jax.Array, "b _ _ _"]:
        """Applies the convolutions and adds the skip connection."""
        y = jax.nn.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return jax.nn.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nnx.Module):
    """A bottleneck with a skip connection; the block of ResNet-50 and -101.

    Its convolutions are 1x1, 3x3 and 1x1.
    """

    expansion = 4

    def __init__(self, build: Builder, inputs: int, width: int, stride: int) -> None:
        """Makes the layers, under torchvision's names.

        Args:
            build: makes the layers, and says which of them has the stride.
            inputs: number of input channels.
            width: number of channels inside the block, a quarter of its outputs.
            stride: stride of the block.
        """
        first, second = (stride, 1) if build.stride_in_1x1 else (1, stride)
        outputs = width * self.expansion
        self.conv1 = build.conv(inputs, width, 1, stride=first)
        self.bn1 = build.normalize(width)
        self.conv2 = build.conv(width, width, stride=second)
        self.bn2 = build.normalize(width)
        self.conv3 = build.conv(width, outputs, 1)
        self.bn3 = build.normalize(outputs)
        self.downsample = _downsample(build, inputs, outputs, stride)

    def __call__(self, x: Float[jax.Array, "b h w c"]) -> Float[jax.Array, "b _ _ _"]:
        """Applies the convolutions and adds the skip connection."""
        y = jax.nn.relu(self.bn1(self.conv1(x)))
        y = jax.nn.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return jax.nn.relu(y + (x if self.downsample is None else self.downsample(x)))


def resnet(build: Builder, depth: int, *, num_stages: int = 5) -> Trunk:
    """The stages of a residual network, under torchvision's names.

    See "Deep Residual Learning" by He et al. (https://arxiv.org/abs/1512.03385). Stage
    1 is the stem, from `conv1` to the pooling. Stages 2 to 5 are `layer1` to `layer4`.

    Args:
        build: makes the layers.
        depth: number of layers: 18, 34, 50 or 101.
        num_stages: number of stages: 5, or 4 for the C4 trunk.

    Returns:
        The trunk; its last map has a stride of 32, or 16 for C4.
    """
    # The stem.
    block = BasicBlock if depth < 50 else Bottleneck
    layers: dict[str, Layer] = {
        "conv1": build.conv(3, 64, 7, stride=2),
        "bn1": build.normalize(64),
    }
    pool = unpadded_pool if build.unpadded_pool else POOL
    stages: list[tuple[Step, ...]] = [("conv1", "bn1", jax.nn.relu, pool)]
    widths, inputs = [64], 64
    # The first block of every stage but `layer1` halves the map.
    for i in range(num_stages - 1):
        blocks = []
        for j in range(NUM_BLOCKS[depth][i]):
            stride = 2 if i > 0 and j == 0 else 1
            blocks.append(block(build, inputs, WIDTHS[i], stride))
            inputs = WIDTHS[i] * block.expansion
        layers[f"layer{i + 1}"] = Sequential(blocks)
        stages.append((f"layer{i + 1}",))
        widths.append(inputs)
    # The stem reduces the image by 4 and `layer1` keeps that, so two strides are equal.
    return Trunk(
        layers=nnx.Dict(layers),
        stages=tuple(stages),
        widths=tuple(widths),
        strides=(4, 4, 8, 16, 32)[:num_stages],
    )


def _downsample(
    build: Builder, inputs: int, outputs: int, stride: int
) -> Sequential | None:
    """A 1x1 convolution for the skip connection; None if it can be the identity."""
    if stride == 1 and inputs == outputs:
        return None
    return build.conv_norm(inputs, outputs, 1, stride=stride)
