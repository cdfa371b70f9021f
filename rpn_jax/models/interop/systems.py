"""The systems whose weights are understood: their names, and what goes with them."""

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal

from ... import presets
from ...config import RPNConfig
from ..preprocessing import IMAGENET, Preprocessing
from .names import Rule

DETECTRON2 = Preprocessing(
    scale=1.0, mean=(103.530, 116.280, 123.675), std=(1.0, 1.0, 1.0), order="BGR"
)
JWYANG = Preprocessing(
    scale=1.0, mean=(102.9801, 115.9465, 122.7717), std=(1.0, 1.0, 1.0), order="BGR"
)

# Names here on the left, names there on the right. Where an older version of a system
# has other names they come second: both are read, the first is written.

TORCHVISION: tuple[Rule, ...] = (
    ("backbone.body.{rest}", "backbone.body.{rest}"),
    ("backbone.fpn.inner_blocks.{i}.{j}", "backbone.fpn.inner_blocks.{i}.{j}"),
    ("backbone.fpn.inner_blocks.{i}.0", "backbone.fpn.inner_blocks.{i}"),
    ("backbone.fpn.layer_blocks.{i}.{j}", "backbone.fpn.layer_blocks.{i}.{j}"),
    ("backbone.fpn.layer_blocks.{i}.0", "backbone.fpn.layer_blocks.{i}"),
    ("head.convs.{i}", "rpn.head.conv.{i}.0"),
    ("head.convs.0", "rpn.head.conv"),
    ("head.logits", "rpn.head.cls_logits"),
    ("head.deltas", "rpn.head.bbox_pred"),
)
DETECTRON2_TRUNK: tuple[Rule, ...] = (
    ("conv1", "stem.conv1"),
    ("bn1", "stem.conv1.norm"),
    ("layer{i}.{block}.conv{n}", "res{i+1}.{block}.conv{n}"),
    ("layer{i}.{block}.bn{n}", "res{i+1}.{block}.conv{n}.norm"),
    ("layer{i}.{block}.downsample.0", "res{i+1}.{block}.shortcut"),
    ("layer{i}.{block}.downsample.1", "res{i+1}.{block}.shortcut.norm"),
)
DETECTRON2_FPN: tuple[Rule, ...] = (
    ("backbone.fpn.inner_blocks.{i}.0", "backbone.fpn_lateral{i+2}"),
    ("backbone.fpn.inner_blocks.{i}.1", "backbone.fpn_lateral{i+2}.norm"),
    ("backbone.fpn.layer_blocks.{i}.0", "backbone.fpn_output{i+2}"),
    ("backbone.fpn.layer_blocks.{i}.1", "backbone.fpn_output{i+2}.norm"),
)
DETECTRON2_HEAD: tuple[Rule, ...] = (
    ("head.convs.0", "proposal_generator.rpn_head.conv"),
    ("head.convs.{i}", "proposal_generator.rpn_head.conv.conv{i}"),
    ("head.logits", "proposal_generator.rpn_head.objectness_logits"),
    ("head.deltas", "proposal_generator.rpn_head.anchor_deltas"),
)

RESNET: tuple[Rule, ...] = (
    ("conv1", "conv1"),
    ("bn1", "bn1"),
    ("layer{i}.{block}.conv{n}", "layer{i}.{block}.conv{n}"),
    ("layer{i}.{block}.bn{n}", "layer{i}.{block}.bn{n}"),
    ("layer{i}.{block}.downsample.{n}", "layer{i}.{block}.downsample.{n}"),
)
MMDETECTION: tuple[Rule, ...] = (
    ("backbone.fpn.inner_blocks.{i}.0", "neck.lateral_convs.{i}.conv"),
    ("backbone.fpn.inner_blocks.{i}.1", "neck.lateral_convs.{i}.bn"),
    ("backbone.fpn.layer_blocks.{i}.0", "neck.fpn_convs.{i}.conv"),
    ("backbone.fpn.layer_blocks.{i}.1", "neck.fpn_convs.{i}.bn"),
    ("head.convs.0", "rpn_head.rpn_conv"),
    ("head.convs.{i}", "rpn_head.rpn_conv.{i}.conv"),
    ("head.logits", "rpn_head.rpn_cls"),
    ("head.deltas", "rpn_head.rpn_reg"),
)

