"""The layers of backbones; they compute the same numbers as PyTorch's layers."""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from ..core._typing import DTypeLike, Float
from .convolution import convolve
from .initial_weights import filled, normal

Norm = Literal["frozen", "group"]
Layer = Callable[[jax.Array], jax.Array]


class Statistic(nnx.Variable):
    """A constant of a frozen batch norm, which is loaded and never trained."""


class Sequential(nnx.List[Layer]):
    """Layers in a sequence, named by their numbers, as in torch's `nn.Sequential`."""

    def __call__(self, x: Float[jax.Array, "b h w c"]) -> Float[jax.Array, "b _ _ _"]:
        """Applies the layers in turn."""
        for layer in self:
            x = layer(x)
        return x


class Conv(nnx.Module):
    """A convolution with `size // 2` zeros on every side, as in PyTorch's networks.

    Attributes:
        kernel: weights `[size size inputs // groups outputs]`.
        bias: `[outputs]`; None without a bias, which a norm makes superfluous.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        *,
        stride: int = 1,
        groups: int = 1,
        use_bias: bool = False,
        gain: float = 2.0,
        dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        """Initializes the weights as He et al. do (https://arxiv.org/abs/1502.01852).

        Args:
            inputs: number of input channels.
            outputs: number of output channels.
            size: side of the kernel, an odd number.
            stride: stride in both directions.
            groups: 1, or `inputs` for a depthwise convolution.
            use_bias: whether there is a bias, which starts at 0.
            gain: factor of the weights' variance: 2 before a ReLU, 1 elsewhere.
            dtype: dtype of the computation; None uses the dtype of the maps.
            rngs: source of randomness for the parameters.
        """
        # Parameters are float32 for any dtype, so that small updates are not lost.
        shape = (size, size, inputs // groups, outputs)
        variance = gain / math.prod(shape[:3])
        self.kernel = nnx.Param(normal(rngs.params(), shape, variance))
        self.bias = nnx.Param(filled(0.0, outputs)) if use_bias else None
        self.stride, self.groups, self.dtype = stride, groups, dtype

    def __call__(self, x: Float[jax.Array, "b h w c"]) -> Float[jax.Array, "b _ _ d"]:
        """Convolves `x`."""
        x = x.astype(self.dtype or x.dtype)
        kernel = self.kernel[...].astype(x.dtype)
        y = convolve(x, kernel, stride=self.stride, groups=self.groups)
        if self.bias is None:
            return y
        return y + self.bias[...].astype(x.dtype).reshape(1, 1, 1, -1)


class Builder(NamedTuple):
    """Makes layers with the options that all layers of a network share.

    Attributes:
        norm: `"frozen"` for batch norms with the statistics of pretrained weights,
            which are not trained; `"group"` for group norms, to train from scratch.
        dtype: dtype of the computation; None uses the dtype of the images.
        rngs: source of randomness for the parameters.
        epsilon: number that frozen norms add to variances.
        stride_in_1x1: whether bottlenecks stride in their first 1x1 convolution, as in
            Caffe and detectron2, instead of the 3x3, as in torchvision.
        unpadded_pool: whether the stem of a ResNet pools without padding, as in Caffe.
    """

    norm: Norm
    dtype: DTypeLike | None
    rngs: nnx.Rngs
    epsilon: float = 1e-5
    stride_in_1x1: bool = False
    unpadded_pool: bool = False

    def conv(
        self,
        inputs: int,
        outputs: int,
        size: int = 3,
        *,
        stride: int = 1,
        groups: int = 1,
        use_bias: bool = False,
        gain: float = 2.0,
    ) -> Conv:
        """A convolution.

        Args:
            inputs: as in `Conv`.
            outputs: as in `Conv`.
            size: as in `Conv`.
            stride: as in `Conv`.
            groups: as in `Conv`.
            use_bias: as in `Conv`.
            gain: as in `Conv`.

        Returns:
            The convolution, without any norm.
        """
        return Conv(
            inputs,
            outputs,
            size,
            stride=stride,
            groups=groups,
            use_bias=use_bias,
            gain=gain,
            dtype=self.dtype,
            rngs=self.rngs,
        )

    def normalize(self, features: int) -> Layer:
        """A norm for a convolution with `features` output channels."""
        if self.norm == "frozen":
            return FrozenBatchNorm(features, epsilon=self.epsilon)
        return GroupNorm(features)

    def conv_norm(
        self,
        inputs: int,
        outputs: int,
        size: int = 3,
        *,
        stride: int = 1,
        groups: int = 1,
        activation: Layer | None = None,
    ) -> Sequential:
        """A convolution followed by a norm and possibly an activation.

        Args:
            inputs: as in `Conv`.
            outputs: as in `Conv`.
            size: as in `Conv`.
            stride: as in `Conv`.
            groups: as in `Conv`.
            activation: function after the norm; None for none.

        Returns:
            The layers.
        """
        conv = self.conv(inputs, outputs, size, stride=stride, groups=groups)
        last = [] if activation is None else [activation]
        return Sequential([conv, self.normalize(outputs), *last])


class FrozenBatchNorm(nnx.Module):
    """Batch norm with fixed statistics, scale and bias, none of which is trained.

    It computes the same as `FrozenBatchNorm2d` of torchvision and detectron2.

    Attributes:
        scale: factor of each channel; `weight` in torchvision.
        bias: offset of each channel; `bias` in torchvision.
        mean: mean of each channel in the data; `running_mean` in torchvision.
        var: variance of each channel in the data; `running_var` in torchvision.
    """

    def __init__(self, features: int, *, epsilon: float = 1e-5) -> None:
        """Makes a norm that is the identity, apart from `epsilon`.

        Args:
            features: number of channels.
            epsilon: number that is added to the variance.
        """
        self.epsilon = epsilon
        self.scale = Statistic(filled(1.0, features))
        self.bias = Statistic(filled(0.0, features))
        self.mean = Statistic(filled(0.0, features))
        self.var = Statistic(filled(1.0, features))

    def __call__(self, x: Float[jax.Array, "b h w c"]) -> Float[jax.Array, "b h w c"]:
        """Normalises `x`. The result has the dtype of `x`."""
        # Both constants of a channel are folded into one factor and one offset.
        factor = self.scale[...] * jax.lax.rsqrt(self.var[...] + self.epsilon)
        return _scale_and_shift(x, factor, self.bias[...] - self.mean[...] * factor)


class GroupNorm(nnx.Module):
    """Group norm; see Wu and He (https://arxiv.org/abs/1803.08494).

    Attributes:
        scale: factor of each channel.
        bias: offset of each channel.
    """

    def __init__(
        self, features: int, *, num_groups: int = 32, epsilon: float = 1e-5
    ) -> None:
        """Makes the parameters.

        Args:
            features: number of channels.
            num_groups: largest number of groups. The largest divisor of `features` up
                to it is used.
            epsilon: number that is added to the variance.
        """
        self.num_groups = max(n for n in range(1, num_groups + 1) if features % n == 0)
        self.epsilon = epsilon
        self.scale = nnx.Param(filled(1.0, features))
        self.bias = nnx.Param(filled(0.0, features))

    def __call__(self, x: Float[jax.Array, "b h w c"]) -> Float[jax.Array, "b h w c"]:
        """Normalises each group of channels of each image.

        The result has the dtype of `x`.
        """
        # The variance is the mean square minus the squared mean, so that one pass over
        # the maps gives both. Rounding can make it negative, hence the maximum.
        wide = x.astype(jnp.float32)
        mean = self._group_mean(jnp.mean(wide, axis=(1, 2)))
        square = self._group_mean(jnp.mean(jnp.square(wide), axis=(1, 2)))
        var = jnp.maximum(square - jnp.square(mean), 0.0)
        factor = self.scale[...][None] * jax.lax.rsqrt(var + self.epsilon)
        return _scale_and_shift(x, factor, self.bias[...][None] - mean * factor)

    def _group_mean(self, x: Float[jax.Array, "b c"]) -> Float[jax.Array, "b c"]:
        """The mean over a group, repeated for each of its channels."""
        groups = jnp.mean(x.reshape(x.shape[0], self.num_groups, -1), axis=2)
        return jnp.repeat(groups, x.shape[1] // self.num_groups, axis=1)


def _scale_and_shift(
    x: Float[jax.Array, "b h w c"],
    factor: Float[jax.Array, "*b c"],
    offset: Float[jax.Array, "*b c"],
) -> Float[jax.Array, "b h w c"]:
    """`x * factor + offset` per channel, computed in float32."""
    shape = (-1, 1, 1, x.shape[-1])
    y = x.astype(jnp.float32) * factor.reshape(shape) + offset.reshape(shape)
    return y.astype(x.dtype)
