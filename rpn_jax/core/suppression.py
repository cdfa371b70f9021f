"""Suppression of the candidates of every level: greedy, softened, and with votes.

`nms.py` decides which boxes stay. Here the boxes that overlap them may stay too, with a
lower score, and may move the boxes that stay. Both are off by default, and on in
`presets.pyramid`.
"""

import functools
import math
from collections.abc import Sequence
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
# Boxes that are voted on at a time. With 1,000 candidates on a level, an array of their
# overlaps then takes half a MiB. For 1,000 boxes at a time it would take 4 MiB.
_VOTES = 128


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
        rows: `[l j]` rows of the candidates of the level.
        logits: `[l j]` their logits; `NOT_PROPOSED` where no more are left.
        is_sure: `[l j]` whether a row overlaps no better one too much, and so keeps its
            score.
    """

    rows: Int[Array, "l j"]
    logits: Float[Array, "l j"]
    is_sure: Bool[Array, "l j"]


def suppress_levels(candidates: Candidates, config: ProposalConfig) -> Survivors:
    """Suppresses within each level.

    Args:
        candidates: the boxes of every level, sorted by logit.
        config: the thresholds.

    Returns:
        At most `config.post_nms_top_k` rows of each level, or twice as many with a
        `soft_iou_threshold`: the rows that have a lower score follow the others.
    """
    kept = [_keep(candidates, limit, config) for limit in thresholds(config)]
    return combine(candidates, kept, config)


def thresholds(config: ProposalConfig) -> tuple[float, ...]:
    """The IoUs for which greedy suppression runs, one after the other."""
    soft = config.soft_iou_threshold
    return (config.iou_threshold,) if soft is None else (config.iou_threshold, soft)


def combine(
    candidates: Candidates, kept: Sequence[NMSResult], config: ProposalConfig
) -> Survivors:
    """What `suppress_levels` returns.

    Args:
        candidates: the boxes of every level, sorted by logit.
        kept: what stays at each of the `thresholds`.
        config: the thresholds.
    """
    stays = kept[0]
    logits = _logits_of(stays, candidates.logits)
    if config.soft_iou_threshold is None:
        return Survivors(stays.indices, logits, stays.valid)
    rest = kept[1]
    lower = _lower_logits(candidates.logits, config)
    is_sure = jax.vmap(_mark)(stays, candidates.valid)
    lower = _logits_of(rest, jnp.where(is_sure, NOT_PROPOSED, lower))
    pairs = (
        (stays.indices, rest.indices),
        (logits, lower),
        (stays.valid, jnp.zeros_like(rest.valid)),
    )
    return Survivors(*(jnp.concatenate(pair, axis=1) for pair in pairs))


def move_to_votes(
    boxes: Float[jax.Array, "n 4"],
    level: Int[Array, " n"],
    candidates: Candidates,
    iou_threshold: float,
    *,
    pixel_offset: float,
) -> Float[jax.Array, "n 4"]:
    """The mean of the candidates around each box, weighted by their probabilities.

    Args:
        boxes: some of the candidates.
        level: the level of each of them, whose candidates vote.
        candidates: the boxes that vote.
        iou_threshold: least IoU of a box with one that votes on it.
        pixel_offset: added to `x1 - x0` to get the width.

    Returns:
        The means. A box stays where all probabilities around it round to 0.
    """
    probabilities = jnp.where(candidates.valid, jax.nn.sigmoid(candidates.logits), 0.0)
    # One array for each coordinate: as rows of four, TPUs would pad them to 128 lanes.
    columns = [candidates.boxes[..., i] for i in range(4)]
    # What a vote adds up: four coordinates and 1, for each level.
    addends = jnp.stack([*columns, jnp.ones_like(probabilities)], axis=-1)

    def vote(part: tuple[jax.Array, jax.Array]) -> Float[jax.Array, "p 4"]:
        boxes, level = part
        a = [boxes[:, i, None] for i in range(4)]
        b = [column[level] for column in columns]
        top_left = [jnp.maximum(a[i], b[i]) for i in (0, 1)]
        bottom_right = [jnp.minimum(a[i], b[i]) for i in (2, 3)]
        overlap = _area([*top_left, *bottom_right], pixel_offset)
        union = _area(a, pixel_offset) + _area(b, pixel_offset) - overlap
        is_near = (union > 0.0) & (overlap >= iou_threshold * union)
        votes = jnp.where(is_near, probabilities[level], 0.0)
        # With the addends of all levels it is one product of matrices, which is faster
        # than five sums. TPUs would round it to bfloat16 by default.
        sums = jnp.einsum("pk,lkc->plc", votes, addends, precision="highest")
        levels = jnp.arange(len(addends), dtype=jnp.int32)
        is_own = levels[None, :] == level[:, None]
        sums = jnp.where(is_own[..., None], sums, 0.0).sum(axis=1)
        total = sums[:, 4:]
        mean = sums[:, :4] / jnp.where(total > 0.0, total, 1.0)
        return jnp.where(total > 0.0, mean, boxes)

    number = len(boxes)
    missing = -number % _VOTES
    boxes = jnp.pad(boxes, [(0, missing), (0, 0)]).reshape(-1, _VOTES, 4)
    level = jnp.pad(jnp.asarray(level), (0, missing)).reshape(-1, _VOTES)
    return lax.map(vote, (boxes, level)).reshape(-1, 4)[:number]


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


def _area(columns: list[jax.Array], pixel_offset: float) -> jax.Array:
    """The areas of boxes with one array for each of `x0`, `y0`, `x1` and `y1`."""
    x0, y0, x1, y1 = columns
    width, height = x1 - x0 + pixel_offset, y1 - y0 + pixel_offset
    return jnp.maximum(width, 0.0) * jnp.maximum(height, 0.0)
