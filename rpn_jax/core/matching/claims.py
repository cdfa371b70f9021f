"""What boxes claim, and which of them gets an anchor that several claim."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from .._typing import Bool, Float, Int
from .association import Matches


class Claims(NamedTuple):
    """The candidates of every box, and which of them it claims as positives.

    Attributes:
        anchor: `[m k]` index of the candidate.
        iou: `[m k]` its IoU with the box.
        is_claimed: `[m k]` whether the box claims it.
    """

    anchor: Int[jax.Array, "m k"]
    iou: Float[jax.Array, "m k"]
    is_claimed: Bool[jax.Array, "m k"]


def match_claims(
    claims: Claims, is_kept: Bool[jax.Array, " n"], max_iou: Float[jax.Array, " n"]
) -> Matches:
    """Gives every claimed anchor to the box with the highest IoU among its claimants.

    Args:
        claims: what the boxes claim. The lowest row wins ties.
        is_kept: which anchors take part; the others are ignored.
        max_iou: what `Matches.max_iou` is to be.
    """
    # As arrays, so that the highest IoU and the values equal to it are the same bits.
    anchor, iou, is_claimed = jax.lax.optimization_barrier(claims)
    number, outside = iou.shape[0], is_kept.shape[0]
    # The index of a candidate that is not claimed is put out of bounds, and dropped.
    place = jnp.where(is_claimed, anchor, outside)
    highest = jnp.full(outside, -1.0, jnp.float32).at[place].max(iou, mode="drop")
    is_highest = is_claimed & (iou == highest[anchor])
    rows = jnp.arange(number, dtype=jnp.int32)[:, None]
    row = jnp.full(outside, number, jnp.int32)
    row = row.at[jnp.where(is_highest, anchor, outside)].min(rows, mode="drop")
    return positives_of_rows(row, row < number, is_kept, max_iou)


def positives_of_rows(
    row: Int[jax.Array, " n"],
    is_positive: Bool[jax.Array, " n"],
    is_kept: Bool[jax.Array, " n"],
    max_iou: Float[jax.Array, " n"],
) -> Matches:
    """Makes positives, and negatives of all other anchors that are kept.

    Args:
        row: row of the box of every positive.
        is_positive: which anchors are positive.
        is_kept: which anchors take part; the others are ignored.
        max_iou: what `Matches.max_iou` is to be.
    """
    labels = jnp.where(is_positive, 1, jnp.where(is_kept, 0, -1))
    return Matches(labels.astype(jnp.int32), jnp.where(is_positive, row, 0), max_iou)
