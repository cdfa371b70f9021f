"""What rules and forms of matching return."""

from typing import NamedTuple

import jax

from .._typing import Bool, Float, Int


class Matches(NamedTuple):
    """For each anchor, its label and the box it should regress to.

    Attributes:
        labels: `[n]` 1 positive, 0 negative, -1 ignored.
        gt_index: `[n]` row of the box that a positive regresses to. Under `"max_iou"`
            and `"centerness"`, all anchors have the row of the box with the highest
            IoU, the lowest row on ties; 0 if they overlap none. Under
            `retarget_forced`, a forced anchor has the row of the box that forced it.
            Under the other rules, anchors that are not positive have 0.
        max_iou: `[n]` the highest IoU with any box, also of anchors that are not
            positive; 0 for an anchor that was dropped before matching. It is the IoU of
            the anchor, or of the predicted box under a rule that reads predictions.
            Under `"centerness"`, it is the centerness of the anchor in its box instead.

    >>> import numpy as np
    >>> labels, index = np.array([1, 0]), np.array([0, 0])
    >>> Matches(labels, index, np.array([0.8, 0.1])).labels.tolist()
    [1, 0]
    """

    labels: Int[jax.Array, " n"]
    gt_index: Int[jax.Array, " n"]
    max_iou: Float[jax.Array, " n"]


class Association(NamedTuple):
    """How the anchors of an image relate to its boxes.

    Attributes:
        iou: `[n]` the highest IoU with any box.
        gt_index: `[n]` the row of that box, the lowest on ties; 0 where nothing
            overlaps.
        forced_by: `[n]` the last box that forces the anchor positive, or -1.
        is_kept: `[n]` whether the anchor takes part. If not, the other fields are 0, 0
            and -1.
    """

    iou: Float[jax.Array, " n"]
    gt_index: Int[jax.Array, " n"]
    forced_by: Int[jax.Array, " n"]
    is_kept: Bool[jax.Array, " n"]


class LevelBest(NamedTuple):
    """The box that every anchor of a level overlaps most.

    Attributes:
        iou: `[a h w]` the IoU with that box. Where the true value is below the floor,
            this may be any lower value.
        gt_index: `[a h w]` the row of that box, the lowest on ties; 0 where nothing
            overlaps.
    """

    iou: Float[jax.Array, "a h w"]
    gt_index: Int[jax.Array, "a h w"]
