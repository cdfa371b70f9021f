"""The whole network: from bytes to an objectness logit and four deltas per anchor."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ..core._typing import Array, DTypeLike, Float, Int
from ..core.anchor_config import AnchorConfig
from ..core.anchors import AnchorGrid, make_anchors
from ..core.head import RPNHead
from ..core.output import RPNOutput
from .backbone import Backbone, make_backbone
from .layers import Norm
from .preprocessing import IMAGENET, Preprocessing


class RPN(nnx.Module):
    """Preprocessing, backbone and head.

    Attributes:
        backbone: from normalised images to feature maps.
        head: from feature maps to logits and deltas.
        preprocessing: what the weights of the backbone expect.
    """

    def __init__(
        self,
        backbone: Backbone,
        head: RPNHead,
        *,
        preprocessing: Preprocessing = IMAGENET,
    ) -> None:
        """Puts them together."""
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
            images: `[b h w 3]` RGB bytes, padded at the bottom and on the right.
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
        """The predictions for all anchors of images; arguments as in `features`."""
        return self.head(self.features(images, image_sizes))

    def feature_shapes(self, image_shape: Sequence[int]) -> list[tuple[int, int]]:
        """What `rpn_jax.make_anchors` needs to know, without computing anything.

        Args:
            image_shape: `(height, width)` of the images with their padding.

        Returns:
            `(height, width)` of every level's feature map.
        """
        graph, state = nnx.split(self.backbone)
        images = jax.ShapeDtypeStruct((1, *image_shape, 3), jnp.float32)
        maps = jax.eval_shape(lambda s, x: nnx.merge(graph, s)(x), state, images)
        return [x.shape[1:3] for x in maps]

    def is_trainable(self, path: Sequence[Any], value: Any) -> bool:
        """Whether a variable is trained: an NNX filter, so for `nnx.split` as well.

        `graph, trained, fixed = nnx.split(model, model.is_trainable, ...)` leaves in
        `fixed` the parameters of frozen stages and the statistics of frozen norms.

        Args:
            path: of the variable in this module.
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
    backbone: str = "tiny_fpn",
    norm: Norm | None = None,
    out_features: int | None = None,
    frozen_stages: int = 0,
    fpn_norm: bool = False,
    stride_in_1x1: bool = False,
    unpadded_pool: bool = False,
    epsilon: float = 1e-5,
    hidden_features: int | None = None,
    num_logits: int = 1,
    num_convs: int = 1,
    preprocessing: Preprocessing = IMAGENET,
    dtype: DTypeLike | None = None,
    rngs: nnx.Rngs,
) -> RPN:
    """Makes a network with random weights for the anchors of a preset.

    Args:
        anchors: `RPNConfig.anchors`; `default_anchors(backbone)` always fits.
        backbone: one of `BACKBONES`.
        norm: as in `make_backbone`.
        out_features: as in `make_backbone`.
        frozen_stages: as in `make_backbone`.
        fpn_norm: as in `make_backbone`.
        stride_in_1x1: as in `make_backbone`.
        unpadded_pool: as in `make_backbone`.
        epsilon: as in `make_backbone`.
        hidden_features: channels of the head's 3x3 convolutions; None takes as many as
            the feature maps have, and at most 512, but 128 on `tiny_fpn`.
        num_logits: 1 for a sigmoid, 2 for a softmax over (background, object).
        num_convs: number of the head's 3x3 convolutions.
        preprocessing: what the weights of the backbone expect.
        dtype: of the computation, bfloat16 for example. Parameters are float32.
        rngs: source of randomness for the parameters.

    Returns:
        The network.

    Raises:
        ValueError: the anchors are of other levels than the backbone's.
    """
    body = make_backbone(
        backbone,
        norm=norm,
        out_features=out_features,
        frozen_stages=frozen_stages,
        fpn_norm=fpn_norm,
        stride_in_1x1=stride_in_1x1,
        unpadded_pool=unpadded_pool,
        epsilon=epsilon,
        dtype=dtype,
        rngs=rngs,
    )
    _check_levels(anchors, backbone, body.strides)
    # Its maps have few channels; a wider head costs little, at the samples alone.
    usual = 128 if backbone == "tiny_fpn" else min(body.out_features, 512)
    head = RPNHead(
        body.out_features,
        anchors.anchors_per_cell,
        hidden_features=hidden_features or usual,
        num_logits=num_logits,
        num_convs=num_convs,
        dtype=dtype,
        rngs=rngs,
    )
    return RPN(body, head, preprocessing=preprocessing)


def grid_for(
    model: RPN, config: AnchorConfig, image_shape: Sequence[int]
) -> AnchorGrid:
    """The anchors of the feature maps that a model makes of an image.

    Args:
        model: the network.
        config: shapes of the anchors.
        image_shape: `(height, width)` of the image with its padding.

    Returns:
        The anchors. Their strides are those of `config`, but under `"corners"` rounding
        the image's size over the map's, since torchvision computes them so.
    """
    shapes = model.feature_shapes(image_shape)
    is_torchvision = config.rounding == "corners"
    return make_anchors(config, shapes, image_shape if is_torchvision else None)


def _check_levels(anchors: AnchorConfig, name: str, strides: tuple[int, ...]) -> None:
    if anchors.level_strides != tuple((s, s) for s in strides):
        kind = "one level" if len(anchors.strides) == 1 else "a pyramid"
        fitting = "'vgg16' or 'resnet50_c4'" if len(anchors.strides) == 1 else "a *_fpn"
        raise ValueError(
            f"The backbone {name!r} has maps of strides {strides}, and the anchors are "
            f"for {kind} of strides {anchors.strides}. Choose {fitting} backbone, a "
            "preset of these strides, or the anchors of default_anchors(backbone)."
        )
