"""The network that weights belong to, and the shapes of its variables."""

import functools
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from flax import nnx

from ...core.anchor_config import AnchorConfig
from ..backbone_config import BackboneConfig
from ..backbone_registry import backbone_spec, default_anchors
from ..network import RPN, make_model
from ..shapes_only import shapes_only
from .foreign_checkpoint import Checkpoint
from .systems import SYSTEMS

# Depth of a ResNet, by the number of blocks in its `layer3` and whether these are
# bottlenecks.
_DEPTHS = {(2, False): 18, (6, False): 34, (6, True): 50, (23, True): 101}
# A tensor that no other backbone has, for each of those that are not ResNets.
_UNIQUE_TENSORS = {
    "backbone.body.28.kernel": "vgg16",
    "backbone.body.1.conv.0.0.kernel": "mobilenet_v2_fpn",
    "backbone.body.1.block.0.0.kernel": "mobilenet_v3_large_fpn",
    "backbone.body.1.0.conv1.kernel": "tiny_fpn",
}
_MAX_ANCHORS = 1000


class NetworkShape(NamedTuple):
    """What determines the variables of a network, beside the settings of its system.

    Attributes:
        backbone: the backbone.
        num_anchors: number of anchors per cell.
        num_logits: number of logits per anchor.
        num_convs: number of 3x3 convolutions of the head.
        hidden_features: number of their channels; None is the default.
        num_pointwise: number of 1x1 convolutions that follow them.
    """

    backbone: BackboneConfig
    num_anchors: int
    num_logits: int = 1
    num_convs: int = 1
    hidden_features: int | None = None
    num_pointwise: int = 0


def has_head(checkpoint: Checkpoint) -> bool:
    """Whether weights belong to a detector, and not to a classifier.

    >>> import numpy as np
    >>> from rpn_jax.models.interop import translate
    >>> weights = {"conv1.weight": np.zeros((8, 3, 7, 7))}
    >>> has_head(translate(weights, "torchvision_resnet"))
    False
    """
    return any(name.startswith("head.") for name in checkpoint.tensors)


def backbone_of(checkpoint: Checkpoint) -> str:
    """The name in `BACKBONES` of the backbone that weights belong to.

    Args:
        checkpoint: the weights.

    Raises:
        ValueError: they belong to no known backbone.
    """
    tensors = checkpoint.tensors
    # Only ResNets have a `layer3`; its number of blocks tells their depths apart.
    if "backbone.body.layer3.0.conv1.kernel" in tensors:
        has_fpn = any(name.startswith("backbone.fpn.") for name in tensors)
        block = re.compile(r"backbone\.body\.layer3\.\d+\.conv1\.kernel")
        number = sum(bool(block.fullmatch(name)) for name in tensors)
        is_bottleneck = "backbone.body.layer3.0.conv3.kernel" in tensors
        if depth := _DEPTHS.get((number, is_bottleneck)):
            return f"resnet{depth}_{'fpn' if has_fpn else 'c4'}"
    for name, backbone in _UNIQUE_TENSORS.items():
        if name in tensors:
            return backbone
    raise ValueError(
        f"{checkpoint.path} needs a known backbone: a ResNet of 18, 34, 50 or 101 "
        f"layers, or one of {', '.join(_UNIQUE_TENSORS.values())}, got names such as "
        f"{', '.join(list(tensors)[:3])}."
    )


