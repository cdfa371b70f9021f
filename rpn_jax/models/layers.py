"""What backbones are made of, with PyTorch's padding and PyTorch's numbers."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from ..core._typing import DTypeLike, Float
from .convolution import convolve

Norm = Literal["frozen", "group"]
Layer = Callable[[jax.Array], jax.Array]


class Statistic(nnx.Variable):
    """A number of a frozen batch norm that was measured, not trained."""


class Sequential(nnx.List[Layer]):
    """Layers one after another, under their numbers, as in torch's `nn.Sequential`."""

    def __call__(self, x: Float[jax.Array, "b h w c"]) -> Float[jax.Array, "b _ _ _"]:
        """Applies them in turn."""
        for layer in self:
            x = layer(x)
        return x


class Conv(nnx.Module):
    """A convolution with `size // 2` zeros on every side, as in PyTorch's networks.

    Attributes:
        kernel: `[size size inputs outputs]`.
        bias: `[outputs]`; None where a norm makes it needless.
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
        """Makes weights as He et al. (https://arxiv.org/abs/1502.01852).

        Args:
            inputs: channels before it.
            outputs: channels after it.
            size: of the kernel, odd.
            stride: in both directions.
            groups: `inputs` for a depthwise convolution.
            use_bias: whether there is a bias.
            gain: of the variance of the weights: 2 before a ReLU, 1 elsewhere.
            dtype: of the computation; None takes that of the maps.
            rngs: source of randomness for the parameters.
        """
        draw = nnx.initializers.variance_scaling(gain, "fan_in", "normal")
        shape = (size, size, inputs // groups, outputs)
        self.kernel = nnx.Param(draw(rngs.params(), shape, jnp.float32))
        self.bias = nnx.Param(jnp.zeros(outputs)) if use_bias else None
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
    """What all layers of a network share.

    Attributes:
        norm: `"frozen"` for batch norms with the statistics of pretrained weights,
            which are not trained; `"group"` for group norms, to train from scratch.
        dtype: of the computation; None takes that of the images.
        rngs: source of randomness for the parameters.
        epsilon: what frozen norms add to variances.
    """

    norm: Norm
    dtype: DTypeLike | None
    rngs: nnx.Rngs
    epsilon: float = 1e-5

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
        """A convolution; its arguments are those of `Conv`."""
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
        """The norm after a convolution with `features` outputs."""
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
        """A convolution, its norm and, if given, an activation.

        Args:
            inputs: channels before it.
            outputs: channels after it.
            size: of the kernel, odd.
            stride: in both directions.
            groups: `inputs` for a depthwise convolution.
            activation: after the norm.

        Returns:
            The layers.
        """
        conv = self.conv(inputs, outputs, size, stride=stride, groups=groups)
        last = [] if activation is None else [activation]
        return Sequential([conv, self.normalize(outputs), *last])


class FrozenBatchNorm(nnx.Module):
    """Batch norm with fixed statistics, scale and bias: a multiplication and addition.

    Nothing of it is trained, as in torchvision's and detectron2's `FrozenBatchNorm2d`.

    Attributes:
        scale: torchvision's `weight`.
        bias: torchvision's `bias`.
        mean: torchvision's `running_mean`.
        var: torchvision's `running_var`.
    """

    def __init__(self, features: int, *, epsilon: float = 1e-5) -> None:
        """Makes one that changes nothing, but for `epsilon`.

        Args:
            features: number of channels.
            epsilon: what is added to the variance.
        """
        self.epsilon = epsilon
        self.scale = Statistic(jnp.ones(features))
        self.bias = Statistic(jnp.zeros(features))
        self.mean = Statistic(jnp.zeros(features))
        self.var = Statistic(jnp.ones(features))

    def __call__(self, x: Float[jax.Array, "b h w c"]) -> Float[jax.Array, "b h w c"]:
        """Normalises `x`, in its dtype."""
        factor = self.scale[...] * jax.lax.rsqrt(self.var[...] + self.epsilon)
        return _scale_and_shift(x, factor, self.bias[...] - self.mean[...] * factor)


class GroupNorm(nnx.Module):
    """Group norm by Wu and He (https://arxiv.org/abs/1803.08494).

    Attributes:
        scale: of every channel.
        bias: of every channel.
    """

    def __init__(
        self, features: int, *, num_groups: int = 32, epsilon: float = 1e-5
    ) -> None:
        """Makes the parameters.

        Args:
            features: number of channels.
            num_groups: at most so many groups, fewer where `features` does not divide.
            epsilon: what is added to the variance.
        """
        self.num_groups = max(n for n in range(1, num_groups + 1) if features % n == 0)
        self.epsilon = epsilon
        self.scale = nnx.Param(jnp.ones(features))
        self.bias = nnx.Param(jnp.zeros(features))

    def __call__(self, x: Float[jax.Array, "b h w c"]) -> Float[jax.Array, "b h w c"]:
        """Normalises every group of channels of every image, in the dtype of `x`."""
        wide = x.astype(jnp.float32)
        mean = self._group_mean(jnp.mean(wide, axis=(1, 2)))
        square = self._group_mean(jnp.mean(jnp.square(wide), axis=(1, 2)))
        var = jnp.maximum(square - jnp.square(mean), 0.0)
        factor = self.scale[...][None] * jax.lax.rsqrt(var + self.epsilon)
        return _scale_and_shift(x, factor, self.bias[...][None] - mean * factor)

    def _group_mean(self, x: Float[jax.Array, "b c"]) -> Float[jax.Array, "b c"]:
        groups = jnp.mean(x.reshape(x.shape[0], self.num_groups, -1), axis=2)
        return jnp.repeat(groups, x.shape[1] // self.num_groups, axis=1)


def max_pool(
    x: Float[jax.Array, "b h w c"], size: int, stride: int, padding: int = 0
) -> Float[jax.Array, "b _ _ c"]:
    """The largest value of every window.

    Args:
        x: maps.
        size: of the window.
        stride: between two windows.
        padding: rows and columns of minus infinity on every side.

    Returns:
        One value for every window that fits in, as in PyTorch with `ceil_mode=False`.
    """
    sides = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    lowest = -jnp.inf  # what JAX knows the gradient for
    return jax.lax.reduce_window(
        x, lowest, jax.lax.max, (1, size, size, 1), (1, stride, stride, 1), sides
    )


def _scale_and_shift(
    x: Float[jax.Array, "b h w c"],
    factor: Float[jax.Array, "*b c"],
    offset: Float[jax.Array, "*b c"],
) -> Float[jax.Array, "b h w c"]:
    shape = (-1, 1, 1, x.shape[-1])
    y = x.astype(jnp.float32) * factor.reshape(shape) + offset.reshape(shape)
    return y.astype(x.dtype)
