"""The weighted sums behind the two losses, over all anchors or the sampled alone."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from ._typing import Array, Bool, Float, Int
from .boxes import decode_boxes
from .config import LossConfig, Normalizer
from .iou_losses import iou_loss

_BLOCK = 32  # rows that a search for sampled anchors looks at together


class Predictions(NamedTuple):
    """What is differentiated: logits `[b n]` of being an object, deltas `[b n 4]`."""

    logits: Float[jax.Array, "b n"]
    deltas: Float[jax.Array, "b n 4"]


class Rows(NamedTuple):
    """What is not: labels `[b n]`, deltas `[b n 4]`, anchors `[b n 4]` or None."""

    labels: Int[jax.Array, "b n"]
    deltas: Float[jax.Array, "b n 4"]
    anchors: Float[jax.Array, "b n 4"] | None


Losses = tuple[Float[jax.Array, ""], Float[jax.Array, ""]]  # (objectness, box)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def weighted_losses(predictions: Predictions, rows: Rows, config: LossConfig) -> Losses:
    """The objectness loss and the box loss of a batch.

    On a CPU only the sampled rows are visited, as long as there are not more of them
    than `config.num_samples` an image; the result does not depend on that. It has a
    derivative of its own because the one of a condition would keep every row.
    """
    return _values_and_slopes(predictions, rows, config)[0]


@weighted_losses.defjvp
def _weighted_losses_jvp(config, primals, tangents):
    predictions, rows = primals
    losses, slopes = _values_and_slopes(predictions, rows, config)
    changes = jax.tree.map(
        lambda slope, change: jnp.sum(slope * change), slopes, tangents[0]
    )
    return losses, tuple(changes)


def _values_and_slopes(
    predictions: Predictions, rows: Rows, config: LossConfig
) -> tuple[Losses, Predictions]:
    """The losses, and the gradient of each by the one prediction that it depends on."""
    if rows.labels.shape[1] <= config.num_samples:
        return _over_all(predictions, rows, config)
    return jax.lax.platform_dependent(
        predictions,
        rows,
        cpu=functools.partial(_over_sampled, config=config),
        default=functools.partial(_over_all, config=config),
    )


def _over_all(
    predictions: Predictions, rows: Rows, config: LossConfig
) -> tuple[Losses, Predictions]:
    def total(predictions):
        losses = _losses(predictions, rows, config)
        return losses[0] + losses[1], losses

    slopes, losses = jax.grad(total, has_aux=True)(predictions)
    return losses, slopes


def _over_sampled(
    predictions: Predictions, rows: Rows, config: LossConfig
) -> tuple[Losses, Predictions]:
    index = _first_sampled(rows.labels, config.num_samples + 1)
    take, put = jax.vmap(lambda x, i: x[i]), jax.vmap(lambda x, i, v: x.at[i].set(v))
    is_full = (take(rows.labels, index) >= 0).all(axis=1)

    def over_chosen(predictions, rows):
        few, few_rows = jax.tree.map(lambda x: take(x, index), (predictions, rows))
        losses, slopes = _over_all(few, few_rows, config)
        zeros = jax.tree.map(jnp.zeros_like, predictions)
        return losses, jax.tree.map(lambda x, v: put(x, index, v), zeros, slopes)

    over_all = functools.partial(_over_all, config=config)
    return jax.lax.cond(is_full.any(), over_all, over_chosen, predictions, rows)


def _first_sampled(labels: Int[Array, "b n"], number: int) -> Int[jax.Array, "b k"]:
    """Rows of so many sampled anchors, or of all with others after them.

    First the blocks that hold any, then the anchors in those: a fifth of the time that
    one search over all anchors takes.
    """
    num_images, num_rows = labels.shape
    num_blocks = -(-num_rows // _BLOCK)
    padding = ((0, 0), (0, num_blocks * _BLOCK - num_rows))
    blocks = jnp.pad(labels >= 0, padding).reshape(num_images, num_blocks, _BLOCK)
    holds_any = blocks.any(axis=2).astype(jnp.float32)
    block = jax.lax.top_k(holds_any, min(number, num_blocks))[1]
    rows = block[:, :, None] * _BLOCK + jnp.arange(_BLOCK)[None, None, :]
    rows = rows.reshape(num_images, -1)
    is_row, rows = rows < num_rows, jnp.minimum(rows, num_rows - 1)
    is_sampled = (jnp.take_along_axis(labels, rows, axis=1) >= 0) & is_row
    chosen = jax.lax.top_k(is_sampled.astype(jnp.float32), number)[1]
    return jnp.take_along_axis(rows, chosen, axis=1)


def _losses(predictions: Predictions, rows: Rows, config: LossConfig) -> Losses:
    labels = rows.labels
    # Finite values first: a weight of 0 would not stop a NaN, nor its gradient.
    logits = jnp.where(labels >= 0, predictions.logits, 0.0)
    objectness = _objectness_terms(logits, labels == 1, config)
    weights = class_weights(
        labels, config.normalizer, config.objectness_positive_weight, config.num_samples
    )
    box_weights = box_class_weights(labels, config)
    box = _box_terms(predictions.deltas, rows, config)
    return (
        config.objectness_weight * jnp.sum(weights.of(labels) * objectness),
        config.box_weight
        * jnp.sum(jnp.where(labels == 1, box_weights.positive, 0.0) * box),
    )


class ClassWeights(NamedTuple):
    """What one positive and one negative of each image weigh, `[b 1]`."""

    positive: Float[jax.Array, "b 1"]
    negative: Float[jax.Array, "b 1"]

    def of(self, labels: Int[Array, "b n"]) -> Float[jax.Array, "b n"]:
        """The weight of every anchor; 0 where it was not sampled."""
        negatives = jnp.where(labels == 0, self.negative, 0.0)
        return jnp.where(labels == 1, self.positive, negatives)


def box_class_weights(labels: Int[Array, "b n"], config: LossConfig) -> ClassWeights:
    """Those of the box loss: the outside weights of py-faster-rcnn."""
    normalizer = config.box_normalizer or config.normalizer
    return class_weights(
        labels, normalizer, config.box_positive_weight, config.num_samples
    )


def class_weights(
    labels: Int[Array, "b n"],
    normalizer: Normalizer,
    positive_weight: float | None,
    num_samples: int,
) -> ClassWeights:
    """One over what `normalizer` names, or shares of `positive_weight` and the rest."""
    positives, negatives = (
        jnp.sum(labels == label, axis=1, keepdims=True, dtype=jnp.int32).astype(
            jnp.float32
        )
        for label in (1, 0)
    )
    num_images = labels.shape[0]
    if positive_weight is not None:
        shares = ((positive_weight, positives), (1.0 - positive_weight, negatives))
        return ClassWeights(*(w / jnp.maximum(n, 1.0) / num_images for w, n in shares))
    if normalizer == "batch":
        divisor = jnp.sum(positives + negatives)
    elif normalizer == "image":
        divisor = num_images * jnp.maximum(positives + negatives, 1.0)
    elif normalizer == "fixed":
        divisor = jnp.float32(num_samples * num_images)
    elif normalizer == "batch_clamped":
        divisor = jnp.sum(jnp.maximum(positives, 1.0) + jnp.maximum(negatives, 1.0))
    else:
        divisor = jnp.sum(positives)
    weight = jnp.broadcast_to(1.0 / jnp.maximum(divisor, 1.0), positives.shape)
    return ClassWeights(weight, weight)


def _objectness_terms(
    logits: Float[jax.Array, "b n"],
    is_positive: Bool[jax.Array, "b n"],
    config: LossConfig,
) -> Float[jax.Array, "b n"]:
    labels = is_positive.astype(jnp.float32)
    if config.focal_gamma is None:
        return optax.sigmoid_binary_cross_entropy(logits, labels)
    return optax.sigmoid_focal_loss(
        logits, labels, alpha=config.focal_alpha, gamma=config.focal_gamma
    )


def _box_terms(
    predicted: Float[jax.Array, "b n 4"], rows: Rows, config: LossConfig
) -> Float[jax.Array, "b n"]:
    """The loss of every positive; finite, and without gradient, everywhere else."""
    is_positive = (rows.labels == 1)[..., None]
    predicted = jnp.where(is_positive, predicted, 0.0)
    target = jnp.where(is_positive, rows.deltas, 0.0)
    if config.box_loss == "smooth_l1":
        factors = jnp.array(config.inside_weights, jnp.float32)
        difference = (predicted - target) * jnp.broadcast_to(factors, predicted.shape)
        return jnp.sum(_smooth_l1(difference, config.beta), axis=-1)
    if rows.anchors is None:
        # GIoU is a ratio of areas, so that any anchor serves: here the unit square.
        anchors = jnp.broadcast_to(jnp.array([0.0, 0.0, 1.0, 1.0]), predicted.shape)
    else:
        anchors = rows.anchors
    decoded = [
        decode_boxes(
            x.reshape(-1, 4), anchors.reshape(-1, 4), weights=config.delta_weights
        )
        for x in (predicted, target)
    ]
    return iou_loss(*decoded, kind=config.box_loss).reshape(predicted.shape[:2])


def _smooth_l1(
    difference: Float[jax.Array, "b n 4"], beta: float
) -> Float[jax.Array, "b n 4"]:
    if beta == 0.0:
        return jnp.abs(difference)
    return optax.huber_loss(difference, delta=beta) / beta
