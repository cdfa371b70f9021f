"""Matching of anchors that are given as any boxes: a scan over the ground truth.

Every step compares one box with all anchors, so no array of anchors times boxes exists.
"""

import jax
import jax.numpy as jnp

from .._typing import Array, Bool, Float
from ..boxes import area, finite_boxes
from ..config import TargetConfig
from .association import Association
from .axes import iou_from_areas, shared_length
from .forced import forced_of_box
from .ground_truth import MatchBoxes


def associate_boxes(
    anchors: Float[Array, "n 4"],
    inside: Bool[jax.Array, " n"],
    gt: MatchBoxes,
    *,
    config: TargetConfig,
) -> Association:
    """Relates any anchors to the boxes of an image.

    Args:
        anchors: boxes; those that are not finite overlap nothing.
        inside: which anchors the border rules keep.
        gt: objects and ignored regions.
        config: the rules.
    """
    is_kept = kept_boxes(anchors, inside, gt, config=config)
    boxes = finite_boxes(jax.lax.stop_gradient(jnp.asarray(anchors)))
    anchor_areas = area(boxes, pixel_offset=config.pixel_offset)

    def visit(found, row):
        index, box = row
        overlap = _shared_area(boxes, box, config.pixel_offset)
        box_area = area(box[None], pixel_offset=config.pixel_offset)
        iou = jnp.where(is_kept, iou_from_areas(overlap, anchor_areas, box_area), 0.0)
        # As one array, so that the maximum and the values equal to it are the same
        # bits.
        iou = jax.lax.optimization_barrier(iou)
        return Association(
            iou=jnp.maximum(iou, found.iou),
            gt_index=jnp.where(iou > found.iou, index, found.gt_index),
            forced_by=jnp.where(forced_of_box(iou, config), index, found.forced_by),
            is_kept=is_kept,
        ), None

    # Made from inputs: under `shard_map`, a scan's state has to vary like its results.
    no_iou = jnp.full(boxes.shape[0], jnp.zeros_like(gt.objects[0, 0]))
    no_index = jnp.zeros_like(no_iou, jnp.int32)
    nothing = Association(no_iou, no_index, no_index - 1, is_kept)
    rows = jnp.arange(gt.objects.shape[0], dtype=jnp.int32)
    return jax.lax.scan(visit, nothing, (rows, gt.objects))[0]


def kept_boxes(
    anchors: Float[Array, "n 4"],
    inside: Bool[jax.Array, " n"],
    gt: MatchBoxes,
    *,
    config: TargetConfig,
) -> Bool[jax.Array, " n"]:
    """Which anchors take part; the arguments are those of `associate_boxes`."""
    if gt.ignored is None or config.ignore_iof is None:
        return inside
    boxes = finite_boxes(jax.lax.stop_gradient(jnp.asarray(anchors)))
    return inside & (_largest_share(boxes, gt.ignored, config) <= config.ignore_iof)


def _largest_share(
    boxes: Float[jax.Array, "n 4"],
    ignored: Float[jax.Array, "m 4"],
    config: TargetConfig,
) -> Float[jax.Array, " n"]:
    """The largest share of each anchor in an ignored region, or the reverse."""

    def visit(largest, region):
        overlap = _shared_area(boxes, region, config.pixel_offset)
        foreground = boxes if config.ignore_wrt_candidates else region[None]
        whole = area(foreground, pixel_offset=config.pixel_offset)
        return jnp.maximum(largest, overlap / jnp.where(whole > 0.0, whole, 1.0)), None

    nothing = jnp.full(boxes.shape[0], jnp.zeros_like(ignored[0, 0]))
    return jax.lax.scan(visit, nothing, ignored)[0]


def _shared_area(
    boxes: Float[jax.Array, "n 4"], box: Float[jax.Array, "4"], pixel_offset: float
) -> Float[jax.Array, " n"]:
    low, high, start, end = boxes[:, :2], boxes[:, 2:], box[None, :2], box[None, 2:]
    sides = shared_length(low, high, start, end, pixel_offset)
    return sides[:, 0] * sides[:, 1]