JWYANG_RESNET: tuple[Rule, ...] = (
    ("conv1", "0"),
    ("bn1", "1"),
    ("layer{i}.{block}.conv{n}", "{i+3}.{block}.conv{n}"),
    ("layer{i}.{block}.bn{n}", "{i+3}.{block}.bn{n}"),
    ("layer{i}.{block}.downsample.{n}", "{i+3}.{block}.downsample.{n}"),
)
JWYANG_HEAD: tuple[Rule, ...] = (
    ("head.convs.0", "RCNN_rpn.RPN_Conv"),
    ("head.logits", "RCNN_rpn.RPN_cls_score"),
    ("head.deltas", "RCNN_rpn.RPN_bbox_pred"),
)

VGG16_LAYERS: tuple[Rule, ...] = tuple(
    (f"backbone.body.{first + 2 * i}", f"conv{stage}_{i + 1}")
    for stage, first, number in (
        (1, 0, 2),
        (2, 5, 2),
        (3, 10, 3),
        (4, 17, 3),
        (5, 24, 3),
    )
    for i in range(number)
)
RPN_JAX: tuple[Rule, ...] = (
    ("backbone.{rest}", "backbone.{rest}"),
    ("head.{rest}", "head.{rest}"),
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
        is_torch: whether kernels are OIHW and named as in PyTorch, else as here.
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
    is_torch: bool = True
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


_TORCHVISION = System(rules=TORCHVISION, preset=presets.torchvision_fpn)
_DETECTRON2_FPN = System(
    rules=_under("backbone.bottom_up.", DETECTRON2_TRUNK)
    + DETECTRON2_FPN
    + DETECTRON2_HEAD,
    preset=presets.detectron2_fpn,
    preprocessing=DETECTRON2,
    stride_in_1x1=True,
)
_MMDETECTION = System(
    rules=_under("backbone.", RESNET) + MMDETECTION, preset=presets.mmdet_fpn
)
_JWYANG_VGG16 = System(
    rules=(("backbone.body.{i}", "RCNN_base.{i}"), *JWYANG_HEAD),
    preset=presets.jwyang_vgg16,
    preprocessing=JWYANG,
    min_side=600,
    max_side=1000,
    is_split=True,
)

SystemName = Literal[
    "torchvision",
    "torchvision_resnet",
    "torchvision_features",
    "detectron2_fpn",
    "detectron2_c4",
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
        "torchvision_resnet": System(rules=_under("", RESNET)),
        "torchvision_features": System(
            rules=(("backbone.body.{rest}", "features.{rest}"),)
        ),
        "detectron2_fpn": _DETECTRON2_FPN,
        "detectron2_c4": dataclasses.replace(
            _DETECTRON2_FPN,
            rules=_under("backbone.", DETECTRON2_TRUNK) + DETECTRON2_HEAD,
            preset=presets.detectron2_c4,
        ),
        "mmdetection": _MMDETECTION,
        "jwyang_vgg16": _JWYANG_VGG16,
        "jwyang_resnet": dataclasses.replace(
            _JWYANG_VGG16,
            rules=_under("RCNN_base.", JWYANG_RESNET) + JWYANG_HEAD,
            stride_in_1x1=True,
            unpadded_pool=True,
        ),
        "vgg16_layers": System(rules=VGG16_LAYERS, is_torch=False),
        "rpn_jax": System(
            rules=RPN_JAX, preset=presets.torchvision_fpn, is_torch=False
        ),
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
