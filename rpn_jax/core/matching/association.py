"""What every form of matching returns."""

from typing import NamedTuple

import jax

from .._typing import Bool, Float, Int


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
