"""The two compositions of all stages: one for training loops, one for inference."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ._arguments import lenient
from ._typing import Array, ArrayLike, Bool, Float, Int, PRNGKey
from .anchors import AnchorGrid
from .boxes import is_proper
from .config import RPNConfig
from .head import RPNHead
from .keys import threefry_key
from .losses import RPNLosses, RPNMetrics, rpn_loss, rpn_metrics
from .output import RPNOutput
from .proposals import Proposals, propose
from .targets import Samples, count_degenerate, sample_targets, share

Head = RPNHead | Callable[[Sequence[jax.Array]], RPNOutput]


class TrainOutput(NamedTuple):
    """The losses of a training step, and what it logs.

    Attributes:
        losses: the losses; differentiate `losses.total`.
        metrics: counts of the sampled anchors.
        unsampled_fraction: share of the boxes that no sampled positive regresses to.
        num_degenerate: number of valid boxes that are degenerate and count as padding.
    """

    losses: RPNLosses
    metrics: RPNMetrics
    unsampled_fraction: Float[jax.Array, ""]
    num_degenerate: Int[jax.Array, ""]


@lenient
def compute_losses(
    head: Head,
    key: PRNGKey,
    features: Sequence[Float[jax.Array, "b _ _ c"]],
    anchors: AnchorGrid,
    gt_boxes: Float[ArrayLike, "b m 4"],
    gt_valid: Bool[ArrayLike, "b m"],
    image_sizes: Float[ArrayLike, "b 2"] | Int[ArrayLike, "b 2"] | None = None,
    *,
    gt_ignore: Bool[ArrayLike, "b m"] | None = None,
    image_index: Int[ArrayLike, " b"] | None = None,
    config: RPNConfig = RPNConfig(),
) -> TrainOutput:
    """Targets and losses of a batch, from its feature maps.

    The losses depend on the sampled anchors alone. So an `RPNHead` predicts at those
    anchors only, which gives the same losses and gradients in a fraction of the time.
    Any other head, such as `lambda x: model.apply(params, x)`, predicts everywhere.

    Args:
        head: maps features to an `RPNOutput`.
        key: randomness of the samples. Each image folds its index into it.
        features: a map `[b h w c]` for each level.
        anchors: the anchors of those maps.
        gt_boxes: boxes `(x0, y0, x1, y1)` of every image, in pixels.
        gt_valid: which rows are boxes; the others are padding and may hold anything.
        image_sizes: `(height, width)` of every image without its padding. Needed if
            `config.targets` has an `allowed_border` or `ignore_padding`.
        gt_ignore: which of the valid rows are ignored regions instead of objects.
        image_index: index of every image in the whole batch, if this is a part of it.
            The sample of an image then does not depend on where it is computed. None
            counts from 0.
        config: the rules.

    Returns:
        The losses, and counts to log.
    """
    if image_index is None:
        image_index = jnp.arange(len(gt_boxes), dtype=jnp.int32)

    # Folded as a key of threefry, since other generators differ under `vmap`.
    base_key = threefry_key(key)

    def sample(index, boxes, valid, size, ignore, predictions):
        key_of_image = jax.random.fold_in(base_key, index)
        return sample_targets(
            key_of_image,
            anchors,
            boxes,
            valid,
            size,
            gt_ignore=ignore,
            predictions=predictions,
            config=config.targets,
        )

    # Sample first, then predict at the sampled anchors only. If the rules read the
    # predictions, or the head cannot predict at a few anchors, predict everywhere once.
    needed = config.targets.reads_predictions
    everywhere = None
    if needed or not isinstance(head, RPNHead):
        everywhere = head(features)
    samples = jax.vmap(sample)(
        jnp.asarray(image_index),
        gt_boxes,
        gt_valid,
        image_sizes,
        gt_ignore,
        everywhere if needed else None,
    )
    output = _predict(head, features, anchors, samples.anchor_index, everywhere)
    boxes = jax.vmap(anchors.take)(samples.anchor_index)
    return TrainOutput(
        losses=rpn_loss(output, samples.targets, anchors=boxes, config=config.losses),
        metrics=rpn_metrics(output, samples.targets),
        unsampled_fraction=_unsampled_fraction(samples, gt_boxes, gt_valid, gt_ignore),
        num_degenerate=jnp.sum(
            jax.vmap(count_degenerate)(gt_boxes, gt_valid), dtype=jnp.int32
        ),
    )


@lenient
def compute_proposals(
    head: Head,
    features: Sequence[Float[jax.Array, "b _ _ c"]],
    anchors: AnchorGrid,
    image_sizes: Float[Array, "b 2"] | Int[Array, "b 2"],
    *,
    training: bool = False,
    config: RPNConfig = RPNConfig(),
) -> Proposals:
    """Proposals of a batch, from its feature maps. No gradient passes through them.

    Args:
        head: maps features to an `RPNOutput`.
        features: a map `[b h w c]` for each level.
        anchors: the anchors of those maps.
        image_sizes: `(height, width)` of every image without its padding; boxes are
            clipped to it.
        training: uses the training limits, for a second stage that trains on proposals.
        config: the rules.

    Returns:
        A fixed number of boxes per image, and which of them are proposals.
    """
    rules = config.proposals.for_training() if training else config.proposals
    output = jax.lax.stop_gradient(head(features))
    return propose(output, anchors, image_sizes, config=rules)


def _predict(
    head: Head,
    features: Sequence[Float[jax.Array, "b _ _ c"]],
    anchors: AnchorGrid,
    index: Int[jax.Array, "b k"],
    everywhere: RPNOutput | None,
) -> RPNOutput:
    """The predictions for a few anchors of each image, from all of them if given."""
    if everywhere is None and isinstance(head, RPNHead):
        return head.at(features, anchors, index)
    output = head(features) if everywhere is None else everywhere
    return jax.vmap(lambda output, rows: jax.tree.map(lambda x: x[rows], output))(
        output, index
    )


def _unsampled_fraction(
    samples: Samples,
    gt_boxes: Float[ArrayLike, "b m 4"],
    gt_valid: Bool[ArrayLike, "b m"],
    gt_ignore: Bool[ArrayLike, "b m"] | None,
) -> Float[jax.Array, ""]:
    """Share of the objects of a batch that no sampled positive regresses to."""
    is_object = jnp.asarray(gt_valid) & jax.vmap(is_proper)(gt_boxes)
    if gt_ignore is not None:
        is_object &= ~jnp.asarray(gt_ignore)

    # Strike out the objects that a positive regresses to, and count the others.
    def count(is_object, gt_index, labels):
        row = jnp.where(labels == 1, gt_index, is_object.shape[0])  # else dropped
        return jnp.sum(is_object.at[row].set(False, mode="drop"), dtype=jnp.int32)

    unsampled = jax.vmap(count)(is_object, samples.gt_index, samples.targets.labels)
    total = jnp.sum(is_object, dtype=jnp.int32)
    return share(jnp.sum(unsampled, dtype=jnp.int32), total)
