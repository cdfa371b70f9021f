"""Suppression of the candidates of every level: greedy, softened, and with votes.

`nms.py` decides which boxes stay. Here the boxes that overlap them may stay too, with a
lower score, and may move the boxes that stay. Both are off by default, and on in
`presets.pyramid`.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ._typing import Array, Bool, Float, Int
from .config import ProposalConfig
from .nms import NMSResult, suppress_ranked

# The logit of what must not be proposed. It is finite, for `jax_debug_infs`, and lower
# than all others.
NOT_PROPOSED = np.finfo(np.float32).min
_VOTERS = 256  # boxes that look for their voters at a time; bounds the memory


class Candidates(NamedTuple):
    """What enters suppression: of each level the highest scores, in their order.

    Attributes:
        boxes: `[l k 4]` decoded and clipped.
        logits: `[l k]` logits of being an object.
        valid: `[l k]` which of them may be proposed.
    """

    boxes: Float[Array, "l k 4"]
    logits: Float[Array, "l k"]
    valid: Bool[Array, "l k"]


class Survivors(NamedTuple):
    """What suppression leaves of each level.

    Attributes:
        rows: `[l j]` rows of `boxes` in the level.
        logits: `[l j]` their logits; `NOT_PROPOSED` where no more are left.
        boxes: `[l k 4]` all boxes of the level. Those that stayed may have moved.
    """

    rows: Int[Array, "l j"]
    logits: Float[Array, "l j"]
    boxes: Float[Array, "l k 4"]


def suppress_levels(candidates: Candidates, config: ProposalConfig) -> Survivors:
    """Suppresses within each level.

    Args:
        candidates: the boxes of every level, sorted by logit.
        config: the thresholds.

    Returns:
        At most `config.post_nms_top_k` rows of each level, or twice as many with a
        `soft_iou_threshold`: the rows that have a lower score follow the others.
    """
    stays = _keep(candidates, config.iou_threshold, config)
    logits = _logits_of(stays, candidates.logits)
    if config.soft_iou_threshold is None and config.vote_iou_threshold is None:
        return Survivors(stays.indices, logits, candidates.boxes)
    rows, boxes = stays.indices, candidates.boxes
    is_first = jax.vmap(_mark)(stays, candidates.valid)
    if config.soft_iou_threshold is not None:
        rest = _keep(candidates, config.soft_iou_threshold, config)
        lower = _lower_logits(candidates.logits, config)
        lower = jnp.where(is_first, NOT_PROPOSED, lower)
        rows = jnp.concatenate([rows, rest.indices], axis=1)
        logits = jnp.concatenate([logits, _logits_of(rest, lower)], axis=1)
    if config.vote_iou_threshold is not None:
        vote = functools.partial(
            _vote,
            iou_threshold=config.vote_iou_threshold,
            pixel_offset=config.pixel_offset,
        )
        moved = lax.map(lambda level: vote(*level), candidates)
        boxes = jnp.where(is_first[..., None], moved, boxes)
    return Survivors(rows, logits, boxes)


def _keep(
    candidates: Candidates, iou_threshold: float, config: ProposalConfig
) -> NMSResult:
    """The boxes of every level that overlap no better one by more than a threshold."""
    suppress = functools.partial(
        suppress_ranked,
        iou_threshold=iou_threshold,
        max_outputs=min(config.post_nms_top_k, candidates.logits.shape[1]),
        inclusive_threshold=config.inclusive_threshold,
        pixel_offset=config.pixel_offset,
    )
    return jax.vmap(suppress)(candidates.boxes, candidates.valid)


def _logits_of(kept: NMSResult, logits: Float[Array, "l k"]) -> Float[jax.Array, "l j"]:
    """The logits of kept rows; `NOT_PROPOSED` in the padding."""
    found = jnp.take_along_axis(logits, kept.indices, axis=1)
    return jnp.where(kept.valid, found, NOT_PROPOSED)


def _mark(kept: NMSResult, valid: Bool[Array, " k"]) -> Bool[jax.Array, " k"]:
    """Which rows of a level are kept."""
    # Every row with every kept one, since ONNX has no scatter with these semantics.
    rows = jnp.arange(len(valid), dtype=jnp.int32)
    is_same = (rows[:, None] == kept.indices[None, :]) & kept.valid[None, :]
    return is_same.any(axis=1)


def _lower_logits(
    logits: Float[Array, "l k"], config: ProposalConfig
) -> Float[jax.Array, "l k"]:
    """The logits of `soft_factor` times the probabilities."""
    # The logit of f / (1 + e^-x), without a difference that could round to 0.
    f = config.soft_factor
    lower = math.log(f) - jnp.logaddexp(-logits, math.log1p(-f))
    lower = jnp.maximum(lower, np.nextafter(NOT_PROPOSED, np.float32(0.0)))
    if config.score_threshold is None:
        return lower
    return jnp.where(
        jax.nn.sigmoid(lower) >= config.score_threshold, lower, NOT_PROPOSED
    )


def _vote(
    boxes: Float[Array, "k 4"],
    logits: Float[Array, " k"],
    valid: Bool[Array, " k"],
    *,
    iou_threshold: float,
    pixel_offset: float,
) -> Float[jax.Array, "k 4"]:
    """The mean of the boxes that overlap each box, weighted by their probabilities."""
    # One array for each coordinate: as rows of four, TPUs would pad them to 128 lanes.
    x0, y0, x1, y1 = boxes.T
    weights = jnp.where(valid, jax.nn.sigmoid(logits), 0.0)

    def area(x0, y0, x1, y1):
        sides = x1 - x0 + pixel_offset, y1 - y0 + pixel_offset
        return jnp.maximum(sides[0], 0.0) * jnp.maximum(sides[1], 0.0)

    def of_box(box: Float[Array, "4"]) -> Float[jax.Array, "4"]:
        left, top = jnp.maximum(box[0], x0), jnp.maximum(box[1], y0)
        right, bottom = jnp.minimum(box[2], x1), jnp.minimum(box[3], y1)
        overlap = area(left, top, right, bottom)
        union = area(*box) + area(x0, y0, x1, y1) - overlap
        is_near = overlap >= iou_threshold * union
        votes = jnp.where(is_near & (union > 0.0), weights, 0.0)
        total = votes.sum()
        # Sums of float32 products: by default, TPUs would multiply in bfloat16.
        mean = jnp.matmul(votes, boxes, precision=lax.Precision.HIGHEST) / jnp.where(
            total > 0.0, total, 1.0
        )
        return jnp.where(total > 0.0, mean, box)

    return lax.map(of_box, boxes, batch_size=_VOTERS)
