"""The two losses of the RPN, and what a training loop logs beside them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ._typing import Array, Float, Int
from .anchors import AnchorGrid, Anchors
from .config import LossConfig
from .loss_terms import Predictions, Rows, box_class_weights, weighted_losses
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
        outside: `[b n 4]` factors of the loss: 1 over the normalizer at sampled
            anchors, positive or negative, and 0 elsewhere.
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
    anchor is in the arrays; those that were not sampled have a weight of 0, and may
    hold anything, NaN included. No gradient passes through `targets`.

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
    logits = objectness_logits(output)
    _check_shapes(logits, output, targets)
    num_rows = targets.labels.shape[-1]

    def batched(x):
        return jnp.asarray(x).reshape(-1, num_rows, *x.shape[targets.labels.ndim :])

    targets = jax.lax.stop_gradient(targets)
    rows = Rows(
        batched(targets.labels),
        batched(targets.deltas),
        _anchor_rows(anchors, batched(targets.deltas).shape, config),
    )
    deltas = jnp.asarray(output.deltas, jnp.float32)
    losses = weighted_losses(
        Predictions(batched(logits), batched(deltas)), rows, config
    )
    return RPNLosses(*losses)


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
    labels = jnp.asarray(labels)
    factors = jnp.array(config.inside_weights, jnp.float32)
    inside = jnp.where(
        (labels == 1)[..., None], jnp.broadcast_to(factors, (*labels.shape, 4)), 0.0
    )
    images = labels.reshape(-1, labels.shape[-1])
    outside = box_class_weights(images, config).of(images).reshape(*labels.shape, 1)
    return BoxLossWeights(inside, jnp.broadcast_to(outside, inside.shape))


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


def _check_shapes(
    logits: Float[jax.Array, "..."], output: RPNOutput, targets: Targets
) -> None:
    shapes = [x.shape for x in (logits, output.deltas[..., 0], targets.labels)]
    shapes.append(targets.deltas[..., 0].shape)
    has_columns = output.logits.ndim == output.deltas.ndim
    columns = (output.deltas.shape[-1], targets.deltas.shape[-1])
    is_pair = not has_columns or output.logits.shape[-1] == 2
    if len(set(shapes)) > 1 or columns != (4, 4) or not is_pair:
        raise ValueError(
            "rpn_loss needs logits [b n] or [b n 2], deltas [b n 4] and targets with "
            f"labels [b n] and deltas [b n 4], got logits {output.logits.shape}, "
            f"deltas {output.deltas.shape}, labels {targets.labels.shape} and target "
            f"deltas {targets.deltas.shape}."
        )


def _anchor_rows(
    anchors: Anchors | Float[Array, "b n 4"] | None,
    shape: tuple[int, ...],
    config: LossConfig,
) -> Float[jax.Array, "b n 4"] | None:
    """The anchor of every row, if the loss asks for it."""
    if anchors is None and config.box_loss in ("diou", "ciou"):
        raise ValueError(
            f"rpn_loss needs anchors for box_loss={config.box_loss!r}, got None. Pass "
            "the AnchorGrid, or the boxes, that the targets were made with."
        )
    if anchors is None or config.box_loss == "smooth_l1":
        return None
    boxes = anchors.boxes if isinstance(anchors, AnchorGrid) else jnp.asarray(anchors)
    if boxes.shape not in (shape, shape[1:]):
        raise ValueError(
            f"rpn_loss needs an anchor for every prediction, got anchors "
            f"{boxes.shape} for deltas {shape}."
        )
    return jnp.broadcast_to(boxes, shape)
