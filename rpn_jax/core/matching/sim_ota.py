"""SimOTA: boxes take the anchors of lowest cost, as many as their IoUs say.

"YOLOX: Exceeding YOLO Series in 2021" by Ge et al. (https://arxiv.org/abs/2107.08430),
Sec. 2.1, for objectness instead of classes:

1. An anchor takes part if its centre lies in some box, or in the region of
   `center_radius` strides around the centre of some box.
2. The cost of an anchor for a box is `-log(score)` plus `iou_weight` times `-log(IoU)`.
   It is the IoU of the predicted box. Anchors whose centre is not both in this box and
   in its centre region cost far more.
3. A box takes the `k` anchors of lowest cost. `k` is the sum of its
   `candidate_top_k` highest IoUs, rounded down, and at least 1.
4. An anchor that several boxes take belongs to the box for which it costs least, of all
   boxes. All other anchors are negative.

The `SimOTAAssigner` of mmdetection decides the details. The lowest index wins ties.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from .._typing import Bool, Float, Int
from ..anchors import AnchorGrid
from ..boxes import is_proper
from ..config import TargetConfig
from .association import Matches
from .centers import anchor_centers, depth
from .claims import positives_of_rows
from .predicted import Predicted

_FAR_COST = 100_000.0  # what an anchor outside of the box or of its centre costs more
_LARGEST_LOSS = 100.0  # what a score of 0 costs, as in torch's binary_cross_entropy
_NO_COST = 1e30  # what an anchor costs that may not be taken; finite for debug_infs
_EPSILON = 1e-7  # keeps the logarithm of an IoU of 0 finite


class _Taken(NamedTuple):
    """Which boxes take each anchor, after some boxes.

    Attributes:
        times: `[n]` number of boxes that take the anchor.
        row: `[n]` row of the last one.
        cost: `[n]` the lowest cost for any box.
        cheapest: `[n]` row of the first box with that cost.
        max_iou: `[n]` the highest IoU with any box.
    """

    times: Int[jax.Array, " n"]
    row: Int[jax.Array, " n"]
    cost: Float[jax.Array, " n"]
    cheapest: Int[jax.Array, " n"]
    max_iou: Float[jax.Array, " n"]


class _Places(NamedTuple):
    """Where the anchors lie.

    Attributes:
        x: `[n]` centre.
        y: `[n]` centre.
        reach: `[n]` half the width of the centre region on the anchor's level, and half
            its height.
    """

    x: Float[jax.Array, " n"]
    y: Float[jax.Array, " n"]
    reach: tuple[Float[jax.Array, " n"], Float[jax.Array, " n"]]

    def depths(
        self, box: Float[jax.Array, "4"], pixel_offset: float
    ) -> tuple[Bool[jax.Array, " n"], Bool[jax.Array, " n"]]:
        """Which anchors have their centre in a box, and in its centre region."""
        is_inside = depth(self.x, self.y, box, pixel_offset) > 0.0
        middle_x, middle_y = ((box[i] + box[i + 2] + pixel_offset) / 2 for i in (0, 1))
        x0, y0 = middle_x - self.reach[0], middle_y - self.reach[1]
        x1, y1 = middle_x + self.reach[0], middle_y + self.reach[1]
        region = jnp.stack([x0, y0, x1, y1], axis=-1)
        return is_inside, depth(self.x, self.y, region, 0.0) > 0.0


def match_sim_ota(
    anchors: AnchorGrid,
    objects: Float[jax.Array, "m 4"],
    is_kept: Bool[jax.Array, " n"],
    predicted: Predicted,
    config: TargetConfig,
) -> Matches:
    """Labels the anchors of an image by SimOTA.

    Args:
        anchors: the grid, whose strides set the centre regions.
        objects: the objects.
        is_kept: which anchors take part.
        predicted: the predictions.
        config: the rules.
    """
    rules, offset = config.sim_ota, config.pixel_offset
    places, exists = _places(anchors, config), is_proper(objects)
    number = is_kept.shape[0]
    loss = jnp.minimum(jax.nn.softplus(-predicted.logits), _LARGEST_LOSS)
    is_near = _near_some_box(places, objects, exists, offset) & is_kept

    def take(taken, box):
        row, box, exists = box
        in_box, in_center = places.depths(box, offset)
        iou = predicted.iou_with(box, offset)
        iou_loss = -jnp.log(iou + _EPSILON)
        cost = rules.objectness_weight * loss + rules.iou_weight * iou_loss
        cost += jnp.where(in_box & in_center, 0.0, _FAR_COST)
        cost = jnp.where(is_near & exists, cost, _NO_COST)
        place = _cheapest(cost, jnp.where(is_near, iou, 0.0), rules.candidate_top_k)
        is_cheaper = cost < taken.cost
        return _Taken(
            times=taken.times.at[place].add(1, mode="drop"),
            row=taken.row.at[place].set(row, mode="drop"),
            cost=jnp.minimum(cost, taken.cost),
            cheapest=jnp.where(is_cheaper, row, taken.cheapest),
            max_iou=jnp.maximum(jnp.where(is_kept, iou, 0.0), taken.max_iou),
        ), None

    # Made from inputs: under `shard_map`, a scan's state has to vary like its results.
    none = jnp.full(number, jnp.zeros_like(objects[0, 0]))
    no_row = none.astype(jnp.int32)
    taken = _Taken(no_row, no_row, none + _NO_COST, no_row, none)
    rows = jnp.arange(objects.shape[0], dtype=jnp.int32)
    taken = jax.lax.scan(take, taken, (rows, objects, exists))[0]
    row = jnp.where(taken.times > 1, taken.cheapest, taken.row)
    return positives_of_rows(row, taken.times > 0, is_kept, taken.max_iou)


def _near_some_box(
    places: _Places,
    objects: Float[jax.Array, "m 4"],
    exists: Bool[jax.Array, " m"],
    pixel_offset: float,
) -> Bool[jax.Array, " n"]:
    """Which anchors have their centre in some box, or in its centre region."""

    def find(takes_part, box):
        box, exists = box
        in_box, in_center = places.depths(box, pixel_offset)
        return takes_part | (exists & (in_box | in_center)), None

    # Made from inputs: under `shard_map`, a scan's state has to vary like its results.
    nowhere = jnp.full(places.x.shape, jnp.zeros_like(objects[0, 0]) > 0.0)
    return jax.lax.scan(find, nowhere, (objects, exists))[0]


def _cheapest(
    cost: Float[jax.Array, " n"], iou: Float[jax.Array, " n"], candidate_top_k: int
) -> Int[jax.Array, " k"]:
    """The anchors that a box takes; places of the other candidates are out of bounds.

    Args:
        cost: what each anchor costs.
        iou: the IoU of each anchor with the box, 0 for those that do not take part.
        candidate_top_k: how many of the highest IoUs count.
    """
    number = cost.shape[0]
    top_k = min(candidate_top_k, number)
    best = jax.lax.top_k(iou, top_k)[0]
    count = jnp.maximum(jnp.sum(best).astype(jnp.int32), 1)
    negative, index = jax.lax.top_k(-cost, top_k)
    is_taken = jnp.arange(top_k, dtype=jnp.int32) < count
    return jnp.where(is_taken & (negative > -_NO_COST), index, number)


def _places(anchors: AnchorGrid, config: TargetConfig) -> _Places:
    x, y = anchor_centers(anchors, config.pixel_offset)
    sizes = anchors.level_sizes
    radius = config.sim_ota.center_radius
    height, width = (
        jnp.concatenate(
            [
                jnp.full(size, radius * level.stride[axis], jnp.float32)
                for level, size in zip(anchors.levels, sizes, strict=True)
            ]
        )
        for axis in (0, 1)
    )
    return _Places(x, y, (width, height))
