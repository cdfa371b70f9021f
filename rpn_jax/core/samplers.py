"""Samplers: which of the labelled anchors the losses see.

A sampler gives every anchor a priority, and the highest are sampled; ties go to the
lowest index. `TargetConfig.positive_sampler` and `negative_sampler` name one each:

* `"uniform"`: the priority is random, as in Sec. 3.1.3 of "Faster R-CNN" by Ren et al.
  (https://arxiv.org/abs/1506.01497).
* `"hardest"`: it is the objectness loss, as in "OHEM" by Shrivastava et al.
  (https://arxiv.org/abs/1604.03540). Cross entropy and focal loss both order the
  anchors of a label by their logit.
* `"instance_balanced"` positives: as many of each box, and random among them. The
  `InstanceBalancedPosSampler` of mmdetection decides the numbers.
* `"iou_balanced"` negatives: as many of each interval of IoU, from "Libra R-CNN" by
  Pang et al. (https://arxiv.org/abs/1904.02701), Sec. 3.1. The
  `IoUBalancedNegSampler` of mmdetection decides the numbers, except for the end of the
  last interval. Here it is the highest IoU of a negative; there it is that of a
  positive, so that most negatives share one interval.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ._arguments import lenient
from ._typing import Array, ArrayLike, Float, Int, PRNGKey
from .balanced_samplers import (
    NOT_SET,
    Chosen,
    Draw,
    highest,
    instance_balanced,
    iou_balanced,
)
from .config import TargetConfig
from .keys import random_priorities, threefry_key
from .matching.association import Matches


class Sampled(NamedTuple):
    """The sampled anchors: positives first, then negatives, then empty rows.

    Attributes:
        anchor_index: `[k]` index of the anchor; 0 in an empty row.
        labels: `[k]` 1 or 0; -1 in an empty row.
    """

    anchor_index: Int[jax.Array, " k"]
    labels: Int[jax.Array, " k"]


@lenient
def sample_anchors(
    key: PRNGKey,
    labels: Int[ArrayLike, " n"],
    *,
    num_samples: int = 256,
    positive_fraction: float = 0.5,
) -> Int[jax.Array, " n"]:
    """Keeps a random subset of the labels and sets the others to -1.

    The sample is uniform without replacement. It has up to
    `num_samples * positive_fraction` positives; negatives fill it up to `num_samples`,
    as long as there are any. See Sec. 3.1.3 of "Faster R-CNN" by Ren et al.
    (https://arxiv.org/abs/1506.01497).

    Args:
        key: the random key. The same key gives the same sample, alone or under `vmap`,
            on any backend.
        labels: 1, 0 or -1 for every anchor.
        num_samples: number of labels to keep.
        positive_fraction: largest share of positives among them.

    Returns:
        The labels, with -1 for every anchor that was not sampled.

    >>> labels = sample_anchors(jax.random.key(0), [1, 0, 0, 0, 0, -1], num_samples=3)
    >>> labels.sum().item(), (labels == 0).sum().item()
    (-2, 2)
    """
    config = TargetConfig(num_samples=num_samples, positive_fraction=positive_fraction)
    unused = jnp.zeros(len(labels), jnp.int32)
    matches = Matches(jnp.asarray(labels), unused, unused.astype(jnp.float32))
    index, sampled = sample_matches(key, matches, num_boxes=1, config=config)
    # The index of an empty row is put out of bounds, so that it is dropped.
    row = jnp.where(sampled >= 0, index, len(labels))
    return jnp.full(len(labels), -1, jnp.int32).at[row].set(sampled, mode="drop")


def sample_matches(
    key: PRNGKey,
    matches: Matches,
    *,
    logits: Float[Array, " n"] | None = None,
    num_boxes: int,
    config: TargetConfig,
) -> Sampled:
    """Samples anchors of an image by the samplers that `config` names.

    Args:
        key: the random key. The same key gives the same sample, alone or under `vmap`,
            on any backend.
        matches: the labels, and what the balanced samplers balance.
        logits: predicted logits of being an object. `"hardest"` needs them; a NaN is
            the hardest of all.
        num_boxes: number of rows of ground truth, which `matches.gt_index` counts.
        config: the samplers, the number of samples and the share of positives.
    """
    matches = jax.lax.stop_gradient(matches)
    num_samples, num_anchors = config.num_samples, matches.labels.shape[0]
    key = threefry_key(key)
    draw = Draw(random_priorities(key, num_anchors), key)
    max_positives = min(int(num_samples * config.positive_fraction), num_anchors)
    max_negatives = min(num_samples, num_anchors)
    # Negatives take the places that positives leave.
    positives = _positives(draw, matches, logits, max_positives, num_boxes, config)
    left = num_samples - positives.number
    negatives = _negatives(draw, matches, logits, left, max_negatives, config)
    # Both in one list: the negatives are written behind the sampled positives, over the
    # unused rows of these.
    index = jnp.zeros(max_positives + max_negatives, jnp.int32)
    index = index.at[:max_positives].set(positives.rows)
    index = jax.lax.dynamic_update_slice(index, negatives.rows, (positives.number,))
    index = index[:max_negatives]
    # The label of a row follows from its place in the list.
    rows = jnp.arange(max_negatives, dtype=jnp.int32)
    is_negative = rows < positives.number + jnp.minimum(negatives.number, left)
    sampled = jnp.where(rows < positives.number, 1, jnp.where(is_negative, 0, -1))
    sampled = sampled.astype(jnp.int32)
    return Sampled(jnp.where(sampled >= 0, index, 0), sampled)


def _positives(
    draw: Draw,
    matches: Matches,
    logits: Float[Array, " n"] | None,
    size: int,
    num_boxes: int,
    config: TargetConfig,
) -> Chosen:
    if config.positive_sampler == "instance_balanced":
        return instance_balanced(draw, matches, size, num_boxes)
    is_positive = matches.labels == 1
    if config.positive_sampler == "hardest" and logits is not None:
        return highest(_hardness(-jnp.asarray(logits)), is_positive, size)
    return highest(draw.first, is_positive, size)


def _negatives(
    draw: Draw,
    matches: Matches,
    logits: Float[Array, " n"] | None,
    left: Int[jax.Array, ""],
    size: int,
    config: TargetConfig,
) -> Chosen:
    is_negative = matches.labels == 0
    if config.negative_sampler == "hardest" and logits is not None:
        return highest(_hardness(jnp.asarray(logits)), is_negative, size)
    if config.negative_sampler == "iou_balanced":
        iou, rules = matches.max_iou, config.iou_balance
        return iou_balanced(draw, is_negative, iou, left, size, rules)
    return highest(draw.first, is_negative, size)


def _hardness(logits: Float[jax.Array, " n"]) -> Float[jax.Array, " n"]:
    """Finite numbers in the order of the logits, where NaN is the highest."""
    limit = np.nextafter(-NOT_SET, np.float32(0.0))
    logits = jax.lax.stop_gradient(logits.astype(jnp.float32))
    return jnp.clip(jnp.where(jnp.isnan(logits), limit, logits), -limit, limit)
