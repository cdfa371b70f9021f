"""Backbones by name: from normalised images to feature maps."""

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType

import jax
from flax import nnx

from ..core._typing import DTypeLike, Float
from ..core.anchor_config import AnchorConfig
from .fpn import FPN
from .layers import Builder, Norm
from .mobilenet import mobilenet_v2
from .mobilenet_v3 import mobilenet_v3_large
from .resnet import resnet
from .tiny import tiny
from .trunk import Trunk
from .vgg import vgg16

TRUNKS: Mapping[str, Callable[[Builder], Trunk]] = MappingProxyType(
    {
        "tiny_fpn": tiny,
        "mobilenet_v2_fpn": mobilenet_v2,
        "mobilenet_v3_large_fpn": mobilenet_v3_large,
        "vgg16": vgg16,
        **{
            f"resnet{depth}_fpn": functools.partial(resnet, depth=depth)
            for depth in (18, 34, 50, 101)
        },
        **{
            f"resnet{depth}_c4": functools.partial(resnet, depth=depth, num_stages=4)
            for depth in (18, 34, 50, 101)
        },
    }
)
BACKBONES = tuple(TRUNKS)


class Backbone(nnx.Module):
    """A trunk, and the pyramid on it if there is one.

    Parameters have torchvision's names: `body` and `fpn` are those of its
    `BackboneWithFPN`, with `kernel` for the `weight` of a convolution and `scale`,
    `mean`, `var` for the `weight`, `running_mean`, `running_var` of a norm.

    Attributes:
        body: layers of the trunk.
        fpn: the pyramid; None gives the trunk's last map.
        strides: pixels of the image between two cells, for each map.
        out_features: channels of every map.
        frozen_stages: how many stages of the trunk, from the image on, are not trained:
            no gradient flows into them. Every trunk says what its stages are; 2 is what
            py-faster-rcnn, torchvision and detectron2 (`FREEZE_AT`) take.
    """

    def __init__(
        self, trunk: Trunk, fpn: FPN | None = None, *, frozen_stages: int = 0
    ) -> None:
        """Puts the two together.

        Args:
            trunk: the layers.
            fpn: made for the last maps of the trunk.
            frozen_stages: how many stages are not trained.

        Raises:
            ValueError: the trunk has fewer stages.
        """
        if not 0 <= frozen_stages <= len(trunk.stages):
            raise ValueError(
                f"frozen_stages needs a number from 0 to {len(trunk.stages)}, the "
                f"stages of this backbone, got {frozen_stages}."
            )
        self.body = trunk.layers
        self.stages = trunk.stages
        self.frozen_stages = frozen_stages
        self.fpn = fpn
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
        x, maps = images, []
        for number, stage in enumerate(self.stages, start=1):
            for step in stage:
                x = step(x) if callable(step) else self.body[step](x)
            if number <= self.frozen_stages:
                x = jax.lax.stop_gradient(x)
            maps.append(x)
        if self.fpn is None:
            return maps[-1:]
        return self.fpn(maps[-len(self.fpn.inner_blocks) :])

    def frozen_names(self) -> tuple[str, ...]:
        """The children of `body` that belong to frozen stages."""
        frozen = self.stages[: self.frozen_stages]
        return tuple(step for stage in frozen for step in stage if not callable(step))


def make_backbone(
    name: str,
    *,
    norm: Norm | None = None,
    out_features: int | None = None,
    frozen_stages: int = 0,
    fpn_norm: bool = False,
    stride_in_1x1: bool = False,
    unpadded_pool: bool = False,
    epsilon: float = 1e-5,
    dtype: DTypeLike | None = None,
    rngs: nnx.Rngs,
) -> Backbone:
    """Makes a backbone with random weights.

    Args:
        name: one of `BACKBONES`.
        norm: `"frozen"` for pretrained weights or `"group"` to train from scratch; None
            takes what suits the backbone, which is `"group"` for `tiny_fpn` alone.
        out_features: channels of a pyramid's maps; None takes 256, or 64 in `tiny_fpn`.
        frozen_stages: how many stages, from the image on, are not trained.
        fpn_norm: whether a pyramid has frozen norms, as torchvision's second version;
            group norms it has anyway.
        stride_in_1x1: whether ResNet-50 and -101 stride in a 1x1 convolution, as the
            weights of Caffe and detectron2, instead of the 3x3 of torchvision's.
        unpadded_pool: whether the stem of a ResNet pools without padding, as in Caffe.
        epsilon: what frozen norms add to variances.
        dtype: of the computation, bfloat16 for example. Parameters are float32.
        rngs: source of randomness for the parameters.

    Returns:
        The backbone.

    Raises:
        ValueError: there is no such backbone, or an option does not fit it.
    """
    if name not in TRUNKS:
        raise ValueError(f"There is no backbone {name!r}. Choose from {BACKBONES}.")
    is_tiny, has_fpn = name == "tiny_fpn", name.endswith("_fpn")
    norm = norm or ("group" if is_tiny else "frozen")
    _check_options(name, norm, out_features, stride_in_1x1)
    build = Builder(norm=norm, dtype=dtype, rngs=rngs, epsilon=epsilon)
    options = {"stride_in_1x1": stride_in_1x1, "has_unpadded_pool": unpadded_pool}
    trunk = TRUNKS[name](build, **{k: True for k, v in options.items() if v})
    fpn = None
    if has_fpn:
        out_features = out_features or (64 if is_tiny else 256)
        # torchvision's pyramid on MobileNetV3 is of the last two stages alone.
        widths = trunk.widths[-2:] if "mobilenet_v3" in name else trunk.widths[-4:]
        fpn = FPN(
            build,
            widths,
            out_features,
            has_norm=fpn_norm,
            smooths_finest=not is_tiny,
        )
    return Backbone(trunk, fpn, frozen_stages=frozen_stages)


def default_anchors(name: str) -> AnchorConfig:
    """The usual anchors of a backbone.

    Args:
        name: one of `BACKBONES`.

    Returns:
        One size per level of a pyramid, 8 strides, as in "Feature Pyramid Networks";
        all of these sizes on the one level of another backbone, as detectron2's C4, and
        on every level of MobileNetV3's coarse pyramid, as torchvision's.
    """
    if name == "mobilenet_v3_large_fpn":
        sizes = ((32, 64, 128, 256, 512),) * 3
        return AnchorConfig(sizes=sizes, strides=(32, 32, 64))
    if name.endswith("_fpn"):
        return AnchorConfig()
    return AnchorConfig(sizes=((32, 64, 128, 256, 512),), strides=(16,))


def _check_options(
    name: str, norm: Norm, out_features: int | None, stride_in_1x1: bool
) -> None:
    if name == "vgg16" and norm == "group":
        raise ValueError("vgg16 has no norms: it needs norm='frozen', got 'group'.")
    if stride_in_1x1 and not name.startswith(("resnet50", "resnet101")):
        raise ValueError(f"stride_in_1x1 is of resnet50 and resnet101, got {name!r}.")
    if out_features is not None and not name.endswith("_fpn"):
        raise ValueError(f"out_features is of backbones with a pyramid, got {name!r}.")
