"""The systems whose weights are understood: their names, and what goes with them."""

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal

from ... import presets
from ...core.config import RPNConfig
from ..preprocessing import IMAGENET, Preprocessing
from . import layouts
from .names import Rule

DETECTRON2 = Preprocessing(
    scale=1.0, mean=(103.530, 116.280, 123.675), std=(1.0, 1.0, 1.0), order="BGR"
)
JWYANG = Preprocessing(
    scale=1.0, mean=(102.9801, 115.9465, 122.7717), std=(1.0, 1.0, 1.0), order="BGR"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class System:
    """How a system names weights, and what it does to images before them.

    Attributes:
        rules: from the names here to those there, without their last parts.
        preset: its rules for proposals; None for a classifier, which has none.
        preprocessing: what its weights expect.
        min_side: pixels that it resizes the shorter side of an image to,
        max_side: unless the longer side would be longer than this.
        stride_in_1x1: whether bottlenecks stride in their first 1x1.
        unpadded_pool: whether the pooling of a residual stem has no padding.
        epsilon: what its batch norms add to variances.
        leaves: of the last parts of names.
        is_oihw: whether kernels are as in PyTorch and Caffe2, else they are as here.
        is_split: whether the channels of the head's logits are first those of the
            background, of all anchors, then those of objects.
    """

    rules: tuple[Rule, ...]
    preset: Callable[[], RPNConfig] | None = None
    preprocessing: Preprocessing = IMAGENET
    min_side: int = 800
    max_side: int = 1333
    stride_in_1x1: bool = False
    unpadded_pool: bool = False
    epsilon: float = 1e-5
    leaves: tuple[Rule, ...] = layouts.TORCH_LEAVES
    is_oihw: bool = True
    is_split: bool = False

    def options(self, backbone: str) -> dict[str, Any]:
        """What `make_model` has to be told for the weights of this system.

        Args:
            backbone: one of `BACKBONES`.

        Returns:
            Arguments by name.
        """
        is_resnet = backbone.startswith("resnet")
        is_bottleneck = backbone.startswith(("resnet50", "resnet101"))
        return {
            "preprocessing": self.preprocessing,
            "stride_in_1x1": self.stride_in_1x1 and is_bottleneck,
            "unpadded_pool": self.unpadded_pool and is_resnet,
            "epsilon": self.epsilon,
        }


def _under(prefix: str, rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
    return tuple((f"backbone.body.{here}", prefix + there) for here, there in rules)


_TORCHVISION = System(rules=layouts.TORCHVISION, preset=presets.torchvision_fpn)
_DETECTRON2_FPN = System(
    rules=_under("backbone.bottom_up.", layouts.DETECTRON2_TRUNK)
    + layouts.DETECTRON2_FPN
    + layouts.DETECTRON2_HEAD,
    preset=presets.detectron2_fpn,
    preprocessing=DETECTRON2,
    stride_in_1x1=True,
)
_MMDETECTION = System(
    rules=_under("backbone.", layouts.RESNET) + layouts.MMDETECTION,
    preset=presets.mmdet_fpn,
)
_JWYANG_VGG16 = System(
    rules=(("backbone.body.{i}", "RCNN_base.{i}"), *layouts.JWYANG_HEAD),
    preset=presets.jwyang_vgg16,
    preprocessing=JWYANG,
    min_side=600,
    max_side=1000,
    is_split=True,
)
_RPN_JAX = System(
    rules=layouts.RPN_JAX,
    preset=presets.torchvision_fpn,
    leaves=layouts.RPN_JAX_LEAVES,
    is_oihw=False,
)

SystemName = Literal[
    "torchvision",
    "torchvision_resnet",
    "torchvision_features",
    "detectron2_fpn",
    "detectron2_c4",
    "detectron2_msra",
    "detectron2_torchvision",
    "mmdetection",
    "jwyang_vgg16",
    "jwyang_resnet",
    "vgg16_layers",
    "rpn_jax",
    "torchvision_coco_v1",
    "torchvision_320",
    "mmdetection_caffe",
]
SYSTEMS: Mapping[str, System] = MappingProxyType(
    {
        "torchvision": _TORCHVISION,
        "torchvision_resnet": System(rules=_under("", layouts.RESNET)),
        "torchvision_features": System(
            rules=(("backbone.body.{rest}", "features.{rest}"),)
        ),
        "detectron2_fpn": _DETECTRON2_FPN,
        "detectron2_c4": dataclasses.replace(
            _DETECTRON2_FPN,
            rules=_under("backbone.", layouts.DETECTRON2_TRUNK)
            + layouts.DETECTRON2_HEAD,
            preset=presets.detectron2_c4,
        ),
        # The classifiers that its detectors begin with.
        "detectron2_msra": System(
            rules=_under("", layouts.CAFFE2_RESNET),
            leaves=layouts.CAFFE2_LEAVES,
            preprocessing=DETECTRON2,
            stride_in_1x1=True,
        ),
        "detectron2_torchvision": System(rules=_under("", layouts.DETECTRON2_TRUNK)),
        "mmdetection": _MMDETECTION,
        "jwyang_vgg16": _JWYANG_VGG16,
        "jwyang_resnet": dataclasses.replace(
            _JWYANG_VGG16,
            rules=_under("RCNN_base.", layouts.JWYANG_RESNET) + layouts.JWYANG_HEAD,
            stride_in_1x1=True,
            unpadded_pool=True,
        ),
        "vgg16_layers": dataclasses.replace(
            _RPN_JAX, rules=layouts.VGG16_LAYERS, preset=None
        ),
        "rpn_jax": _RPN_JAX,
        # What no name of a tensor tells, but a user or the file itself may.
        "torchvision_coco_v1": dataclasses.replace(_TORCHVISION, epsilon=0.0),
        "torchvision_320": dataclasses.replace(
            _TORCHVISION, min_side=320, max_side=640
        ),
        "mmdetection_caffe": dataclasses.replace(
            _MMDETECTION, preprocessing=DETECTRON2, stride_in_1x1=True
        ),
    }
)

# Files that torchvision publishes, by the SHA-256 that their names end with. The first
# was trained when its batch norms added nothing to variances.
PUBLISHED: Mapping[str, str] = MappingProxyType(
    {"258fb6c6": "torchvision_coco_v1", "907ea3f9": "torchvision_320"}
)
