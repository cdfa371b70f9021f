"""The whole network: images in, an objectness logit and four deltas per anchor out."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ..core._typing import Array, DTypeLike, Float, Int
from ..core.anchor_config import AnchorConfig
from ..core.anchors import AnchorGrid, make_anchors
from ..core.cascade_head import CascadeHead
from ..core.config import Head
from ..core.head import RPNHead
from ..core.output import RPNOutput
from .backbone import Backbone, make_backbone
from .backbone_config import BackboneConfig, backbone_config
from .preprocessing import IMAGENET, Preprocessing

# The width of the head in jwyang's networks, whose maps have 512 channels (VGG16) and
# 1,024 (ResNet-101).
_MAX_HEAD_FEATURES = 512


class RPN(nnx.Module):
    """The Region Proposal Network: preprocessing, backbone and head.

    Attributes:
        backbone: turns normalised images into feature maps.
        head: turns feature maps into logits and deltas.
        preprocessing: conversion of images that the backbone's weights expect.
    """

    def __init__(
        self,
        backbone: Backbone,
        head: RPNHead | CascadeHead,
        *,
        preprocessing: Preprocessing = IMAGENET,
    ) -> None:
        """Combines the parts; see the attributes of the class."""
        self.backbone = backbone
        self.head = head
        self.preprocessing = preprocessing

    def features(
        self,
        images: jax.Array | np.ndarray,
        image_sizes: Float[Array, "b 2"] | Int[Array, "b 2"],
    ) -> list[Float[jax.Array, "b _ _ c"]]:
        """The feature maps of images.

        Args:
            images: `[b h w 3]` RGB bytes, with padding at the bottom and on the right.
            image_sizes: `(height, width)` of every image without its padding.

        Returns:
            One map per level, finest first.
        """
        return self.backbone(self.preprocessing.normalize(images, image_sizes))

    def __call__(
        self,
        images: jax.Array | np.ndarray,
        image_sizes: Float[Array, "b 2"] | Int[Array, "b 2"],
    ) -> RPNOutput:
        """The predictions for all anchors of the images.

        Args:
            images: as in `features`.
            image_sizes: as in `features`.

        Returns:
            A logit, or two, and four deltas per anchor, finest level first.
        """
        return self.head(self.features(images, image_sizes))

    def feature_shapes(self, image_shape: Sequence[int]) -> list[tuple[int, int]]:
        """The shapes of the feature maps, which `rpn_jax.make_anchors` needs.

        Nothing is computed.

        Args:
            image_shape: `(height, width)` of the images with their padding.

        Returns:
            `(height, width)` of the feature map on every level.
        """
        graph, state = nnx.split(self.backbone)
        images = jax.ShapeDtypeStruct((1, *image_shape, 3), jnp.float32)
        maps = jax.eval_shape(lambda s, x: nnx.merge(graph, s)(x), state, images)
        return [x.shape[1:3] for x in maps]

    def is_trainable(self, path: Sequence[Any], value: Any) -> bool:
        """Whether a variable is trained.

        This is an NNX filter. In `graph, trained, fixed = nnx.split(model,
        model.is_trainable, ...)`, `fixed` has the parameters of frozen stages and the
        statistics of frozen norms.

        Args:
            path: path of the variable in this module.
            value: the variable.

        Returns:
            True for parameters outside of the frozen stages.
        """
        is_frozen = (
            tuple(path[:2]) == ("backbone", "body")
            and path[2] in self.backbone.frozen_names()
        )
        return isinstance(value, nnx.Param) and not is_frozen


def make_model(
    anchors: AnchorConfig,
    *,
    backbone: str | BackboneConfig = "tiny_fpn",
    hidden_features: int | None = None,
    num_logits: int = 1,
    num_convs: int = 1,
    num_pointwise: int = 0,
    head: Head = "plain",
    preprocessing: Preprocessing = IMAGENET,
    dtype: DTypeLike | None = None,
    rngs: nnx.Rngs,
) -> RPN:
    """Makes a network with random weights for the anchors of a preset.

    Args:
        anchors: `RPNConfig.anchors`; `default_anchors(backbone)` always fits.
        backbone: name in `BACKBONES`, or settings if any differs from its default.
        hidden_features: number of channels of the head's 3x3 convolutions. None uses
            128 for `tiny_fpn`, and otherwise the number of the feature maps' channels,
            but at most 512.
        num_logits: 1 for a sigmoid, 2 for a softmax over (background, object).
        num_convs: number of the 3x3 convolutions of a plain head.
        num_pointwise: number of the 1x1 convolutions of a plain head after them.
        head: `RPNConfig.head`: `"plain"` makes an `RPNHead`, `"cascade"` a
            `CascadeHead`.
        preprocessing: conversion of images that the backbone's weights expect.
        dtype: dtype of the computation, bfloat16 for example; None uses float32.
            Parameters are always float32.
        rngs: source of randomness for the parameters.

    Returns:
        The network.

    Raises:
        ValueError: there is no such backbone, the strides of its maps differ from those
            of the anchors, or a cascade cannot have the settings.

    >>> narrow = BackboneConfig(name="tiny_fpn", out_features=32)
    >>> model = make_model(AnchorConfig(), backbone=narrow, rngs=nnx.Rngs(0))
    >>> model.feature_shapes((64, 96))[0]
    (16, 24)
    """
    config = backbone_config(backbone)
    # Refused before anything is drawn, which takes seconds for a large backbone.
    _check_levels(anchors, config.name, config.spec.anchors)
    body = make_backbone(config, dtype=dtype, rngs=rngs)
    usual = config.spec.head_features or min(body.out_features, _MAX_HEAD_FEATURES)
    options: dict[str, Any] = {
        "hidden_features": hidden_features or usual,
        "num_logits": num_logits,
        "dtype": dtype,
        "rngs": rngs,
    }
    if head == "cascade":
        if (num_convs, num_pointwise) != (1, 0):
            raise ValueError(
                "make_model needs num_convs=1 and num_pointwise=0 for "
                'head="cascade", whose stages have one convolution each, got '
                f"{num_convs} and {num_pointwise}."
            )
        made = CascadeHead(body.out_features, anchors, **options)
    else:
        number = anchors.anchors_per_cell
        options |= {"num_convs": num_convs, "num_pointwise": num_pointwise}
        made = RPNHead(body.out_features, number, **options)
    return RPN(body, made, preprocessing=preprocessing)


def grid_for(
    model: RPN, config: AnchorConfig, image_shape: Sequence[int]
) -> AnchorGrid:
    """The anchors on the feature maps that a model computes for an image.

    Args:
        model: the network.
        config: shapes and spacing of the anchors.
        image_shape: `(height, width)` of the image with its padding.

    Returns:
        The anchors. With `config.strides_from_image` their strides are the image's size
        divided by the map's; otherwise they are `config.strides`.

    >>> from rpn_jax.models import BackboneConfig
    >>> config = AnchorConfig()
    >>> narrow = BackboneConfig(name="tiny_fpn", out_features=8)
    >>> model = nnx.eval_shape(
    ...     lambda: make_model(config, backbone=narrow, rngs=nnx.Rngs(0))
    ... )
    >>> grid_for(model, config, (64, 96)).level_sizes
    (1152, 288, 72, 18, 6)
    """
    shapes = model.feature_shapes(image_shape)
    size = image_shape if config.strides_from_image else None
    return make_anchors(config, shapes, size)


def _check_levels(anchors: AnchorConfig, name: str, usual: AnchorConfig) -> None:
    """Refuses anchors whose strides differ from those of the backbone's maps.

    The usual anchors of a backbone have the strides of its maps.
    """
    if anchors.level_strides != usual.level_strides:
        kind = "one level" if len(anchors.strides) == 1 else "a pyramid"
        fitting = "vgg16 or a *_c4" if len(anchors.strides) == 1 else "a *_fpn"
        raise ValueError(
            f"The backbone {name!r} has maps with strides {usual.strides}, and the "
            f"anchors are for {kind} with strides {anchors.strides}. Choose {fitting} "
            "backbone, a preset with these strides, or the anchors of "
            "default_anchors(backbone)."
        )
