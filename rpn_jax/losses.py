"""The two losses of the RPN, and what a training loop logs beside them."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from ._typing import Array, Bool, Float, Int
from .anchors import AnchorGrid
from .boxes import decode_boxes
from .config import LossConfig, Normalizer
from .iou_losses import iou_loss
from .matching import Anchors
from .output import RPNOutput, objectness_logits
from .targets import Targets


class RPNLosses(NamedTuple):
    """The two losses of a batch, weighted as `LossConfig` says.

    Attributes:
        objectness: of telling objects from background: `rpn_loss_cls` of jwyang.
        box: of the deltas of the positives: `rpn_loss_box` of jwyang.
    """

    objectness: Float[jax.Array, ""]
    box: Float[jax.Array, ""]

    @property
    def total(self) -> Float[jax.Array, ""]:
        """Their sum, which is what to differentiate."""
        return self.objectness + self.box


class RPNMetrics(NamedTuple):
    """Counts to log.

    Attributes:
        num_positive: sampled positives of the batch.
        num_negative: sampled negatives of the batch.
        accuracy: share of the sampled anchors whose logit has the right sign.
        positive_recall: share of the sampled positives whose logit is above 0.
    """

    num_positive: Int[jax.Array, ""]
    num_negative: Int[jax.Array, ""]
    accuracy: Float[jax.Array, ""]
    positive_recall: Float[jax.Array, ""]


class BoxLossWeights(NamedTuple):
    """The weights of smooth L1 in the form of py-faster-rcnn and jwyang.

    Attributes:
        inside: `[b n 4]` factors of the difference: 1 at positives, 0 elsewhere.
        outside: `[b n 4]` factors of the loss: 1 over the normalizer at sampled anchors,
            positive or negative, and 0 elsewhere.
    """

    inside: Float[jax.Array, "*b_n 4"]
    outside: Float[jax.Array, "*b_n 4"]


def rpn_loss(
    output: RPNOutput,
    targets: Targets,
    *,
    anchors: Anchors | Float[Array, "b n 4"] | None = None,
    config: LossConfig = LossConfig(),
) -> RPNLosses:
    """The objectness loss over sampled anchors and the box loss over positives.

    Eq. 1 of "Faster R-CNN" by Ren et al. (https://arxiv.org/abs/1506.01497). Every
    anchor is in the arrays; those that were not sampled have a weight of 0, and may hold
    anything, NaN included. No gradient passes through `targets`.

    Args:
        output: logits `[b n]` or `[b n 2]` and deltas `[b n 4]`; the batch axis may be
            absent. Under `vmap` a batch normalizer sees one image.
        targets: labels `[b n]` and deltas `[b n 4]`.
        anchors: a grid, or boxes `[n 4]` or `[b n 4]`. Needed for the `"diou"` and
            `"ciou"` losses alone: GIoU does not depend on them.
        config: which losses, and what they are divided by.

    Returns:
        The two scalars, float32. Without any sampled anchor both are 0.

    Raises:
        ValueError: shapes disagree, or `anchors` are missing.
    """
    targets = jax.lax.stop_gradient(targets)
    labels = targets.labels
    logits = objectness_logits(output)
    _check_shapes(logits, output, targets)
    positive, negative = _class_weights(
        labels, config.normalizer, config.objectness_positive_weight, config.num_samples
    )
    objectness = _objectness_loss(jnp.where(labels >= 0, logits, 0.0), labels == 1, config)
    weights = jnp.where(labels == 1, positive, jnp.where(labels == 0, negative, 0.0))
    box_positive, _ = _box_class_weights(labels, config)
    box = _box_loss(output.deltas, targets, anchors, config)
    box_weights = jnp.where(labels == 1, box_positive, 0.0)
    return RPNLosses(
        objectness=config.objectness_weight * jnp.sum(weights * objectness),
        box=config.box_weight * jnp.sum(box_weights * box),
    )


def box_loss_weights(
    labels: Int[Array, "*b_n"], *, config: LossConfig = LossConfig()
) -> BoxLossWeights:
    """The inside and outside weights of smooth L1, as the tutorial on jwyang has them.

    `rpn_loss` computes the same sum without them:
    `sum(outside * smooth_l1(inside * predicted, inside * target))`.

    Args:
        labels: 1, 0 or -1 for every anchor of a batch, or of an image.
        config: the normalizer, `box_positive_weight` and `inside_weights`.
    """
    positive, negative = _box_class_weights(labels, config)
    labels = jnp.asarray(labels)
    factors = jnp.array(config.inside_weights, jnp.float32)
    inside = jnp.where((labels == 1)[..., None], jnp.broadcast_to(factors, (*labels.shape, 4)), 0.0)
    outside = jnp.where(labels == 1, positive, jnp.where(labels == 0, negative, 0.0))
    return BoxLossWeights(inside, jnp.broadcast_to(outside[..., None], inside.shape))


def rpn_metrics(output: RPNOutput, targets: Targets) -> RPNMetrics:
    """Counts of the sampled anchors and how many are on the right side.

    Args:
        output: the predictions of a batch, or of an image.
        targets: the targets of the same.

    Returns:
        Scalars; shares of nothing are 0.
    """
    is_positive, is_negative = targets.labels == 1, targets.labels == 0
    says_object = objectness_logits(output) > 0.0
    count = [jnp.sum(x, dtype=jnp.int32) for x in (is_positive, is_negative)]
    right = [
        jnp.sum(x, dtype=jnp.int32)
        for x in (is_positive & says_object, is_negative & ~says_object)
    ]
    return RPNMetrics(
        num_positive=count[0],
        num_negative=count[1],
        accuracy=(right[0] + right[1]) / jnp.maximum(count[0] + count[1], 1),
        positive_recall=right[0] / jnp.maximum(count[0], 1),
    )


def _check_shapes(logits: Float[jax.Array, "..."], output: RPNOutput, targets: Targets) -> None:
    shapes = [x.shape for x in (logits, output.deltas[..., 0], targets.labels)]
    shapes.append(targets.deltas[..., 0].shape)
    if len(set(shapes)) > 1 or output.deltas.shape[-1] != 4 or targets.deltas.shape[-1] != 4:
        raise ValueError(
            "rpn_loss needs logits [b n] or [b n 2], deltas [b n 4] and targets with "
            f"labels [b n] and deltas [b n 4], got logits {output.logits.shape}, deltas "
            f"{output.deltas.shape}, labels {targets.labels.shape} and target deltas "
            f"{targets.deltas.shape}."
        )


def _class_weights(
    labels: Int[Array, "*b_n"],
    normalizer: Normalizer,
    positive_weight: float | None,
    num_samples: int,
) -> tuple[Float[jax.Array, "..."], Float[jax.Array, "..."]]:
    """What one positive and one negative of each image weigh, `[b 1]`."""
    positives, negatives = (
        jnp.sum(labels == label, axis=-1, keepdims=True, dtype=jnp.int32).astype(jnp.float32)
        for label in (1, 0)
    )
    num_images = positives.size
    if positive_weight is not None:
        shares = (positive_weight, positives), (1.0 - positive_weight, negatives)
        positive, negative = (s / jnp.maximum(n, 1.0) / num_images for s, n in shares)
        return positive, negative
    divisor = {
        "batch": lambda: jnp.sum(positives + negatives),
        "image": lambda: num_images * jnp.maximum(positives + negatives, 1.0),
        "fixed": lambda: jnp.float32(num_samples * num_images),
        "batch_clamped": lambda: jnp.sum(
            jnp.maximum(positives, 1.0) + jnp.maximum(negatives, 1.0)
        ),
        "positives": lambda: jnp.sum(positives),
    }[normalizer]()
    weight = jnp.broadcast_to(1.0 / jnp.maximum(divisor, 1.0), positives.shape)
    return weight, weight


def _box_class_weights(labels, config):
    normalizer = config.box_normalizer or config.normalizer
    return _class_weights(labels, normalizer, config.box_positive_weight, config.num_samples)


def _objectness_loss(
    logits: Float[jax.Array, "..."], is_positive: Bool[jax.Array, "..."], config: LossConfig
) -> Float[jax.Array, "..."]:
    labels = is_positive.astype(jnp.float32)
    if config.focal_gamma is None:
        return optax.sigmoid_binary_cross_entropy(logits, labels)
    return optax.sigmoid_focal_loss(
        logits, labels, alpha=config.focal_alpha, gamma=config.focal_gamma
    )


def _box_loss(
    predicted: Float[Array, "*b_n 4"],
    targets: Targets,
    anchors: Anchors | Float[Array, "b n 4"] | None,
    config: LossConfig,
) -> Float[jax.Array, "*b_n"]:
    """The loss of every positive; finite, and without gradient, everywhere else."""
    is_positive = (targets.labels == 1)[..., None]
    # Finite values first: a weight of 0 would not stop a NaN, nor its gradient.
    predicted = jnp.where(is_positive, jnp.asarray(predicted, jnp.float32), 0.0)
    target = jnp.where(is_positive, targets.deltas, 0.0)
    if config.box_loss == "smooth_l1":
        factors = jnp.array(config.inside_weights, jnp.float32)
        difference = (predicted - target) * jnp.broadcast_to(factors, predicted.shape)
        return jnp.sum(_smooth_l1(difference, config.beta), axis=-1)
    boxes = _anchor_boxes(anchors, predicted.shape, config)
    decoded = [
        decode_boxes(x.reshape(-1, 4), boxes, weights=config.delta_weights)
        for x in (predicted, target)
    ]
    return iou_loss(*decoded, kind=config.box_loss).reshape(predicted.shape[:-1])


def _smooth_l1(difference: Float[jax.Array, "..."], beta: float) -> Float[jax.Array, "..."]:
    if beta == 0.0:
        return jnp.abs(difference)
    return optax.huber_loss(difference, delta=beta) / beta


def _anchor_boxes(
    anchors: Anchors | Float[Array, "b n 4"] | None, shape: tuple[int, ...], config: LossConfig
) -> Float[jax.Array, "n 4"]:
    """The anchor of every row, for a batch as for an image."""
    if anchors is None and config.box_loss == "giou":
        # GIoU is a ratio of areas, so that any anchor serves: here the unit square.
        return jnp.broadcast_to(jnp.array([0.0, 0.0, 1.0, 1.0]), (math.prod(shape[:-1]), 4))
    if anchors is None:
        raise ValueError(
            f"rpn_loss needs anchors for box_loss={config.box_loss!r}, got None. Pass "
            "the AnchorGrid, or boxes [n 4], that the targets were made with."
        )
    boxes = anchors.boxes if isinstance(anchors, AnchorGrid) else jnp.asarray(anchors)
    if boxes.shape not in (shape, shape[-2:]):
        raise ValueError(
            f"rpn_loss needs an anchor for every prediction, got anchors {boxes.shape} for "
            f"deltas {shape}."
        )
    return jnp.broadcast_to(boxes, shape).reshape(-1, 4)
