"""Rows of ground truth, split into objects and ignored regions."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from .._typing import ArrayLike, Bool, Float
from ..boxes import finite_boxes, is_proper
from ..config import TargetConfig


class MatchBoxes(NamedTuple):
    """The ground truth of an image as finite boxes, in two sets of the same rows.

    Attributes:
        objects: `[m 4]` the objects; every other row is a box that overlaps nothing.
        ignored: `[m 4]` the ignored regions in the same form, or None if they have no
            effect.
    """

    objects: Float[jax.Array, "m 4"]
    ignored: Float[jax.Array, "m 4"] | None


def split_ground_truth(
    gt_boxes: Float[ArrayLike, "m 4"],
    gt_valid: Bool[ArrayLike, " m"],
    gt_ignore: Bool[ArrayLike, " m"] | None,
    config: TargetConfig,
) -> MatchBoxes:
    """Splits rows into objects and ignored regions.

    Args:
        gt_boxes: boxes; rows of padding may hold anything.
        gt_valid: which rows are boxes.
        gt_ignore: which of the valid rows are ignored regions; None means none.
        config: the rules. Without `ignore_iof`, ignored regions have no effect.

    Returns:
        `m + 1` rows each. The last row overlaps nothing, so that there always is a row
        to index, even without ground truth.
    """
    gt_boxes = jax.lax.stop_gradient(jnp.asarray(gt_boxes, jnp.float32))
    counts = jnp.asarray(gt_valid) & is_proper(gt_boxes)
    ignored = jnp.zeros_like(counts) if gt_ignore is None else jnp.asarray(gt_ignore)
    nothing = jnp.array([[0.0, 0.0, -2.0, -2.0]], jnp.float32)  # inverted by any offset

    def only(rows):
        boxes = jnp.where(rows[:, None], finite_boxes(gt_boxes), nothing)
        return jnp.concatenate([boxes, nothing])

    has_effect = gt_ignore is not None and config.ignore_iof is not None
    return MatchBoxes(
        only(counts & ~ignored), only(counts & ignored) if has_effect else None
    )
