"""The feature pyramid, which adds coarse feature maps to finer ones."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from ..core._typing import Float
from .layers import Builder, Sequential

Maps = Sequence[Float[jax.Array, "b _ _ _"]]


class FPN(nnx.Module):
    """A feature pyramid: brings the trunk's maps to one width and adds them top-down.

    Each map goes through a 1x1 convolution, is added to the upsampled coarser sum, and
    the sum is smoothed by a 3x3 convolution. See "Feature Pyramid Networks" by Lin et
    al. (https://arxiv.org/abs/1612.03144). It computes the same maps as torchvision's
    `FeaturePyramidNetwork` with `LastLevelMaxPool`.

    If the trunk has group norms, the convolutions have them too, and no bias. They have
    frozen norms only on request, as in the second version of torchvision's detector.

    Attributes:
        inner_blocks: 1x1 convolutions of the trunk's maps, finest first.
        layer_blocks: 3x3 convolutions of the sums, finest first. The first one has no
            layers if the finest map is not smoothed.
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
            build: makes the layers.
            widths: number of channels of each of the trunk's maps, finest first.
            out_features: number of channels of the pyramid's maps.
            has_norm: whether there are norms even if these are frozen.
            smooths_finest: whether the finest map has a 3x3 convolution too. It takes
                three quarters of the work of all 3x3 convolutions, because every level
                has a quarter of the cells of the one before.
        """
        self.out_features = out_features

        def block(inputs: int, size: int) -> Sequential:
            if has_norm or build.norm == "group":
                return build.conv_norm(inputs, out_features, size)
            conv = build.conv(inputs, out_features, size, use_bias=True, gain=1.0)
            return Sequential([conv])

        self.inner_blocks = nnx.List([block(width, 1) for width in widths])
        # An empty finest block keeps the numbers in the names of the other blocks.
        smooth = [block(out_features, 3) for _ in widths[not smooths_finest :]]
        first = [] if smooths_finest else [Sequential([])]
        self.layer_blocks = nnx.List(first + smooth)

    def __call__(self, maps: Maps) -> list[Float[jax.Array, "b _ _ c"]]:
        """The pyramid of the trunk's maps.

        Args:
            maps: maps of the trunk, finest first.

        Returns:
            One map for each of `maps`, and a last one with every second cell of the
            coarsest.
        """
        # From the coarsest map to the finest: each is added to the sum of those before.
        sums, coarser = [], None
        for block, x in reversed(list(zip(self.inner_blocks, maps, strict=True))):
            coarser = block(x) if coarser is None else block(x) + _upsample(coarser, x)
            sums.insert(0, coarser)
        levels = [block(x) for block, x in zip(self.layer_blocks, sums, strict=True)]
        return [*levels, levels[-1][:, ::2, ::2]]


def _upsample(
    coarse: Float[jax.Array, "b h w c"], fine: Float[jax.Array, "b _ _ _"]
) -> Float[jax.Array, "b _ _ c"]:
    """Repeats every cell in both directions, and crops the map to the size of `fine`.

    Where `coarse` has `n` cells, `fine` has `2 * n` or `2 * n - 1`, because layers of
    stride 2 lie between them. Then this equals torch's `interpolate` with the nearest
    cell. Maps of the same stride, as in MobileNetV3's pyramid, stay as they are.
    """
    if coarse.shape[1:3] == fine.shape[1:3]:
        return coarse
    # Broadcasting repeats cells without a gather, whose gradient would be a scatter.
    b, h, w, c = coarse.shape
    twice = jnp.broadcast_to(coarse[:, :, None, :, None, :], (b, h, 2, w, 2, c))
    return twice.reshape(b, 2 * h, 2 * w, c)[:, : fine.shape[1], : fine.shape[2]]
