"""The table of the backbones: one row holds everything that one of them needs.

No other module compares the name of a backbone with anything. Whoever needs to know
more about a backbone adds a field here.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType

from .. import presets
from ..core.anchor_config import AnchorConfig
from ..core.config import RPNConfig
from .layers import Builder, Norm
from .mobilenet import mobilenet_v2
from .mobilenet_v3 import mobilenet_v3_large
from .resnet import resnet
from .tiny import tiny
from .trunk import Trunk
from .vgg import vgg16

_SIZES = (32, 64, 128, 256, 512)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BackboneSpec:
    """One backbone: how its layers are made, and the defaults that suit it.

    Attributes:
        make_trunk: makes the layers.
        anchors: the usual anchors for its maps.
        rules: makes the default rules to train it with.
        pyramid_maps: number of the trunk's maps that the pyramid is built on, counted
            from the coarsest; None if there is no pyramid.
        pyramid_features: default number of channels of the pyramid's maps.
        smooths_finest: whether the pyramid has a 3x3 convolution on its finest map.
        head_features: default number of channels of the head's 3x3 convolutions. None
            uses the number of the feature maps' channels, but at most 512.
        has_norms: whether convolutions are followed by norms.
        norm: default kind of norm.
        has_bottlenecks: whether its blocks can stride in a 1x1 convolution.
        has_stem_pool: whether its stem ends with a max pooling that can be unpadded.
    """

    make_trunk: Callable[[Builder], Trunk]
    anchors: AnchorConfig = AnchorConfig()
    rules: Callable[[], RPNConfig] = presets.pyramid
    pyramid_maps: int | None = 4
    pyramid_features: int = 256
    smooths_finest: bool = True
    head_features: int | None = None
    has_norms: bool = True
    norm: Norm = "frozen"
    has_bottlenecks: bool = False
    has_stem_pool: bool = False

    @property
    def has_pyramid(self) -> bool:
        """Whether there is a pyramid, and hence maps of several strides."""
        return self.pyramid_maps is not None


def backbone_spec(name: str) -> BackboneSpec:
    """The row of a backbone.

    Args:
        name: one of `BACKBONES`.

    Returns:
        How its layers are made, and its defaults.

    Raises:
        ValueError: there is no such backbone.

    >>> backbone_spec("vgg16").has_pyramid
    False
    """
    if name not in _SPECS:
        raise ValueError(f"There is no backbone {name!r}. Choose from {BACKBONES}.")
    return _SPECS[name]


def default_anchors(name: str) -> AnchorConfig:
    """The usual anchors of a backbone.

    Args:
        name: one of `BACKBONES`.

    Returns:
        With a pyramid, one size per level, 8 strides, as in "Feature Pyramid Networks".
        With one level, all of these sizes on it, as in detectron2's C4. MobileNetV3's
        coarse pyramid has all of them on every level, as in torchvision.

    >>> default_anchors("vgg16").anchors_per_cell
    15
    """
    return backbone_spec(name).anchors


def _mobilenet_v3_rules() -> RPNConfig:
    # The anchors of `pyramid` need a map of stride 4, which this pyramid does not have.
    return dataclasses.replace(presets.pyramid(), anchors=_MOBILENET_V3_ANCHORS)


def _tiny_rules() -> RPNConfig:
    # On scenes, a 1x1 convolution in the head raised AR@100 and AR@1000 by 0.01 to 0.02
    # in the same time.
    return dataclasses.replace(presets.pyramid(), num_pointwise=1)


def _resnet_fpn(depth: int) -> BackboneSpec:
    return BackboneSpec(
        make_trunk=functools.partial(resnet, depth=depth),
        has_bottlenecks=depth >= 50,
        has_stem_pool=True,
    )


def _resnet_c4(depth: int) -> BackboneSpec:
    return dataclasses.replace(
        _resnet_fpn(depth),
        make_trunk=functools.partial(resnet, depth=depth, num_stages=4),
        anchors=_ONE_LEVEL,
        rules=presets.detectron2_c4,
        pyramid_maps=None,
    )


_ONE_LEVEL = AnchorConfig(sizes=(_SIZES,), strides=(16,))
_MOBILENET_V3_ANCHORS = AnchorConfig(sizes=(_SIZES,) * 3, strides=(32, 32, 64))
_DEPTHS = (18, 34, 50, 101)
_SPECS: Mapping[str, BackboneSpec] = MappingProxyType(
    {
        # Narrow maps keep it fast. A head wider than its maps costs little in training,
        # because the losses compute it at the sampled anchors alone.
        "tiny_fpn": BackboneSpec(
            make_trunk=tiny,
            rules=_tiny_rules,
            pyramid_features=64,
            smooths_finest=False,
            head_features=128,
            norm="group",
        ),
        "mobilenet_v2_fpn": BackboneSpec(make_trunk=mobilenet_v2),
        # torchvision builds this pyramid on the last two stages alone.
        "mobilenet_v3_large_fpn": BackboneSpec(
            make_trunk=mobilenet_v3_large,
            anchors=_MOBILENET_V3_ANCHORS,
            rules=_mobilenet_v3_rules,
            pyramid_maps=2,
        ),
        "vgg16": BackboneSpec(
            make_trunk=vgg16,
            anchors=_ONE_LEVEL,
            rules=presets.jwyang_vgg16,
            pyramid_maps=None,
            has_norms=False,
        ),
        **{f"resnet{depth}_fpn": _resnet_fpn(depth) for depth in _DEPTHS},
        **{f"resnet{depth}_c4": _resnet_c4(depth) for depth in _DEPTHS},
    }
)
BACKBONES = tuple(_SPECS)
