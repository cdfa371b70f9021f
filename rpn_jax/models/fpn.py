"""The feature pyramid: maps of all strides with the meaning of the coarsest."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from ..core._typing import Float
from .layers import Builder, Sequential

Maps = Sequence[Float[jax.Array, "b _ _ _"]]


class FPN(nnx.Module):
    """From "Feature Pyramid Networks" by Lin et al. (https://arxiv.org/abs/1612.03144).

    Equal to torchvision's `FeaturePyramidNetwork` with `LastLevelMaxPool`. With group
    norm in the trunk its convolutions have group norm too, and no bias; frozen norms
    only if asked for, as in the second version of torchvision's detector.

    Attributes:
        inner_blocks: 1x1 convolutions, of the trunk's maps.
        layer_blocks: 3x3 convolutions, of the sums; an empty one where the finest is
            not smoothed.
    """

    def __init__(
        self,
        build: Builder,
        widths: Sequence[int],
        out_features: int,
        *,
        has_norm: bool = False,
        smooths_finest: bool = True,
    ) -> None:
        """Makes the layers.

        Args:
            build: makes layers.
            widths: channels of the trunk's maps, finest first.
            out_features: channels of the pyramid's maps.
            has_norm: whether there are norms even if they are frozen.
            smooths_finest: whether the finest map has a 3x3 convolution as well, which
                takes three quarters of the pyramid's work.
        """
        self.out_features = out_features

        def block(inputs: int, size: int) -> Sequential:
            if has_norm or build.norm == "group":
                return build.conv_norm(inputs, out_features, size)
            conv = build.conv(inputs, out_features, size, use_bias=True, gain=1.0)
            return Sequential([conv])

        self.inner_blocks = nnx.List([block(width, 1) for width in widths])
        smooth = [block(out_features, 3) for _ in widths[not smooths_finest :]]
        first = [] if smooths_finest else [Sequential([])]
        self.layer_blocks = nnx.List(first + smooth)

    def __call__(self, maps: Maps) -> list[Float[jax.Array, "b _ _ c"]]:
        """The pyramid of `maps`, each with half the cells of the one before.

        Args:
            maps: the trunk's, finest first.

        Returns:
            One map for each of them, and the last of these at every second cell.
        """
        sums, coarser = [], None
        for block, x in reversed(list(zip(self.inner_blocks, maps, strict=True))):
            coarser = block(x) if coarser is None else block(x) + _upsample(coarser, x)
            sums.insert(0, coarser)
        levels = [block(x) for block, x in zip(self.layer_blocks, sums, strict=True)]
        return [*levels, levels[-1][:, ::2, ::2]]


def _upsample(
    coarse: Float[jax.Array, "b h w c"], fine: Float[jax.Array, "b _ _ _"]
) -> Float[jax.Array, "b _ _ c"]:
    """Every cell twice in both directions, and no more than `fine` has.

    Unchanged where both have one stride, as in MobileNetV3's pyramid. The nearest cell,
    as torch's `interpolate` finds it, wherever `fine` has 2n or 2n - 1 cells for the n
    of `coarse`, which is what layers of stride 2 make.
    """
    if coarse.shape[1:3] == fine.shape[1:3]:
        return coarse
    b, h, w, c = coarse.shape
    twice = jnp.broadcast_to(coarse[:, :, None, :, None, :], (b, h, 2, w, 2, c))
    return twice.reshape(b, 2 * h, 2 * w, c)[:, : fine.shape[1], : fine.shape[2]]
