"""The settings of a backbone."""

import dataclasses

from ..core._arguments import lenient_settings
from .backbone_registry import BackboneSpec, backbone_spec
from .layers import Norm


@dataclasses.dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """The name of a backbone and the options that change its layers.

    Attributes:
        name: one of `BACKBONES`.
        norm: `"frozen"` for pretrained weights, or `"group"` to train from scratch.
            None uses `"group"` for `tiny_fpn` and `"frozen"` for the others.
        out_features: number of channels of the pyramid's maps. None uses 64 for
            `tiny_fpn` and 256 for the others.
        frozen_stages: number of stages, counted from the image, that are not trained.
        fpn_norm: whether the pyramid has frozen norms, as in the second version of
            torchvision's detector. It always has group norms if the trunk has them.
        stride_in_1x1: whether the bottlenecks of ResNet-50 and -101 stride in their
            first 1x1 convolution, as the weights of Caffe and detectron2 need it.
            torchvision's weights need the stride in the 3x3.
        unpadded_pool: whether the stem of a ResNet pools without padding, as in Caffe.
        epsilon: number that frozen norms add to variances.
        remat: whether training keeps only the maps between the blocks of the trunk, and
            computes their inside again in the backward pass. It saves memory, and costs
            up to a third more time. No number changes but by rounding.

    Raises:
        ValueError: there is no such backbone, or an option does not fit it.

    >>> from flax import nnx
    >>> from rpn_jax.models import make_backbone
    >>> narrow = BackboneConfig(name="resnet18_fpn", norm="group", out_features=64)
    >>> nnx.eval_shape(lambda: make_backbone(narrow, rngs=nnx.Rngs(0))).out_features
    64
    """

    name: str
    norm: Norm | None = None
    out_features: int | None = None
    frozen_stages: int = 0
    fpn_norm: bool = False
    stride_in_1x1: bool = False
    unpadded_pool: bool = False
    epsilon: float = 1e-5
    remat: bool = False

    def __post_init__(self) -> None:
        name, spec = self.name, self.spec
        if self.norm == "group" and not spec.has_norms:
            raise ValueError(
                f"{name} has no norms: it needs norm='frozen', got 'group'."
            )
        if self.stride_in_1x1 and not spec.has_bottlenecks:
            raise ValueError(
                f"stride_in_1x1 needs the bottlenecks of resnet50 or resnet101, got "
                f"{name!r}. Leave it False."
            )
        if self.unpadded_pool and not spec.has_stem_pool:
            raise ValueError(
                f"unpadded_pool needs the stem of a ResNet, got {name!r}. Leave it "
                "False."
            )
        if self.out_features is not None and not spec.has_pyramid:
            raise ValueError(
                f"out_features needs a backbone with a pyramid, got {name!r}. Leave it "
                "None."
            )
        if self.fpn_norm and not spec.has_pyramid:
            raise ValueError(
                f"fpn_norm needs a backbone with a pyramid, got {name!r}. Leave it "
                "False."
            )

    @property
    def spec(self) -> BackboneSpec:
        """The row of this backbone in the registry."""
        return backbone_spec(self.name)


lenient_settings(BackboneConfig)


def backbone_config(backbone: str | BackboneConfig) -> BackboneConfig:
    """The settings of a backbone; a name stands for its default settings.

    Args:
        backbone: name in `BACKBONES`, or the settings themselves.

    Returns:
        The settings.

    Raises:
        ValueError: there is no such backbone.
    """
    return BackboneConfig(name=backbone) if isinstance(backbone, str) else backbone
