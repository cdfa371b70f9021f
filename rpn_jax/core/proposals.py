"""Proposals: from a head's predictions to a fixed number of scored boxes."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ._arguments import lenient_jit
from ._typing import Array, Bool, Float, ImageSize, Int
from .anchors import AnchorGrid, Anchors
from .boxes import clip_boxes, decode_boxes
from .config import ProposalConfig
from .output import RPNOutput, objectness_logits
from .suppression import (
    NOT_PROPOSED,
    Candidates,
    Survivors,
    move_to_votes,
    suppress_levels,
)


class Proposals(NamedTuple):
    """The boxes most likely to hold an object, from the highest score down.

    The batch axis is absent where the predictions have none.

    Attributes:
        boxes: `[b k 4]` boxes `(x0, y0, x1, y1)` inside the image; zeros in padding.
        scores: `[b k]` probability of being an object, in `[0, 1]`; 0 in padding.
        valid: `[b k]` which rows are proposals; padding comes last.

    >>> found = Proposals(np.ones((2, 4)), np.array([0.9, 0]), np.array([True, False]))
    >>> found.scores[found.valid].tolist()
    [0.9]
    """

    boxes: Float[Array, "*b_k 4"]
    scores: Float[Array, "*b_k"]
    valid: Bool[Array, "*b_k"]


class _Best(NamedTuple):
    """The highest logits of each level, in their order.

    Attributes:
        logits: `[l k]` the logits; `NOT_PROPOSED` where a level has no more.
        rows: `[l k]` where they were found.
        anchors: `[l k 4]` their anchors.
    """

    logits: Float[Array, "l k"]
    rows: Int[Array, "l k"]
    anchors: Float[Array, "l k 4"]


@lenient_jit(static_argnames=("config",))
def propose(
    output: RPNOutput,
    anchors: Anchors,
    image_size: ImageSize | Float[Array, "b 2"] | Int[Array, "b 2"],
    *,
    config: ProposalConfig = ProposalConfig(),
) -> Proposals:
    """Decodes the best predictions and drops those that overlap a better one.

    The steps are:

    1. select the `pre_nms_top_k` of each level by logit, ties to the lowest index;
    2. decode them and clip them to the image;
    3. drop small boxes and low scores;
    4. suppress within each level, softly if `soft_iou_threshold` is set;
    5. select the `post_nms_top_k` of all levels, ties to the first level;
    6. move boxes to the mean of those around them if `vote_iou_threshold` is set.

    A prediction with a logit or a delta that is not finite is never proposed. Logits
    decide every order, so probabilities that round to 1 do not tie. No gradient passes.

    Args:
        output: predictions for all anchors, of one image or with a leading batch axis.
        anchors: the anchors; a plain array counts as one level.
        image_size: `(height, width)` in pixels without padding, to which boxes are
            clipped: one pair for all images of a batch, or `[b 2]`.
        config: the settings. Pass `config.for_training()` for the training limits.

    Returns:
        `config.post_nms_top_k` rows per image, padding included.

    Raises:
        ValueError: there are no anchors, or predictions for another number of them.

    >>> output = RPNOutput(jnp.array([0.0, 2.0]), jnp.zeros((2, 4)))
    >>> anchors = jnp.array([[0.0, 0, 8, 8], [20, 20, 28, 28]])
    >>> size = jnp.array([32.0, 24.0])
    >>> rules = ProposalConfig(per_level=False)
    >>> found = jax.jit(lambda x: propose(x, anchors, size, config=rules))(output)
    >>> found.boxes[found.valid].tolist()
    [[20.0, 20.0, 24.0, 28.0], [0.0, 0.0, 8.0, 8.0]]
    """
    number = len(anchors)
    if output.deltas.shape[-2] != number or number == 0:
        raise ValueError(
            "propose needs predictions for all anchors, at least one, got deltas of "
            f"shape {output.deltas.shape} for {number} anchors."
        )
    output = lax.stop_gradient(jax.tree.map(jnp.asarray, output))
    if output.deltas.ndim == 2:
        return _propose(output, anchors, image_size, config)
    sizes = jnp.asarray(image_size)
    sizes = jnp.broadcast_to(sizes.reshape(-1, 2), (output.deltas.shape[0], 2))
    of_one = functools.partial(_propose, config=config)
    return jax.vmap(of_one, in_axes=(0, None, 0))(output, anchors, sizes)


def _propose(
    output: RPNOutput,
    anchors: Anchors,
    image_size: ImageSize,
    config: ProposalConfig,
) -> Proposals:
    candidates = select_candidates(output, anchors, image_size, config)
    kept = suppress_levels(candidates, config)
    return best_of_all_levels(candidates, kept, config)


def select_candidates(
    output: RPNOutput,
    anchors: Anchors,
    image_size: ImageSize,
    config: ProposalConfig,
) -> Candidates:
    """The `pre_nms_top_k` predictions of each level, as boxes."""
    # What must not be proposed sorts last.
    logits = objectness_logits(output)
    logits = jnp.where(logits == 0.0, 0.0, logits)  # -0.0 ties with 0.0
    is_finite = jnp.isfinite(logits)
    lowest = np.nextafter(NOT_PROPOSED, np.float32(0.0))
    logits = jnp.where(is_finite, jnp.maximum(logits, lowest), NOT_PROPOSED)
    if config.filter_before_top_k:
        all_anchors = anchors.boxes if isinstance(anchors, AnchorGrid) else anchors
        boxes = _decode(output.deltas, all_anchors, image_size, config)
        logits = jnp.where(_is_large_enough(boxes, config), logits, NOT_PROPOSED)
    best = _best_of_each_level(logits, _split_levels(anchors, config), config)
    # One coordinate at a time: as rows of four, TPUs would pad all deltas to 128 lanes.
    columns = [output.deltas[:, i][best.rows.reshape(-1)] for i in range(4)]
    deltas = jnp.stack(columns, axis=1)
    boxes = _decode(deltas, best.anchors.reshape(-1, 4), image_size, config)
    # Rows that were selected and still must not be proposed.
    valid = jnp.isfinite(deltas).all(axis=-1) & _is_large_enough(boxes, config)
    valid = valid.reshape(best.logits.shape) & (best.logits > NOT_PROPOSED)
    if config.score_threshold is not None:
        valid &= jax.nn.sigmoid(best.logits) >= config.score_threshold
    return Candidates(boxes.reshape(*valid.shape, 4), best.logits, valid)


def _split_levels(anchors: Anchors, config: ProposalConfig) -> list[Anchors]:
    """The anchors of each set of predictions that is ranked separately."""
    if isinstance(anchors, AnchorGrid) and config.per_level:
        return [AnchorGrid((level,)) for level in anchors.levels]
    return [anchors]


def _best_of_each_level(
    logits: Float[Array, " n"], levels: list[Anchors], config: ProposalConfig
) -> _Best:
    # Small levels are padded to the rows that the largest level needs. Then all levels
    # have one shape, and one `vmap` suppresses in all of them.
    width = min(config.pre_nms_top_k, max(map(len, levels)))
    best, start = [], 0
    for anchors in levels:
        level = lax.slice_in_dim(logits, start, start + len(anchors))
        highest, index = lax.top_k(level, min(width, len(anchors)))
        is_grid = isinstance(anchors, AnchorGrid)
        found = anchors.take(index) if is_grid else jnp.asarray(anchors)[index]
        missing = width - len(highest)
        best.append(
            _Best(
                logits=_pad_rows(highest, missing, float(NOT_PROPOSED)),
                rows=_pad_rows(index + start, missing),
                anchors=_pad_rows(found, missing),
            )
        )
        start += len(anchors)
    return jax.tree.map(lambda *rows: jnp.stack(rows), *best)


def best_of_all_levels(
    candidates: Candidates, kept: Survivors, config: ProposalConfig
) -> Proposals:
    """The highest logits among what was kept of every level."""
    levels, width = candidates.logits.shape
    # Rows of the flattened candidates. What was not kept sorts last.
    rows = kept.rows + width * jnp.arange(levels, dtype=jnp.int32)[:, None]
    missing = max(config.post_nms_top_k - rows.size, 0)
    number = config.post_nms_top_k - missing
    logits, best = lax.top_k(kept.logits.reshape(-1), number)
    row = rows.reshape(-1)[best]
    boxes = candidates.boxes.reshape(-1, 4)[row]
    if config.vote_iou_threshold is not None:
        moved = move_to_votes(
            boxes,
            row // width,
            candidates,
            config.vote_iou_threshold,
            pixel_offset=config.pixel_offset,
        )
        is_sure = kept.is_sure.reshape(-1)[best]
        boxes = jnp.where(is_sure[:, None], moved, boxes)
    valid = logits > NOT_PROPOSED
    boxes = jnp.where(valid[:, None], boxes, 0.0)
    proposals = Proposals(boxes, jax.nn.sigmoid(logits), valid)
    return jax.tree.map(lambda x: _pad_rows(x, missing), proposals)


def _decode(
    deltas: Float[Array, "n 4"],
    anchors: Float[Array, "n 4"],
    image_size: ImageSize,
    config: ProposalConfig,
) -> Float[jax.Array, "n 4"]:
    boxes = decode_boxes(
        deltas,
        anchors,
        weights=config.delta_weights,
        pixel_offset=config.pixel_offset,
        max_log_scale=config.max_log_scale,
        symmetric_log_scale=config.symmetric_log_scale,
    )
    return clip_boxes(boxes, image_size, pixel_offset=config.pixel_offset)


def _is_large_enough(
    boxes: Float[Array, "n 4"], config: ProposalConfig
) -> Bool[jax.Array, " n"]:
    sides = boxes[:, 2:] - boxes[:, :2] + config.pixel_offset
    shorter = sides.min(axis=-1)
    if config.exclusive_min_size:
        return shorter > config.min_size
    return shorter >= config.min_size


def _pad_rows(x: jax.Array, number: int, value: float = 0.0) -> jax.Array:
    """Appends `number` rows."""
    padding = [(0, number)] + [(0, 0)] * (x.ndim - 1)
    return jnp.pad(x, padding, constant_values=jnp.asarray(value, x.dtype))
