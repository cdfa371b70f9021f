"""Targets: a random sample of the labelled anchors, and the deltas of its positives."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ._typing import Array, Bool, Float, ImageSize, Int, PRNGKey, UInt32
from .anchors import AnchorGrid, Anchors
from .boxes import encode_boxes, is_proper, pairwise_iou
from .config import TargetConfig
from .matching.ground_truth import split_ground_truth
from .matching.match import Matches, match


class Targets(NamedTuple):
    """What the head should predict, for every anchor. No gradient passes through it.

    The batch axis may be absent.

    Attributes:
        labels: `[b n]` 1 positive, 0 negative, -1 not sampled.
        deltas: `[b n 4]` from the anchor to its box, where `labels == 1`; 0 elsewhere.
    """

    labels: Int[Array, "*b_n"]
    deltas: Float[Array, "*b_n 4"]


class Samples(NamedTuple):
    """The sampled anchors of an image alone: `Targets` without the rows of -1.

    Positives come first, then negatives, then empty rows.

    Attributes:
        anchor_index: `[k]` which anchor; 0 in an empty row.
        targets: labels `[k]`, -1 in an empty row, and deltas `[k 4]`.
        gt_index: `[k]` row of the box that a positive regresses to.
    """

    anchor_index: Int[jax.Array, " k"]
    targets: Targets
    gt_index: Int[jax.Array, " k"]


def sample_anchors(
    key: PRNGKey,
    labels: Int[Array, " n"],
    *,
    num_samples: int = 256,
    positive_fraction: float = 0.5,
) -> Int[jax.Array, " n"]:
    """Keeps a random subset of the labels and sets the others to -1.

    Uniform without replacement: up to `num_samples * positive_fraction` positives, and
    negatives until there are `num_samples`, as far as there are any. Sec. 3.1.3 of
    "Faster R-CNN" by Ren et al. (https://arxiv.org/abs/1506.01497).

    Args:
        key: the same key gives the same sample, alone or under `vmap`, on any backend.
        labels: 1, 0 or -1 for every anchor.
        num_samples: how many labels to keep.
        positive_fraction: the largest share of positives among them.

    Returns:
        The labels, -1 where they were not sampled.
    """
    index, sampled = _sample(key, labels, num_samples, positive_fraction)
    kept = jnp.where(sampled >= 0, index, labels.shape[0])  # out of bounds, so dropped
    return jnp.full(labels.shape, -1, jnp.int32).at[kept].set(sampled, mode="drop")


def assign_targets(
    key: PRNGKey,
    anchors: Anchors,
    gt_boxes: Float[Array, "m 4"],
    gt_valid: Bool[Array, " m"],
    image_size: ImageSize | None = None,
    *,
    gt_ignore: Bool[Array, " m"] | None = None,
    config: TargetConfig = TargetConfig(),
) -> Targets:
    """Matches, samples and encodes: all that an image's losses need to know.

    Args:
        key: of the sample.
        anchors: a grid, which is faster, or any boxes `[n 4]`.
        gt_boxes: boxes `(x0, y0, x1, y1)` in pixels. There may be no rows.
        gt_valid: which rows are boxes; the others are padding and may hold anything.
        image_size: `(height, width)` of the image without its padding. Needed if
            `config` has an `allowed_border` or `ignore_padding`.
        gt_ignore: which of the valid rows are regions to ignore, not objects.
        config: the rules.

    Returns:
        Labels and deltas of all anchors. See `match_anchors` for degenerate boxes and
        images without any.

    Raises:
        ValueError: `config` asks for an `image_size`, or an `AnchorGrid`, and there is
            none.
    """
    index, (labels, deltas), _ = sample_targets(
        key, anchors, gt_boxes, gt_valid, image_size, gt_ignore=gt_ignore, config=config
    )
    kept = jnp.where(labels >= 0, index, len(anchors))  # out of bounds, so dropped
    no_labels = jnp.full(len(anchors), -1, jnp.int32)
    no_deltas = jnp.zeros((len(anchors), 4), jnp.float32)
    return Targets(
        no_labels.at[kept].set(labels, mode="drop"),
        no_deltas.at[kept].set(deltas, mode="drop"),
    )


def sample_targets(
    key: PRNGKey,
    anchors: Anchors,
    gt_boxes: Float[Array, "m 4"],
    gt_valid: Bool[Array, " m"],
    image_size: ImageSize | None = None,
    *,
    gt_ignore: Bool[Array, " m"] | None = None,
    config: TargetConfig = TargetConfig(),
) -> Samples:
    """`assign_targets` in its short form: the sampled anchors alone.

    Takes and raises what `assign_targets` does. For a head that predicts at sampled
    anchors only, as `RPNHead.at` can.
    """
    gt = split_ground_truth(gt_boxes, gt_valid, gt_ignore, config)
    matches = match(anchors, gt, image_size, config=config, floor=config.negative_iou)
    index, labels = _sample(
        key, matches.labels, config.num_samples, config.positive_fraction
    )
    if isinstance(anchors, AnchorGrid):
        boxes = anchors.take(index)
    else:
        boxes = jax.lax.stop_gradient(jnp.asarray(anchors))[index]
    if config.retarget_forced:
        gt_index = matches.gt_index[index]
    else:
        gt_index = _largest_overlap(boxes, gt.objects, config.pixel_offset)
    deltas = encode_boxes(
        gt.objects[gt_index],
        boxes,
        weights=config.delta_weights,
        pixel_offset=config.pixel_offset,
    )
    deltas = jnp.where((labels == 1)[:, None], deltas, 0.0)
    return Samples(index, Targets(labels, deltas), gt_index)


def count_degenerate(
    gt_boxes: Float[Array, "m 4"], gt_valid: Bool[Array, " m"]
) -> Int[jax.Array, ""]:
    """Number of valid rows that count as padding, since they are no proper box.

    Args:
        gt_boxes: boxes `(x0, y0, x1, y1)`.
        gt_valid: which rows are boxes.

    Returns:
        How many of those are not finite, or do not have `x0 < x1` and `y0 < y1`.
    """
    return jnp.sum(gt_valid & ~is_proper(gt_boxes), dtype=jnp.int32)


def unmatched_fraction(
    matches: Matches, gt_boxes: Float[Array, "m 4"], gt_valid: Bool[Array, " m"]
) -> Float[jax.Array, ""]:
    """Share of the boxes of an image that no positive anchor regresses to.

    Args:
        matches: of the image, before sampling.
        gt_boxes: boxes `(x0, y0, x1, y1)`.
        gt_valid: which rows are objects.

    Returns:
        A share of the proper boxes; 0 where there are none.
    """
    is_object = gt_valid & is_proper(gt_boxes)
    has_anchor = jnp.zeros(gt_valid.shape, bool)
    has_anchor = has_anchor.at[matches.gt_index].max(matches.labels == 1, mode="drop")
    unmatched = jnp.sum(is_object & ~has_anchor, dtype=jnp.int32)
    return unmatched / jnp.maximum(jnp.sum(is_object, dtype=jnp.int32), 1)


def _sample(
    key: PRNGKey, labels: Int[Array, " n"], num_samples: int, positive_fraction: float
) -> tuple[Int[jax.Array, " k"], Int[jax.Array, " k"]]:
    """Index and label of the sampled anchors; 0 and -1 in empty rows."""
    labels = jax.lax.stop_gradient(jnp.asarray(labels))
    num_anchors = labels.shape[0]
    priority = _priorities(key, num_anchors)
    max_positives = min(int(num_samples * positive_fraction), num_anchors)
    max_negatives = min(num_samples, num_anchors)
    positives, num_positives = _highest(priority, labels == 1, max_positives)
    negatives, num_negatives = _highest(priority, labels == 0, max_negatives)
    num_negatives = jnp.minimum(num_negatives, num_samples - num_positives)
    rows = jnp.arange(max_negatives, dtype=jnp.int32)
    # Negatives follow the positives: those of row 0 come to row `num_positives`.
    padded = (
        jnp.zeros(max_positives + max_negatives, jnp.int32)
        .at[:max_positives]
        .set(positives)
    )
    index = jax.lax.dynamic_update_slice(padded, negatives, (num_positives,))[
        :max_negatives
    ]
    is_positive = rows < num_positives
    is_negative = ~is_positive & (rows < num_positives + num_negatives)
    sampled = jnp.where(is_positive, 1, jnp.where(is_negative, 0, -1)).astype(jnp.int32)
    return jnp.where(sampled >= 0, index, 0), sampled


def _highest(
    priority: Float[jax.Array, " n"], mask: Bool[jax.Array, " n"], count: int
) -> tuple[Int[jax.Array, " k"], Int[jax.Array, ""]]:
    """The set rows of highest priority, best first, and how many of them there are."""
    chosen, index = jax.lax.top_k(jnp.where(mask, priority, -1.0), count)
    return index, jnp.sum(chosen >= 0.0, dtype=jnp.int32)


def _priorities(key: PRNGKey, count: int) -> Float[jax.Array, " n"]:
    """A random number in `[0, 2 ** 24)` for every anchor.

    Counters through two rounds of a keyed mixer: on a CPU a tenth of the time that
    `jax.random.bits` takes for as many. The mixer is "lowbias32" of Chris Wellons
    (https://nullprogram.com/blog/2018/07/31/), whose bits pass avalanche tests.
    """
    first, second = jax.random.bits(key, (2,), jnp.uint32)
    counter = jnp.arange(count, dtype=jnp.uint32)
    return (_mix(_mix(counter ^ first) + second) >> 8).astype(jnp.float32)


def _mix(x: UInt32[jax.Array, " n"]) -> UInt32[jax.Array, " n"]:
    x = (x ^ (x >> 16)) * jnp.uint32(0x21F0AAAD)
    x = (x ^ (x >> 15)) * jnp.uint32(0xD35A2D97)
    return x ^ (x >> 15)


def _largest_overlap(
    anchors: Float[jax.Array, "k 4"],
    objects: Float[jax.Array, "m 4"],
    pixel_offset: float,
) -> Int[jax.Array, " k"]:
    """Row of the object that each anchor overlaps most, a few anchors at a time."""

    def find(anchor):
        return pairwise_iou(anchor[None], objects, pixel_offset=pixel_offset)[
            0
        ].argmax()

    return jax.lax.map(find, anchors, batch_size=1024).astype(jnp.int32)
