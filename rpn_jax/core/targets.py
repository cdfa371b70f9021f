"""Targets: a random sample of the labelled anchors, and the deltas of its positives.

`sample_targets` returns the sampled anchors as a short list. `assign_targets` scatters
that list, so that every anchor has a row.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ._arguments import lenient
from ._typing import Array, ArrayLike, Bool, Float, ImageSize, Int, PRNGKey
from .anchors import AnchorGrid, Anchors
from .boxes import encode_boxes, is_proper, pairwise_iou
from .config import TargetConfig
from .matching.ground_truth import split_ground_truth
from .matching.match import Matches, match
from .matching.predicted import checked_predictions
from .output import RPNOutput, objectness_logits
from .samplers import sample_matches


class Targets(NamedTuple):
    """What the head should predict, for every anchor. No gradient passes through it.

    The batch axis may be absent.

    Attributes:
        labels: `[b n]` 1 positive, 0 negative, -1 not sampled.
        deltas: `[b n 4]` deltas from the anchor to its box where `labels == 1`; 0
            elsewhere.
    """

    labels: Int[Array, "*b_n"]
    deltas: Float[Array, "*b_n 4"]


class Samples(NamedTuple):
    """The sampled anchors of an image alone: `Targets` without the anchors at -1.

    Positives come first, then negatives, then empty rows.

    Attributes:
        anchor_index: `[k]` index of the anchor; 0 in an empty row.
        targets: labels `[k]`, -1 in an empty row, and deltas `[k 4]`.
        gt_index: `[k]` row of the box that a positive regresses to.
    """

    anchor_index: Int[jax.Array, " k"]
    targets: Targets
    gt_index: Int[jax.Array, " k"]


@lenient
def assign_targets(
    key: PRNGKey,
    anchors: Anchors,
    gt_boxes: Float[ArrayLike, "m 4"],
    gt_valid: Bool[ArrayLike, " m"],
    image_size: ImageSize | None = None,
    *,
    gt_ignore: Bool[ArrayLike, " m"] | None = None,
    predictions: RPNOutput | None = None,
    config: TargetConfig = TargetConfig(),
) -> Targets:
    """Matches, samples and encodes: makes the targets that the losses of an image need.

    Args:
        key: the random key that decides the sample.
        anchors: a grid, which is faster, or any boxes `[n 4]`.
        gt_boxes: boxes `(x0, y0, x1, y1)` in pixels. There may be no rows.
        gt_valid: which rows are boxes; the others are padding and may hold anything.
        image_size: `(height, width)` of the image without its padding. It is needed if
            `config` has an `allowed_border` or `ignore_padding`.
        gt_ignore: which of the valid rows are ignored regions instead of objects.
        predictions: what the head predicts for all anchors of the image, if the
            assigner or a sampler of `config` reads it. No gradient passes through them.
        config: the rules.

    Returns:
        Labels and deltas of all anchors. `match_anchors` documents degenerate boxes and
        images without boxes.

    Raises:
        ValueError: `config` needs an `image_size`, an `AnchorGrid` or `predictions`,
            and got none.

    >>> anchors = jnp.array([[0.0, 0, 8, 8], [20, 20, 28, 28]])
    >>> boxes, valid = jnp.array([[0.0, 0, 8, 6]]), jnp.array([True])
    >>> targets = jax.jit(assign_targets)(jax.random.key(0), anchors, boxes, valid)
    >>> targets.labels.tolist(), targets.deltas[0, 1].item()
    ([1, 0], -0.125)
    """
    index, (labels, deltas), _ = sample_targets(
        key,
        anchors,
        gt_boxes,
        gt_valid,
        image_size,
        gt_ignore=gt_ignore,
        predictions=predictions,
        config=config,
    )
    # The index of an empty row is put out of bounds, so that it is dropped.
    row = jnp.where(labels >= 0, index, len(anchors))
    no_labels = jnp.full(len(anchors), -1, jnp.int32)
    no_deltas = jnp.zeros((len(anchors), 4), jnp.float32)
    return Targets(
        no_labels.at[row].set(labels, mode="drop"),
        no_deltas.at[row].set(deltas, mode="drop"),
    )


@lenient
def sample_targets(
    key: PRNGKey,
    anchors: Anchors,
    gt_boxes: Float[ArrayLike, "m 4"],
    gt_valid: Bool[ArrayLike, " m"],
    image_size: ImageSize | None = None,
    *,
    gt_ignore: Bool[ArrayLike, " m"] | None = None,
    predictions: RPNOutput | None = None,
    config: TargetConfig = TargetConfig(),
) -> Samples:
    """Does what `assign_targets` does, and returns the sampled anchors alone.

    This form serves a head that predicts at the sampled anchors only, as `RPNHead.at`
    does. The arguments and the errors are those of `assign_targets`.

    >>> anchors, boxes = jnp.zeros((999, 4)), jnp.ones((1, 4))
    >>> samples = jax.eval_shape(
    ...     lambda key: sample_targets(key, anchors, boxes, [True]), jax.random.key(0)
    ... )
    >>> samples.anchor_index.shape, samples.targets.deltas.shape
    ((256,), (256, 4))
    """
    gt = split_ground_truth(gt_boxes, gt_valid, gt_ignore, config)
    samplers = (config.positive_sampler, config.negative_sampler)
    matches = match(
        anchors,
        gt,
        image_size,
        predictions=predictions,
        config=config,
        is_exact="instance_balanced" in samplers or "iou_balanced" in samplers,
    )
    logits = None
    if "hardest" in samplers:
        logits = objectness_logits(
            checked_predictions(predictions, len(anchors), config)
        )
    index, labels = sample_matches(
        key, matches, logits=logits, num_boxes=len(gt.objects), config=config
    )
    if isinstance(anchors, AnchorGrid):
        boxes = anchors.take(index)
    else:
        boxes = jax.lax.stop_gradient(jnp.asarray(anchors))[index]
    gt_index = _regression_rows(matches.gt_index[index], boxes, gt.objects, config)
    deltas = encode_boxes(
        gt.objects[gt_index],
        boxes,
        weights=config.delta_weights,
        pixel_offset=config.pixel_offset,
    )
    deltas = jnp.where((labels == 1)[:, None], deltas, 0.0)
    return Samples(index, Targets(labels, deltas), gt_index)


@lenient
def count_degenerate(
    gt_boxes: Float[ArrayLike, "m 4"], gt_valid: Bool[ArrayLike, " m"]
) -> Int[jax.Array, ""]:
    """Counts the valid rows that are treated as padding, because they are degenerate.

    Args:
        gt_boxes: boxes `(x0, y0, x1, y1)`.
        gt_valid: which rows are boxes.

    Returns:
        Number of valid rows that are not finite, or do not have `x0 < x1` and
        `y0 < y1`.

    >>> count_degenerate([[0.0, 0, 8, 6], [5, 5, 5, 9]], [True, True]).item()
    1
    """
    return jnp.sum(jnp.asarray(gt_valid) & ~is_proper(gt_boxes), dtype=jnp.int32)


def unmatched_fraction(
    matches: Matches, gt_boxes: Float[Array, "m 4"], gt_valid: Bool[Array, " m"]
) -> Float[jax.Array, ""]:
    """Share of the boxes of an image that no positive anchor regresses to.

    Args:
        matches: the result of `match_anchors` for the image, before sampling.
        gt_boxes: boxes `(x0, y0, x1, y1)`.
        gt_valid: which rows are objects.

    Returns:
        A share of the boxes that are not degenerate; 0 if there are none.
    """
    is_object = gt_valid & is_proper(gt_boxes)
    is_matched = has_anchor(matches, gt_boxes.shape[0])
    unmatched = jnp.sum(is_object & ~is_matched, dtype=jnp.int32)
    return share(unmatched, jnp.sum(is_object, dtype=jnp.int32))


def share(part: Int[jax.Array, ""], whole: Int[jax.Array, ""]) -> Float[jax.Array, ""]:
    """The quotient in float32, also under `jax_enable_x64`; 0 of nothing is 0."""
    return part.astype(jnp.float32) / jnp.maximum(whole, 1).astype(jnp.float32)


def has_anchor(matches: Matches, num_rows: int) -> Bool[jax.Array, " m"]:
    """Whether some positive anchor regresses to each row of ground truth.

    Args:
        matches: the result of `match_anchors` for an image, before sampling.
        num_rows: number of rows of its ground truth.
    """
    no_row = jnp.zeros(num_rows, bool)
    return no_row.at[matches.gt_index].max(matches.labels == 1, mode="drop")


def _regression_rows(
    gt_index: Int[jax.Array, " k"],
    anchors: Float[jax.Array, "k 4"],
    objects: Float[jax.Array, "m 4"],
    config: TargetConfig,
) -> Int[jax.Array, " k"]:
    """Row of the object that each sampled positive regresses to."""
    # Labels are needed for all anchors, but boxes for the sampled ones alone. `match`
    # therefore ran with `is_exact=False`, which is faster: where an IoU is below the
    # threshold of negatives, its `gt_index` need not be exact. A positive with such an
    # IoU is one that a box forced. Under `retarget_forced`, `match` gives it the box
    # that forced it, which is exact. Without it, the anchor belongs to the box that it
    # overlaps most, and that box has to be found here.
    if config.assigner != "max_iou" or config.retarget_forced:
        return gt_index
    return _largest_overlap(anchors, objects, config.pixel_offset)


def _largest_overlap(
    anchors: Float[jax.Array, "k 4"],
    objects: Float[jax.Array, "m 4"],
    pixel_offset: float,
) -> Int[jax.Array, " k"]:
    """Row of the object that each anchor overlaps most; the lowest row on ties."""

    def find(anchor):
        overlaps = pairwise_iou(anchor[None], objects, pixel_offset=pixel_offset)
        return overlaps[0].argmax()

    # The usual sample of 256 anchors is one batch. The limit is for `num_samples` that
    # keep every anchor: with 268,569 anchors and 100 objects on two CPU cores, batches
    # of 1,024 took 87 ms and 5 MiB, and a single batch 176 ms and 104 MiB.
    return jax.lax.map(find, anchors, batch_size=1024).astype(jnp.int32)
