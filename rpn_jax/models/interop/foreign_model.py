"""The network that weights are of, as their names and shapes tell."""

import dataclasses
import re
from typing import NamedTuple

from flax import nnx

from ... import presets
from ...core.anchor_config import AnchorConfig
from ...core.config import RPNConfig
from ..backbone import default_anchors
from ..network import RPN, make_model
from .foreign_checkpoint import Checkpoint
from .loading import LoadReport, import_weights, match_variables, variables_of
from .systems import SYSTEMS

_DEPTHS = {(2, False): 18, (6, False): 34, (6, True): 50, (23, True): 101}
_TELLING = {  # a tensor that no other backbone has
    "backbone.body.28.kernel": "vgg16",
    "backbone.body.1.conv.0.0.kernel": "mobilenet_v2_fpn",
    "backbone.body.1.block.0.0.kernel": "mobilenet_v3_large_fpn",
    "backbone.body.1.0.conv1.kernel": "tiny_fpn",
}


class ForeignModel(NamedTuple):
    """A network with the weights of a file, and how it is used.

    Attributes:
        model: with all of its weights.
        config: the rules of its system.
        report: what was loaded and left out.
    """

    model: RPN
    config: RPNConfig
    report: LoadReport


def make_foreign_model(checkpoint: Checkpoint) -> ForeignModel:
    """The network that weights are of, with these weights.

    Args:
        checkpoint: of a detector: backbone, pyramid and RPN head.

    Returns:
        The network with the rules of its system.

    Raises:
        ValueError: something is missing, is of another shape, or does not fit the rules
            of the system. The message names the tensor.
    """
    config = rules_of(checkpoint)
    model = nnx.eval_shape(lambda: make_empty_model(checkpoint, config.anchors))
    report = import_weights(model, checkpoint)
    if report.missing:
        raise ValueError(
            f"{checkpoint.path} needs all weights of a detector for proposals, and has "
            f"no {report.missing[0]}."
        )
    return ForeignModel(model, config, report)


def check_complete(checkpoint: Checkpoint) -> None:
    """Sees whether weights are all of a detector, without making it.

    Args:
        checkpoint: the weights; those of a classifier are as they are.

    Raises:
        ValueError: a tensor is missing or of another shape; the message names it.
    """
    if not any(name.startswith("head.") for name in checkpoint.tensors):
        return
    usual, number = default_anchors(backbone_of(checkpoint)), _num_anchors(checkpoint)
    anchors = AnchorConfig(
        sizes=(1.0,) * len(usual.strides),
        strides=usual.strides,
        aspect_ratios=tuple(float(i + 1) for i in range(number)),
    )
    model = nnx.eval_shape(lambda: make_empty_model(checkpoint, anchors))
    match_variables(dict(variables_of(model)), checkpoint)


def make_empty_model(checkpoint: Checkpoint, anchors: AnchorConfig) -> RPN:
    """A network of the kind that weights are of, with random weights.

    Args:
        checkpoint: of a detector.
        anchors: of its system.

    Returns:
        The network, with the strides, norms and preprocessing of the system.

    Raises:
        ValueError: the checkpoint is not of a detector with a known backbone.
    """
    tensors, system = checkpoint.tensors, SYSTEMS[checkpoint.system]
    backbone = backbone_of(checkpoint)
    has_frozen = backbone == "vgg16" or any(name.endswith(".mean") for name in tensors)
    has_fpn = backbone.endswith("_fpn")
    pyramid = "backbone.fpn.inner_blocks.0.0.kernel"
    num_logits = _width(checkpoint, "head.logits.kernel") // _num_anchors(checkpoint)
    return make_model(
        anchors,
        backbone=backbone,
        norm="frozen" if has_frozen else "group",
        out_features=_width(checkpoint, pyramid) if has_fpn else None,
        fpn_norm="backbone.fpn.layer_blocks.0.1.mean" in tensors,
        hidden_features=_width(checkpoint, "head.convs.0.kernel"),
        num_logits=min(max(num_logits, 1), 2),
        num_convs=sum(
            bool(re.fullmatch(r"head\.convs\.\d+\.kernel", x)) for x in tensors
        ),
        **system.options(backbone),
        rngs=nnx.Rngs(0),
    )


def backbone_of(checkpoint: Checkpoint) -> str:
    """The name in `BACKBONES` of what weights are of.

    Args:
        checkpoint: the weights.

    Raises:
        ValueError: there is none.
    """
    tensors = checkpoint.tensors
    if "backbone.body.layer3.0.conv1.kernel" in tensors:
        has_fpn = any(name.startswith("backbone.fpn.") for name in tensors)
        block = re.compile(r"backbone\.body\.layer3\.\d+\.conv1\.kernel")
        number = sum(bool(block.fullmatch(name)) for name in tensors)
        is_bottleneck = "backbone.body.layer3.0.conv3.kernel" in tensors
        if depth := _DEPTHS.get((number, is_bottleneck)):
            return f"resnet{depth}_{'fpn' if has_fpn else 'c4'}"
    for name, backbone in _TELLING.items():
        if name in tensors:
            return backbone
    raise ValueError(
        f"{checkpoint.path} has no backbone that is known: neither a ResNet of 18, 34, "
        f"50 or 101 layers nor {', '.join(_TELLING.values())}."
    )


def rules_of(checkpoint: Checkpoint) -> RPNConfig:
    """The rules of the system, with the anchors that weights were trained for.

    Args:
        checkpoint: of a detector.

    Raises:
        ValueError: the system is one of classifiers, or has another number of anchors.
    """
    preset = SYSTEMS[checkpoint.system].preset
    if preset is None:
        raise ValueError(
            f"{checkpoint.path} has weights of {checkpoint.system}, a classifier: it "
            "has no RPN. Train one with `rpn-jax train --init-weights`."
        )
    config, number = preset(), _num_anchors(checkpoint)
    if backbone_of(checkpoint) == "mobilenet_v3_large_fpn":
        config = _with_mobilenet_v3(config, checkpoint.system)
    if checkpoint.system.startswith("jwyang") and number == 12:
        config = presets.jwyang_res101_coco()
    if config.anchors.anchors_per_cell != number:
        raise ValueError(
            f"{checkpoint.path}: {checkpoint.names['head.deltas.kernel']} is for "
            f"{number} anchors in a cell, and {checkpoint.system} has "
            f"{config.anchors.anchors_per_cell}. Make the network with its own "
            "AnchorConfig by make_model, and fill it by load_weights."
        )
    return config


def _with_mobilenet_v3(config: RPNConfig, system: str) -> RPNConfig:
    """What torchvision changes for this backbone."""
    top_k = 150 if system == "torchvision_320" else 1000
    return dataclasses.replace(
        config,
        anchors=dataclasses.replace(
            default_anchors("mobilenet_v3_large_fpn"), rounding="corners"
        ),
        proposals=dataclasses.replace(
            config.proposals,
            score_threshold=0.05,
            pre_nms_top_k=top_k,
            post_nms_top_k=top_k,
        ),
    )


def _num_anchors(checkpoint: Checkpoint) -> int:
    return max(_width(checkpoint, "head.deltas.kernel") // 4, 1)


def _width(checkpoint: Checkpoint, name: str) -> int:
    if name not in checkpoint.tensors:
        raise ValueError(
            f"{checkpoint.path} needs all weights of a detector for proposals, and has "
            f"no {name}."
        )
    return checkpoint.tensors[name].shape[-1]
