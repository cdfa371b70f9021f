"""The systems whose weights can be read, and the settings that their weights need."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal

from ... import presets
from ...core.config import RPNConfig
from ..backbone_config import BackboneConfig, backbone_config
from ..backbone_registry import default_anchors
from ..preprocessing import IMAGENET, Preprocessing
from . import layouts
from .image_sizes import (
    SizeRule,
    detectron2_size,
    jwyang_size,
    mmdetection_size,
    torchvision_size,
)
from .names import Rule

DETECTRON2 = Preprocessing(
    scale=1.0, mean=(103.530, 116.280, 123.675), std=(1.0, 1.0, 1.0), order="BGR"
)
JWYANG = Preprocessing(
    scale=1.0, mean=(102.9801, 115.9465, 122.7717), std=(1.0, 1.0, 1.0), order="BGR"
)
SSD = Preprocessing(
    mean=(0.48235, 0.45882, 0.40784), std=(1 / 255, 1 / 255, 1 / 255), order="RGB"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class System:
    """The names that a system gives to weights, and the settings that they need.

    Attributes:
        rules: table of names, here and there, without the last part of a name.
        preset: makes the rules of its detector; None for a classifier.
        variants: make the rules of its detectors with other anchors or backbones.
        preprocessing: conversion of images that its weights expect.
        min_side: pixels to which it resizes the shorter side of an image, if the longer
            side permits.
        max_side: pixels that the longer side does not exceed.
        size_rule: computes the size of the resized image, as the system rounds it.
        padding_multiple: each side of an image is padded to a multiple of this.
        stride_in_1x1: whether bottlenecks stride in their first 1x1 convolution.
        unpadded_pool: whether the stem of a ResNet pools without padding.
        epsilon: number that its batch norms add to variances.
        leaves: table of the last parts of names.
        is_oihw: whether kernels are OIHW, as in PyTorch and Caffe2, instead of HWIO.
        is_split: whether the head's channels are all background logits, followed by all
            object logits. Here the two logits of an anchor are neighbours.
    """

    rules: tuple[Rule, ...]
    preset: Callable[[], RPNConfig] | None = None
    variants: tuple[Callable[[], RPNConfig], ...] = ()
    preprocessing: Preprocessing = IMAGENET
    min_side: int = 800
    max_side: int = 1333
    size_rule: SizeRule = torchvision_size
    padding_multiple: int = 32
    stride_in_1x1: bool = False
    unpadded_pool: bool = False
    epsilon: float = 1e-5
    leaves: tuple[Rule, ...] = layouts.TORCH_LEAVES
    is_oihw: bool = True
    is_split: bool = False

    def options(self, backbone: str | BackboneConfig) -> dict[str, Any]:
        """The arguments that `make_model` needs for the weights of this system.

        Args:
            backbone: name in `BACKBONES`, or settings if any differs from its default.
                The system overwrites its strides, pooling and epsilon.

        Returns:
            The arguments `backbone` and `preprocessing`. Options that the backbone does
            not have are off.
        """
        config = backbone_config(backbone)
        spec = config.spec
        adapted = dataclasses.replace(
            config,
            stride_in_1x1=self.stride_in_1x1 and spec.has_bottlenecks,
            unpadded_pool=self.unpadded_pool and spec.has_stem_pool,
            epsilon=self.epsilon,
        )
        return {"backbone": adapted, "preprocessing": self.preprocessing}


def _torchvision_mobilenet_v3(top_k: int = 1000) -> RPNConfig:
    """The rules of torchvision's `fasterrcnn_mobilenet_v3_large_fpn`.

    Args:
        top_k: number of boxes before and after suppression; 150 in its `_320_fpn`.
    """
    rules = presets.torchvision_fpn()
    return dataclasses.replace(
        rules,
        anchors=dataclasses.replace(
            default_anchors("mobilenet_v3_large_fpn"),
            rounding="corners",
            strides_from_image=True,
        ),
        proposals=dataclasses.replace(
            rules.proposals,
            score_threshold=0.05,
            pre_nms_top_k=top_k,
            post_nms_top_k=top_k,
        ),
    )


def _under(prefix: str, rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
    """Rules for the layers of a trunk whose names begin with `prefix` there."""
    return tuple((f"backbone.body.{here}", prefix + there) for here, there in rules)


_TORCHVISION = System(
    rules=layouts.TORCHVISION,
    preset=presets.torchvision_fpn,
    variants=(_torchvision_mobilenet_v3,),
)
_DETECTRON2_FPN = System(
    rules=_under("backbone.bottom_up.", layouts.DETECTRON2_TRUNK)
    + layouts.DETECTRON2_FPN
    + layouts.DETECTRON2_HEAD,
    preset=presets.detectron2_fpn,
    preprocessing=DETECTRON2,
    size_rule=detectron2_size,
    stride_in_1x1=True,
)
_MMDETECTION = System(
    rules=_under("backbone.", layouts.RESNET) + layouts.MMDETECTION,
    preset=presets.mmdet_fpn,
    size_rule=mmdetection_size,
)
_JWYANG_VGG16 = System(
    rules=(("backbone.body.{i}", "RCNN_base.{i}"), *layouts.JWYANG_HEAD),
    preset=presets.jwyang_vgg16,
    variants=(presets.jwyang_res101_coco,),
    preprocessing=JWYANG,
    min_side=600,
    max_side=1000,
    size_rule=jwyang_size,
    padding_multiple=1,
    is_split=True,
)
_RPN_JAX = System(
    rules=layouts.RPN_JAX,
    preset=presets.torchvision_fpn,
    variants=(_torchvision_mobilenet_v3,),
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
    "torchvision_ssd_features",
    "detectron2_rgb",
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
            padding_multiple=1,
        ),
        # The classifiers from which detectron2's detectors are trained.
        "detectron2_msra": System(
            rules=_under("", layouts.CAFFE2_RESNET),
            leaves=layouts.CAFFE2_LEAVES,
            preprocessing=DETECTRON2,
            size_rule=detectron2_size,
            stride_in_1x1=True,
        ),
        "detectron2_torchvision": System(
            rules=_under("", layouts.DETECTRON2_TRUNK), size_rule=detectron2_size
        ),
        "mmdetection": _MMDETECTION,
        "jwyang_vgg16": _JWYANG_VGG16,
        "jwyang_resnet": dataclasses.replace(
            _JWYANG_VGG16,
            rules=_under("RCNN_base.", layouts.JWYANG_RESNET) + layouts.JWYANG_HEAD,
            stride_in_1x1=True,
            unpadded_pool=True,
        ),
        "vgg16_layers": dataclasses.replace(
            _RPN_JAX, rules=layouts.VGG16_LAYERS, preset=None, variants=()
        ),
        "rpn_jax": _RPN_JAX,
        # These have the names of systems above. So the user names them, or the hash of
        # the file does.
        "torchvision_coco_v1": dataclasses.replace(_TORCHVISION, epsilon=0.0),
        "torchvision_320": dataclasses.replace(
            _TORCHVISION,
            variants=(functools.partial(_torchvision_mobilenet_v3, top_k=150),),
            min_side=320,
            max_side=640,
        ),
        "mmdetection_caffe": dataclasses.replace(
            _MMDETECTION, preprocessing=DETECTRON2, stride_in_1x1=True
        ),
        # detectron2's detectors that were trained from torchvision's classifiers.
        "detectron2_rgb": dataclasses.replace(
            _DETECTRON2_FPN, preprocessing=IMAGENET, stride_in_1x1=False
        ),
        # The VGG16 of SSD: RGB bytes minus their mean.
        "torchvision_ssd_features": System(
            rules=(("backbone.body.{rest}", "features.{rest}"),),
            preprocessing=SSD,
        ),
    }
)


def resized_size(
    system: str,
    height: int,
    width: int,
    min_side: int | None = None,
    max_side: int | None = None,
) -> tuple[int, int]:
    """The size to which a system resizes an image.

    Args:
        system: name in `SYSTEMS`.
        height: height of the original in pixels.
        width: width of the original in pixels.
        min_side: pixels of the shorter side; None takes the system's own.
        max_side: pixels that the longer side does not exceed; None takes the system's
            own.

    Returns:
        `(height, width)` in whole pixels, each at least 1.

    >>> resized_size("jwyang_vgg16", 375, 500)
    (600, 800)
    """
    rules = SYSTEMS[system]
    return rules.size_rule(
        height, width, min_side or rules.min_side, max_side or rules.max_side
    )


def padded_size(system: str, height: int, width: int) -> tuple[int, int]:
    """The size to which a system pads a resized image, if it is alone in its batch.

    Args:
        system: name in `SYSTEMS`.
        height: height of the resized image in pixels.
        width: width of the resized image in pixels.

    Returns:
        `(height, width)`, each the next multiple of the system's `padding_multiple`.

    >>> padded_size("torchvision", 800, 1199)
    (800, 1216)
    """
    multiple = SYSTEMS[system].padding_multiple
    return -(-height // multiple) * multiple, -(-width // multiple) * multiple
