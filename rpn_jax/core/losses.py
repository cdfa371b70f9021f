"""The two losses of the RPN, and the counts that a training loop logs with them.

`rpn_loss` checks its arguments here; the formulas and the mask of label -1 are in
`loss_terms.py`, and the sum over the sampled anchors alone is `sampled_losses.py`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ._arguments import lenient
from ._typing import ArrayLike, Float, Int
from .anchors import AnchorGrid, Anchors
from .loss_config import LossConfig
from .loss_terms import RPNLosses as RPNLosses
from .loss_terms import box_class_weights
from .output import RPNOutput, objectness_logits
from .sampled_losses import sampled_losses
from .targets import Targets, share


class RPNMetrics(NamedTuple):
    """Counts to log in training.

    Attributes:
        num_positive: number of sampled positives in the batch.
        num_negative: number of sampled negatives in the batch.
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
        outside: `[b n 4]` factors of the loss: 1 divided by the normalizer at sampled
            anchors, positive or negative, and 0 elsewhere.
    """

    inside: Float[jax.Array, "*b_n 4"]
    outside: Float[jax.Array, "*b_n 4"]


@lenient
def rpn_loss(
    output: RPNOutput,
    targets: Targets,
    *,
    anchors: Anchors | Float[ArrayLike, "b n 4"] | None = None,
    config: LossConfig = LossConfig(),
) -> RPNLosses:
    """The objectness loss over sampled anchors and the box loss over positives.

    Eq. 1 of "Faster R-CNN" by Ren et al. (https://arxiv.org/abs/1506.01497). The arrays
    hold every anchor. Anchors with label -1 have a weight of 0, and their predictions
    may be anything, NaN included. No gradient passes through `targets`.

    Args:
        output: logits `[b n]` or `[b n 2]` and deltas `[b n 4]`; the batch axis may be
            absent. Under `vmap` a batch normalizer sees one image.
        targets: labels `[b n]` and deltas `[b n 4]`.
        anchors: a grid, or boxes `[n 4]` or `[b n 4]`. Only the `"diou"` and `"ciou"`
            losses need them: GIoU does not depend on the anchor.
        config: the losses and their normalizers.

    Returns:
        Two float32 scalars. Without any sampled anchor both are 0.

    Raises:
        ValueError: shapes disagree, or `anchors` are needed and missing.

    >>> output = RPNOutput(jnp.zeros((1, 2)), jnp.zeros((1, 2, 4)))
    >>> targets = Targets(jnp.array([[1, 0]]), jnp.ones((1, 2, 4)))
    >>> losses = jax.jit(rpn_loss)(output, targets)
    >>> round(float(losses.objectness), 3), round(float(losses.box), 3)
    (0.693, 1.889)
    """
    logits = objectness_logits(output)
    _check_shapes(logits, output, targets)
    num_rows = targets.labels.shape[-1]

    def batched(x):
        return jnp.asarray(x).reshape(-1, num_rows, *x.shape[targets.labels.ndim :])

    # With `jax_enable_x64`, arrays may come in float64, which nothing here needs.
    predicted, wanted = (
        batched(jnp.asarray(x, jnp.float32)) for x in (output.deltas, targets.deltas)
    )
    output = RPNOutput(batched(logits), predicted)
    targets = jax.lax.stop_gradient(Targets(batched(targets.labels), wanted))
    rows = _anchor_rows(anchors, targets.deltas.shape, config)
    return sampled_losses(output, targets, rows, config)


@lenient
def box_loss_weights(
    labels: Int[ArrayLike, "*b_n"], *, config: LossConfig = LossConfig()
) -> BoxLossWeights:
    """The inside and outside weights of smooth L1 in py-faster-rcnn and jwyang.

    `rpn_loss` computes the same sum without these arrays:
    `sum(outside * smooth_l1(inside * predicted, inside * target))`.

    Args:
        labels: 1, 0 or -1 for every anchor of a batch, or of an image.
        config: the normalizer and `box_positive_weight`.

    Returns:
        One row of four equal weights per anchor.

    >>> box_loss_weights([1, 0, -1, 0]).inside[:, 0].tolist()
    [1.0, 0.0, 0.0, 0.0]
    """
    labels = jnp.asarray(labels)
    images = labels.reshape(-1, labels.shape[-1])
    outside = box_class_weights(images, config).of(images).reshape(labels.shape)
    inside = (labels == 1).astype(jnp.float32)
    four = (*labels.shape, 4)
    return BoxLossWeights(
        *(jnp.broadcast_to(x[..., None], four) for x in (inside, outside))
    )


def rpn_metrics(output: RPNOutput, targets: Targets) -> RPNMetrics:
    """Counts the sampled anchors, and those that are classified correctly.

    Args:
        output: the predictions for a batch, or for an image.
        targets: the targets for the same anchors.

    Returns:
        Scalars. A share is 0 where there is nothing to count.
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
        accuracy=share(right[0] + right[1], count[0] + count[1]),
        positive_recall=share(right[0], count[0]),
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
    anchors: Anchors | Float[ArrayLike, "b n 4"] | None,
    shape: tuple[int, ...],
    config: LossConfig,
) -> Float[jax.Array, "b n 4"] | None:
    """The anchor of every row, or None if the loss does not need anchors."""
    if anchors is None and config.box_loss in ("diou", "ciou"):
        raise ValueError(
            f"rpn_loss needs anchors for box_loss={config.box_loss!r}, got None. Pass "
            "the AnchorGrid, or the boxes, that the targets were made from."
        )
    if anchors is None or config.box_loss == "smooth_l1":
        return None
    boxes = anchors.boxes if isinstance(anchors, AnchorGrid) else jnp.asarray(anchors)
    if boxes.shape not in (shape, shape[1:]):
        raise ValueError(
            f"rpn_loss needs an anchor for every prediction, got anchors "
            f"{boxes.shape} for deltas {shape}."
        )
    return jnp.broadcast_to(boxes.astype(jnp.float32), shape)
