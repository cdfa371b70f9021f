"""The formulas of the two losses, and what every anchor weighs in their sums.

This is where label -1 is masked: `masked_losses` gives an anchor that was not sampled a
weight of 0, and replaces its prediction by 0 before the loss is computed.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from ._typing import Array, Bool, Float, Int
from .boxes import decode_boxes
from .iou_losses import iou_loss
from .loss_config import LossConfig, Normalizer
from .output import RPNOutput
from .quality import quality_targets
from .quality_losses import quality_focal_loss, varifocal_loss
from .targets import Targets


class RPNLosses(NamedTuple):
    """The two losses of a batch, weighted as `LossConfig` says.

    Attributes:
        objectness: loss of telling objects from background; `rpn_loss_cls` of jwyang.
        box: loss of the positives' deltas; `rpn_loss_box` of jwyang.

    >>> RPNLosses(objectness=jnp.array(0.5), box=jnp.array(0.25)).total.item()
    0.75
    """

    objectness: Float[jax.Array, ""]
    box: Float[jax.Array, ""]

    @property
    def total(self) -> Float[jax.Array, ""]:
        """The sum of both, which is the value to differentiate."""
        return self.objectness + self.box


class ClassWeights(NamedTuple):
    """What one positive and one negative of each image weigh in a sum over anchors.

    Attributes:
        positive: `[b 1]` weight of an anchor with label 1.
        negative: `[b 1]` weight of an anchor with label 0.
    """

    positive: Float[jax.Array, "b 1"]
    negative: Float[jax.Array, "b 1"]

    def of(self, labels: Int[Array, "b n"]) -> Float[jax.Array, "b n"]:
        """The weight of every anchor; 0 where the label is -1."""
        negatives = jnp.where(labels == 0, self.negative, 0.0)
        return jnp.where(labels == 1, self.positive, negatives)


def masked_losses(
    output: RPNOutput,
    targets: Targets,
    anchors: Float[Array, "b n 4"] | None,
    config: LossConfig,
) -> RPNLosses:
    """Both losses, summed over all rows that are given.

    Args:
        output: one logit per row, `[b n]`, and deltas; rows with label -1 may hold
            anything.
        targets: labels and deltas of the same rows.
        anchors: the anchor of every row, for the IoU losses; None uses a unit square.
        config: the losses and their weights.
    """
    labels = targets.labels
    # A weight of 0 stops neither a NaN nor its gradient. So rows with label -1 get a
    # finite prediction first, and the weight 0 second.
    logits = jnp.where(labels >= 0, output.logits, 0.0)
    objectness = _objectness_terms(logits, output.deltas, targets, config)
    weights = objectness_class_weights(labels, config)
    box = _box_terms(output.deltas, targets, anchors, config)
    box_weight = box_class_weights(labels, config).positive
    return RPNLosses(
        config.objectness_weight * jnp.sum(weights.of(labels) * objectness),
        config.box_weight * jnp.sum(jnp.where(labels == 1, box_weight, 0.0) * box),
    )


def objectness_class_weights(
    labels: Int[Array, "b n"], config: LossConfig
) -> ClassWeights:
    """The weights of the objectness loss. In OLN, negatives have none."""
    weights = class_weights(labels, objectness_normalizer(config), config.num_samples)
    if config.objectness in ("oln_iou", "oln_centerness"):
        return weights._replace(negative=jnp.zeros_like(weights.negative))
    return weights


def objectness_normalizer(config: LossConfig) -> Normalizer:
    """What divides the objectness loss."""
    return (
        config.normalizer if config.objectness == "label" else config.quality_normalizer
    )


def box_normalizer(config: LossConfig) -> Normalizer | None:
    """What divides the box loss; None if `box_positive_weight` sets the weights."""
    if config.box_positive_weight is not None:
        return None
    return config.box_normalizer or config.normalizer


def box_class_weights(labels: Int[Array, "b n"], config: LossConfig) -> ClassWeights:
    """The weights of the box loss: the outside weights of py-faster-rcnn."""
    normalizer = config.box_normalizer or config.normalizer
    return class_weights(
        labels, normalizer, config.num_samples, config.box_positive_weight
    )


def class_weights(
    labels: Int[Array, "b n"],
    normalizer: Normalizer,
    num_samples: int,
    positive_weight: float | None = None,
) -> ClassWeights:
    """One divided by what `normalizer` names, or shares that `positive_weight` sets.

    Args:
        labels: 1, 0 or -1 for every anchor.
        normalizer: the divisor; see `LossConfig`.
        num_samples: samples per image that `"fixed"` assumes.
        positive_weight: share of all positives of an image together, if not None; its
            negatives have the rest, and `normalizer` has no effect.
    """
    positives, negatives = (_count(labels == label) for label in (1, 0))
    num_images = labels.shape[0]
    if positive_weight is not None:
        shares = ((positive_weight, positives), (1.0 - positive_weight, negatives))
        return ClassWeights(*(w / jnp.maximum(n, 1.0) / num_images for w, n in shares))
    counts = batch_counts(normalizer, positives, negatives)
    if counts is not None:
        divisor = jnp.sum(counts)
    elif normalizer == "image":
        divisor = num_images * jnp.maximum(positives + negatives, 1.0)
    else:
        divisor = jnp.float32(num_samples * num_images)
    weight = jnp.broadcast_to(1.0 / jnp.maximum(divisor, 1.0), positives.shape)
    return ClassWeights(weight, weight)


def batch_counts(
    normalizer: Normalizer | None, positives: jax.Array, negatives: jax.Array
) -> jax.Array | None:
    """What every image adds to a divisor that counts anchors of the whole batch.

    Args:
        normalizer: the divisor; see `LossConfig`.
        positives: sampled positives of every image.
        negatives: sampled negatives of every image.

    Returns:
        A number per image; None if the divisor is not such a sum.
    """
    if normalizer == "batch":
        return positives + negatives
    if normalizer == "batch_clamped":
        ones = jnp.ones_like(positives)
        return jnp.maximum(positives, ones) + jnp.maximum(negatives, ones)
    return positives if normalizer == "positives" else None


def _count(mask: Bool[Array, "b n"]) -> Float[jax.Array, "b 1"]:
    """Set rows per image. Integers are summed: float32 is not exact above 2 ** 24."""
    count = jnp.sum(mask, axis=1, keepdims=True, dtype=jnp.int32)
    return count.astype(jnp.float32)


def _objectness_terms(
    logits: Float[jax.Array, "b n"],
    deltas: Float[Array, "b n 4"],
    targets: Targets,
    config: LossConfig,
) -> Float[jax.Array, "b n"]:
    """The objectness loss of every anchor, before its weight."""
    if config.objectness != "label":
        return _quality_terms(logits, quality_targets(deltas, targets, config), config)
    labels = (targets.labels == 1).astype(jnp.float32)
    if config.focal_gamma is None:
        return optax.sigmoid_binary_cross_entropy(logits, labels)
    return optax.sigmoid_focal_loss(
        logits, labels, alpha=config.focal_alpha, gamma=config.focal_gamma
    )


def _quality_terms(
    logits: Float[jax.Array, "b n"],
    quality: Float[jax.Array, "b n"],
    config: LossConfig,
) -> Float[jax.Array, "b n"]:
    if config.objectness in ("oln_iou", "oln_centerness"):
        # `loss_objectness` of OLN, which is L1 of the probability.
        return _smooth_l1(jax.nn.sigmoid(logits) - quality, config.oln_beta)
    if config.quality_loss == "quality_focal":
        return quality_focal_loss(logits, quality, beta=config.quality_beta)
    return varifocal_loss(
        logits, quality, alpha=config.varifocal_alpha, gamma=config.quality_beta
    )


def _box_terms(
    predicted: Float[Array, "b n 4"],
    targets: Targets,
    anchors: Float[Array, "b n 4"] | None,
    config: LossConfig,
) -> Float[jax.Array, "b n"]:
    """The box loss of every positive; finite, and without gradient, everywhere else."""
    is_positive = (targets.labels == 1)[..., None]
    predicted = jnp.where(is_positive, predicted, 0.0)
    target = jnp.where(is_positive, targets.deltas, 0.0)
    if config.box_loss == "smooth_l1":
        return jnp.sum(_smooth_l1(predicted - target, config.beta), axis=-1)
    if anchors is None:
        # GIoU is a ratio of areas, so any anchor gives the same: take the unit square.
        anchors = jnp.broadcast_to(jnp.array([0.0, 0.0, 1.0, 1.0]), predicted.shape)
    decoded = [
        decode_boxes(
            x.reshape(-1, 4), anchors.reshape(-1, 4), weights=config.delta_weights
        )
        for x in (predicted, target)
    ]
    return iou_loss(*decoded, kind=config.box_loss).reshape(predicted.shape[:2])


def _smooth_l1(
    difference: Float[jax.Array, "*b_n"], beta: float
) -> Float[jax.Array, "*b_n"]:
    if beta == 0.0:
        return jnp.abs(difference)
    return optax.huber_loss(difference, delta=beta) / beta
