"""Makes the network that weights belong to, found from their names and shapes."""

import dataclasses
from typing import NamedTuple

from ...core.config import RPNConfig
from ..backbone_registry import default_anchors
from ..network import RPN
from ..shapes_only import shapes_only
from .foreign_checkpoint import Checkpoint
from .loading import LoadReport, import_weights, match_shapes
from .network_shapes import (
    backbone_of,
    expected_shapes,
    incomplete,
    make_empty_model,
    num_anchors,
    shape_of,
)
from .systems import SYSTEMS


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

    >>> from flax import nnx
    >>> from rpn_jax import AnchorConfig
    >>> from rpn_jax.models import BackboneConfig, make_model
    >>> from rpn_jax.models.interop import checkpoint_of
    >>> narrow = BackboneConfig(name="tiny_fpn", out_features=8)
    >>> model = make_model(AnchorConfig(), backbone=narrow, rngs=nnx.Rngs(0))
    >>> found = make_foreign_model(checkpoint_of(model, "torchvision"))
    >>> found.model.feature_shapes((64, 96))[0], found.config.targets.num_samples
    ((16, 24), 256)
    """
    config = rules_of(checkpoint)
    shape = shape_of(checkpoint)._replace(num_logits=config.num_logits)
    # Shapes alone are made, because every variable gets a value from the checkpoint.
    model = shapes_only(
        lambda rngs: make_empty_model(shape, checkpoint.system, rngs, config.anchors)
    )
    report = import_weights(model, checkpoint)
    if report.missing:
        raise ValueError(incomplete(checkpoint, report.missing[0]))
    config = dataclasses.replace(
        config, num_convs=shape.num_convs, num_pointwise=shape.num_pointwise
    )
    return ForeignModel(model, config, report)


def check_complete(checkpoint: Checkpoint) -> None:
    """Refuses weights that are incomplete, without making the network.

    Args:
        checkpoint: the weights. Those of a classifier need the trunk alone.

    Raises:
        ValueError: a tensor is missing or has another shape; the message names it.

    >>> import numpy as np
    >>> from rpn_jax.models.interop import translate
    >>> weights = {"conv1.weight": np.zeros((64, 3, 7, 7))}
    >>> checkpoint = translate(weights, "torchvision_resnet")
    >>> check_complete(checkpoint)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    ValueError: tensors needs a known backbone: a ResNet of 18, 34, 50 or 101 ...
    """
    match_shapes(expected_shapes(checkpoint), checkpoint)


def rules_of(checkpoint: Checkpoint) -> RPNConfig:
    """The rules of the system, with the anchors that weights were trained for.

    Args:
        checkpoint: weights of a detector.

    Returns:
        The system's preset, or the variant whose anchors have the number of the head
        and the strides of the backbone. Anchors that the file states replace its own.

    Raises:
        ValueError: the system is a classifier, or none of its rules has such anchors.

    >>> from flax import nnx
    >>> from rpn_jax import AnchorConfig
    >>> from rpn_jax.models import BackboneConfig, make_model
    >>> from rpn_jax.models.interop import checkpoint_of
    >>> narrow = BackboneConfig(name="tiny_fpn", out_features=8)
    >>> model = make_model(AnchorConfig(), backbone=narrow, rngs=nnx.Rngs(0))
    >>> rules_of(checkpoint_of(model, "torchvision")).proposals.post_nms_top_k
    1000
    """
    system = SYSTEMS[checkpoint.system]
    if system.preset is None:
        raise ValueError(
            f"{checkpoint.path} has weights of {checkpoint.system}, a classifier: it "
            "has no RPN. Train one with `rpn-jax train --init-weights`."
        )
    needed = (
        num_anchors(checkpoint),
        default_anchors(backbone_of(checkpoint)).strides,
    )
    known = []
    for make in (system.preset, *system.variants):
        config = _with_anchors(make(), checkpoint)
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


def _with_anchors(config: RPNConfig, checkpoint: Checkpoint) -> RPNConfig:
    """The rules with the anchors that the file states, if it states any that fit."""
    found = checkpoint.anchors
    if found is None or len(found.sizes) != len(config.anchors.strides):
        return config
    anchors = dataclasses.replace(
        config.anchors,
        sizes=found.sizes,
        aspect_ratios=found.ratios,
        scales_per_octave=1,
    )
    return dataclasses.replace(config, anchors=anchors)