def shape_of(checkpoint: Checkpoint) -> NetworkShape:
    """The network that weights have, found from their names and shapes.

    Args:
        checkpoint: weights of a detector, or of a classifier, whose head is a default.

    Raises:
        ValueError: they belong to no known backbone, or a tensor is missing without
            which the network is not determined.
    """
    tensors = checkpoint.tensors
    spec = backbone_spec(name := backbone_of(checkpoint))
    # Frozen norms have statistics, group norms have none.
    has_frozen = not spec.has_norms or any(x.endswith(".mean") for x in tensors)
    pyramid = "backbone.fpn.inner_blocks.0.0.kernel"
    is_whole = has_head(checkpoint)
    config = BackboneConfig(
        name=name,
        norm="frozen" if has_frozen else "group",
        out_features=(
            _width(checkpoint, pyramid) if spec.has_pyramid and is_whole else None
        ),
        fpn_norm="backbone.fpn.layer_blocks.0.1.mean" in tensors,
    )
    if not is_whole:
        return NetworkShape(config, 1)
    number = num_anchors(checkpoint)
    convs = [x for x in tensors if re.fullmatch(r"head\.convs\.\d+\.kernel", x)]
    num_pointwise = sum(tensors[x].shape[:2] == (1, 1) for x in convs)
    return NetworkShape(
        config,
        number,
        2 if _width(checkpoint, "head.logits.kernel") >= 2 * number else 1,
        len(convs) - num_pointwise,
        _width(checkpoint, "head.convs.0.kernel"),
        num_pointwise,
    )


def make_empty_model(
    shape: NetworkShape,
    system: str,
    rngs: nnx.Rngs,
    anchors: AnchorConfig | None = None,
) -> RPN:
    """Makes a network with the layers that weights have, but with random weights.

    Args:
        shape: the network.
        system: name in `SYSTEMS` of the system that decides strides, norms and
            preprocessing.
        rngs: source of randomness for the parameters.
        anchors: the anchors. None takes any that have the number of the head and the
            strides of the backbone: no variable depends on their sizes.

    Returns:
        The network.
    """
    if anchors is None:
        strides = default_anchors(shape.backbone.name).strides
        anchors = AnchorConfig(
            sizes=(1.0,) * len(strides),
            strides=strides,
            aspect_ratios=tuple(float(i + 1) for i in range(shape.num_anchors)),
        )
    return make_model(
        anchors,
        hidden_features=shape.hidden_features,
        num_logits=shape.num_logits,
        num_convs=shape.num_convs,
        num_pointwise=shape.num_pointwise,
        **SYSTEMS[system].options(shape.backbone),
        rngs=rngs,
    )


def expected_shapes(checkpoint: Checkpoint) -> Mapping[str, tuple[int, ...]]:
    """The shape of every variable of the network that weights have, by name.

    Args:
        checkpoint: weights of a detector; of a classifier, only the trunk counts.

    Raises:
        ValueError: as in `shape_of`.
    """
    shapes = _shapes(shape_of(checkpoint), checkpoint.system)
    if has_head(checkpoint):
        return shapes
    return {x: shapes[x] for x in shapes if x.startswith("backbone.body.")}


@functools.lru_cache(maxsize=4)
def _shapes(shape: NetworkShape, system: str) -> Mapping[str, tuple[int, ...]]:
    model = shapes_only(lambda rngs: make_empty_model(shape, system, rngs))
    return {name: x.get_value().shape for name, x in variables_of(model)}


def variables_of(model: RPN) -> Iterator[tuple[str, nnx.Variable]]:
    """The variables of a network by their paths, with dots between the parts."""
    for path, node in nnx.iter_graph(model):
        if isinstance(node, nnx.Variable):
            yield ".".join(map(str, path)), node


def num_anchors(checkpoint: Checkpoint) -> int:
    """Number of anchors per cell; every one of them has four deltas."""
    number = max(_width(checkpoint, "head.deltas.kernel") // 4, 1)
    if number > _MAX_ANCHORS:  # a damaged shape would make as many Python objects
        raise ValueError(
            f"{checkpoint.path} needs at most {_MAX_ANCHORS} anchors per cell, got "
            f"{number}. Choose an intact file."
        )
    return number


def incomplete(checkpoint: Checkpoint, name: str) -> str:
    """The message for weights of a detector without the tensor of this name."""
    return (
        f"{checkpoint.path} needs all weights of a detector for proposals, got none "
        f"for {name}. Choose a complete file."
    )


def _width(checkpoint: Checkpoint, name: str) -> int:
    """Number of output channels of a convolution."""
    if name not in checkpoint.tensors:
        raise ValueError(incomplete(checkpoint, name))
    return (checkpoint.tensors[name].shape or (1,))[-1]
