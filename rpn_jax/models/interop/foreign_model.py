"""Makes the network that weights belong to, found from their names and shapes."""

import re
from typing import NamedTuple

from flax import nnx

from ...core.anchor_config import AnchorConfig
from ...core.config import RPNConfig
from ..backbone_config import BackboneConfig
from ..backbone_registry import backbone_spec, default_anchors
from ..network import RPN, make_model
from .foreign_checkpoint import Checkpoint
from .loading import LoadReport, import_weights, match_variables, variables_of
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


class ForeignModel(NamedTuple):
    """A network with the weights of a file, and the rules to use it with.

    Attributes:
        model: the network, in which every weight was loaded.
        config: rules of the system that the weights come from.
        report: which tensors were loaded, and which were left out.
    """

    model: RPN
    config: RPNConfig
    report: LoadReport


def make_foreign_model(checkpoint: Checkpoint) -> ForeignModel:
    """Makes the network that weights belong to, and loads them.

    Args:
        checkpoint: weights of a detector: backbone, pyramid and RPN head.

    Returns:
        The network with the rules of its system.

    Raises:
        ValueError: a tensor is missing, has another shape, or does not fit the rules of
            the system. The message names the tensor.
    """
    config = rules_of(checkpoint)
    # Shapes alone are made, because every variable gets a value from the checkpoint.
    model = nnx.eval_shape(
        lambda: make_empty_model(checkpoint, config.anchors, config.num_logits)
    )
    report = import_weights(model, checkpoint)
    if report.missing:
        raise ValueError(_incomplete(checkpoint, report.missing[0]))
    return ForeignModel(model, config, report)


def check_complete(checkpoint: Checkpoint) -> None:
    """Refuses weights of a detector that are incomplete, without making the network.

    Args:
        checkpoint: the weights. Those of a classifier, without a head, always pass.

    Raises:
        ValueError: a tensor is missing or has another shape; the message names it.
    """
    if not any(name.startswith("head.") for name in checkpoint.tensors):
        return
    # Anchors with the strides of the backbone and the number that the head has: their
    # shapes do not matter here, so even heads that no preset has can be checked.
    strides = default_anchors(backbone_of(checkpoint)).strides
    number = _num_anchors(checkpoint)
    anchors = AnchorConfig(
        sizes=(1.0,) * len(strides),
        strides=strides,
        aspect_ratios=tuple(float(i + 1) for i in range(number)),
    )
    num_logits = 2 if _width(checkpoint, "head.logits.kernel") >= 2 * number else 1
    model = nnx.eval_shape(lambda: make_empty_model(checkpoint, anchors, num_logits))
    match_variables(dict(variables_of(model)), checkpoint)


def make_empty_model(
    checkpoint: Checkpoint, anchors: AnchorConfig, num_logits: int
) -> RPN:
    """Makes a network with the layers that weights have, but with random weights.

    Args:
        checkpoint: weights of a detector.
        anchors: anchors of its system.
        num_logits: number of logits per anchor in its system.

    Returns:
        The network, with the strides, norms and preprocessing of the system.

    Raises:
        ValueError: the weights do not belong to a detector with a known backbone.
    """
    tensors, system = checkpoint.tensors, SYSTEMS[checkpoint.system]
    backbone = backbone_of(checkpoint)
    spec = backbone_spec(backbone)
    # Frozen norms have statistics, group norms have none.
    has_frozen = not spec.has_norms or any(x.endswith(".mean") for x in tensors)
    # Names and shapes determine the options, because files do not describe the network.
    pyramid = "backbone.fpn.inner_blocks.0.0.kernel"
    convs = [x for x in tensors if re.fullmatch(r"head\.convs\.\d+\.kernel", x)]
    config = BackboneConfig(
        name=backbone,
        norm="frozen" if has_frozen else "group",
        out_features=_width(checkpoint, pyramid) if spec.has_pyramid else None,
        fpn_norm="backbone.fpn.layer_blocks.0.1.mean" in tensors,
    )
    return make_model(
        anchors,
        hidden_features=_width(checkpoint, "head.convs.0.kernel"),
        num_logits=num_logits,
        num_convs=len(convs),
        **system.options(config),
        rngs=nnx.Rngs(0),
    )


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


def rules_of(checkpoint: Checkpoint) -> RPNConfig:
    """The rules of the system, with the anchors that weights were trained for.

    Args:
        checkpoint: weights of a detector.

    Returns:
        The system's preset, or the variant whose anchors have the number of the head
        and the strides of the backbone.

    Raises:
        ValueError: the system is a classifier, or none of its rules has such anchors.
    """
    system = SYSTEMS[checkpoint.system]
    if system.preset is None:
        raise ValueError(
            f"{checkpoint.path} has weights of {checkpoint.system}, a classifier: it "
            "has no RPN. Train one with `rpn-jax train --init-weights`."
        )
    needed = _num_anchors(checkpoint), default_anchors(backbone_of(checkpoint)).strides
    known = []
    for make in (system.preset, *system.variants):
        config = make()
        known.append((config.anchors.anchors_per_cell, config.anchors.strides))
        if known[-1] == needed:
            return config
    listed = " or ".join(f"{number} at strides {strides}" for number, strides in known)
    raise ValueError(
        f"{checkpoint.path}: {checkpoint.names['head.deltas.kernel']} is for "
        f"{needed[0]} anchors per cell at strides {needed[1]}, and {checkpoint.system} "
        f"has {listed}. Make the network with make_model and an AnchorConfig that has "
        "them, and fill it with load_weights."
    )


def _num_anchors(checkpoint: Checkpoint) -> int:
    """Number of anchors per cell; every one of them has four deltas."""
    return max(_width(checkpoint, "head.deltas.kernel") // 4, 1)


def _width(checkpoint: Checkpoint, name: str) -> int:
    """Number of output channels of a convolution."""
    if name not in checkpoint.tensors:
        raise ValueError(_incomplete(checkpoint, name))
    return checkpoint.tensors[name].shape[-1]


def _incomplete(checkpoint: Checkpoint, name: str) -> str:
    return (
        f"{checkpoint.path} needs all weights of a detector for proposals, got none "
        f"for {name}. Choose a complete file."
    )
