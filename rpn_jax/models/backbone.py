"""Backbones by name: from normalised images to feature maps."""

import jax
from flax import nnx

from ..core._typing import DTypeLike, Float
from .backbone_config import BackboneConfig, backbone_config
from .fpn import FPN
from .layers import Builder
from .remat import recomputed, split_blocks
from .trunk import Trunk


class Backbone(nnx.Module):
    """A trunk with or without a feature pyramid.

    Parameters have the names of torchvision's `BackboneWithFPN`, `body` and `fpn`, with
    other last parts. A convolution has a `kernel` instead of a `weight`. A norm has
    `scale`, `mean` and `var` instead of `weight`, `running_mean` and `running_var`.

    Attributes:
        body: layers of the trunk.
        fpn: the pyramid; None returns the trunk's last map alone.
        strides: pixels of the image between two cells, for each map.
        out_features: number of channels of every map.
        frozen_stages: number of stages, counted from the image, that are not trained:
            no gradient flows into them. The docstring of each trunk lists its stages.
            py-faster-rcnn, torchvision and detectron2 (`FREEZE_AT`) freeze 2.
        remat: whether the backward pass computes the inside of every block again.
    """

    def __init__(
        self,
        trunk: Trunk,
        fpn: FPN | None = None,
        *,
        frozen_stages: int = 0,
        remat: bool = False,
    ) -> None:
        """Combines a trunk and a pyramid.

        Args:
            trunk: layers of the trunk.
            fpn: pyramid that was made for the widths of the trunk's last maps.
            frozen_stages: number of stages that are not trained.
            remat: whether training keeps only the maps between blocks, to save memory.

        Raises:
            ValueError: the trunk has fewer stages than `frozen_stages`.
        """
        if not 0 <= frozen_stages <= len(trunk.stages):
            raise ValueError(
                f"frozen_stages needs a number from 0 to {len(trunk.stages)}, which is "
                f"how many stages this backbone has, got {frozen_stages}."
            )
        self.body = trunk.layers
        self.stages = trunk.stages
        self.frozen_stages = frozen_stages
        self.remat = remat
        self.fpn = fpn
        # The pyramid appends a subsampled map, whose stride is twice the coarsest one.
        if fpn is None:
            self.strides = trunk.strides[-1:]
            self.out_features = trunk.widths[-1]
        else:
            strides = trunk.strides[-len(fpn.inner_blocks) :]
            self.strides = (*strides, 2 * strides[-1])
            self.out_features = fpn.out_features

    def __call__(
        self, images: Float[jax.Array, "b h w 3"]
    ) -> list[Float[jax.Array, "b _ _ c"]]:
        """The feature maps of normalised images, finest first."""
        # The map after every stage is collected; the pyramid takes the last ones. A
        # step of a stage is a function, or the name of a layer.
        x, maps = images, []
        for number, stage in enumerate(self.stages, start=1):
            layers = [step if callable(step) else self.body[step] for step in stage]
            if self.remat:
                for block in split_blocks(layers):
                    x = recomputed(block, x)
            else:
                for layer in layers:
                    x = layer(x)
            # A stopped gradient saves the backward pass through the frozen stages.
            if number <= self.frozen_stages:
                x = jax.lax.stop_gradient(x)
            maps.append(x)
        if self.fpn is None:
            return maps[-1:]
        return self.fpn(maps[-len(self.fpn.inner_blocks) :])

    def frozen_names(self) -> tuple[str, ...]:
        """The names of the layers in `body` that belong to frozen stages."""
        frozen = self.stages[: self.frozen_stages]
        return tuple(step for stage in frozen for step in stage if not callable(step))


def make_backbone(
    backbone: str | BackboneConfig,
    *,
    dtype: DTypeLike | None = None,
    rngs: nnx.Rngs,
) -> Backbone:
    """Makes a backbone with random weights.

    Args:
        backbone: name in `BACKBONES`, or settings if any differs from its default.
        dtype: dtype of the computation, bfloat16 for example; None uses the dtype of
            the images. Parameters are float32.
        rngs: source of randomness for the parameters.

    Returns:
        The backbone.

    Raises:
        ValueError: there is no such backbone, or it has fewer stages than are frozen.

    >>> nnx.eval_shape(lambda: make_backbone("tiny_fpn", rngs=nnx.Rngs(0))).strides
    (4, 8, 16, 32, 64)
    """
    config = backbone_config(backbone)
    spec = config.spec
    build = Builder(
        norm=config.norm or spec.norm,
        dtype=dtype,
        rngs=rngs,
        epsilon=config.epsilon,
        stride_in_1x1=config.stride_in_1x1,
        unpadded_pool=config.unpadded_pool,
    )
    trunk, fpn = spec.make_trunk(build), None
    if spec.pyramid_maps is not None:
        fpn = FPN(
            build,
            trunk.widths[-spec.pyramid_maps :],
            config.out_features or spec.pyramid_features,
            has_norm=config.fpn_norm,
            smooths_finest=spec.smooths_finest,
        )
    return Backbone(trunk, fpn, frozen_stages=config.frozen_stages, remat=config.remat)
