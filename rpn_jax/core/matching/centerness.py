"""The centerness rule of OLN: anchors that overlap a box a little, and how central.

"Learning Open-World Object Proposals without Learning to Classify" by Kim et al.
(https://arxiv.org/abs/2108.06753), Sec. 3.1. Anchors with an IoU of at least 0.3 are
positive, and each has the centerness of FCOS (Eq. 3 of https://arxiv.org/abs/1904.01355):
`sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b))`, where `l`, `t`, `r` and `b` are
the pixels from the centre of the anchor to the edges of its box.

The paper and the code (github.com/mcahny/object_localization_network) differ. The paper
samples no background. The code fills the sample with anchors of an IoU below 0.1, for
which the centerness to be learned is 0. The default follows the code, since an
objectness that learns labels needs negatives. `CenternessConfig(background=False)`
follows the paper. For both, set `TargetConfig.positive_fraction` to 1.

The code decides the details. A box also gets the anchors that overlap it most, if its
IoU with them is at least `positive_iou`. An anchor whose centre is outside its box is
positive with a centerness of 0. OLN learns box deltas from a second sample, of
anchors with an IoU of at least 0.7. Here both losses see the same sample.
"""

import dataclasses

import jax
import jax.numpy as jnp

from .._typing import Float, Int
from ..anchors import Anchors
from ..config import TargetConfig
from ..rule_configs import CenternessConfig
from .association import Matches
from .centers import anchor_centers, depth

# The larger distance to an edge counts as at least this, so that nothing is divided by
# 0. It is larger wherever the smaller distance is above 0.
_SMALLEST = 1e-12


def overlap_rules(config: TargetConfig) -> TargetConfig:
    """The max-IoU rules by which the centerness rule labels anchors."""
    return dataclasses.replace(
        config,
        assigner="max_iou",
        centerness=CenternessConfig(),
        positive_iou=config.centerness.positive_iou,
        negative_iou=config.centerness.negative_iou,
        force_match="ties",
        min_force_iou=config.centerness.positive_iou,
        retarget_forced=True,
        clobber_positives=False,
    )


def with_centerness(
    matches: Matches,
    anchors: Anchors,
    objects: Float[jax.Array, "m 4"],
    config: TargetConfig,
) -> Matches:
    """Replaces the IoUs of matches by centerness, and ignores background if asked to.

    Args:
        matches: labels by `overlap_rules`.
        anchors: a grid, or any boxes.
        objects: the objects.
        config: the rules.
    """
    labels = matches.labels
    if not config.centerness.background:
        labels = jnp.where(labels == 0, -1, labels)
    value = centerness(anchors, objects, matches.gt_index, config.pixel_offset)
    # An anchor that was dropped, or overlaps nothing, has no box.
    return Matches(labels, matches.gt_index, jnp.where(matches.max_iou > 0, value, 0.0))


def centerness(
    anchors: Anchors,
    objects: Float[jax.Array, "m 4"],
    gt_index: Int[jax.Array, " n"],
    pixel_offset: float,
) -> Float[jax.Array, " n"]:
    """How central each anchor is in its box: 1 in the middle, 0 on an edge or outside.

    Args:
        anchors: a grid, or any boxes.
        objects: the boxes.
        gt_index: row of the box of every anchor.
        pixel_offset: added to `x1 - x0` to get the width.
    """
    x, y = anchor_centers(anchors, pixel_offset)
    # One coordinate at a time: as rows of four, TPUs would pad them to 128 lanes.
    x0, y0, x1, y1 = (objects[:, i][gt_index] for i in range(4))
    shares = [
        jnp.minimum(low, high) / jnp.maximum(jnp.maximum(low, high), _SMALLEST)
        for low, high in (
            (x - x0, x1 + pixel_offset - x),
            (y - y0, y1 + pixel_offset - y),
        )
    ]
    box = jnp.stack([x0, y0, x1, y1], axis=-1)
    is_inside = depth(x, y, box, pixel_offset) > 0.0
    return jnp.sqrt(jnp.where(is_inside, shares[0] * shares[1], 0.0))
