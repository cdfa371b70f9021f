"""Matching: which anchors are positive, negative or ignored, before sampling."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from .._typing import Array, Bool, Float, ImageSize, Int
from ..anchors import AnchorGrid, Anchors
from ..boxes import area, finite_boxes, is_proper
from ..config import TargetConfig
from .axes import iou_from_areas, shared_length
from .grid import Association, associate_grid, grid_inside


class Matches(NamedTuple):
    """For each anchor, its label and the box it should regress to.

    Attributes:
        labels: `[n]` 1 positive, 0 negative, -1 ignored.
        gt_index: `[n]` row of the box that the anchor overlaps most, the lowest on
            ties, or that forced it under `retarget_forced`; 0 if it overlaps none.
        max_iou: `[n]` IoU with the box that it overlaps most; 0 for an anchor that was
            left out before matching.
    """

    labels: Int[jax.Array, " n"]
    gt_index: Int[jax.Array, " n"]
    max_iou: Float[jax.Array, " n"]


class GroundTruth(NamedTuple):
    """The boxes of an image, made fit to compute with.

    Attributes:
        objects: `[m 4]` finite boxes; a row that is not an object overlaps nothing.
        regions: `[m 4]` the same of the regions to ignore, or None if they have no
            effect.
    """

    objects: Float[jax.Array, "m 4"]
    regions: Float[jax.Array, "m 4"] | None


def match_anchors(
    anchors: Anchors,
    gt_boxes: Float[Array, "m 4"],
    gt_valid: Bool[Array, " m"],
    image_size: ImageSize | None = None,
    *,
    gt_ignore: Bool[Array, " m"] | None = None,
    config: TargetConfig = TargetConfig(),
) -> Matches:
    """Labels every anchor of an image by its overlap with the ground truth.

    Positive is an anchor that overlaps some box by `config.positive_iou`, negative one
    that overlaps all by less than `config.negative_iou`, and every box forces its best
    anchors positive: Sec. 3.1.2 of "Faster R-CNN" by Ren et al.
    (https://arxiv.org/abs/1506.01497). `TargetConfig` has the rules of other systems.
    No array of size anchors times boxes is made.

    Args:
        anchors: a grid, which is faster, or any boxes `[n 4]`.
        gt_boxes: boxes `(x0, y0, x1, y1)` in pixels. There may be no rows.
        gt_valid: which rows are boxes; the others are padding and may hold anything.
        image_size: `(height, width)` of the image without its padding. Needed if
            `config` has an `allowed_border` or `ignore_padding`.
        gt_ignore: which of the valid rows are regions to ignore, not objects.
        config: the rules.

    Returns:
        Labels, boxes and overlaps. A valid row that is not finite, or does not have
        `x0 < x1` and `y0 < y1`, counts as padding; `count_degenerate` counts those.
        Without any box all anchors are negative, but for those that a border ignores.

    Raises:
        ValueError: `config` asks for an `image_size`, or an `AnchorGrid`, and there is
            none.
    """
    gt = ground_truth(gt_boxes, gt_valid, gt_ignore, config)
    return match(anchors, gt, image_size, config=config, floor=0.0)


def ground_truth(
    gt_boxes: Float[Array, "m 4"],
    gt_valid: Bool[Array, " m"],
    gt_ignore: Bool[Array, " m"] | None,
    config: TargetConfig,
) -> GroundTruth:
    """Splits rows into objects and regions, and makes all others overlap nothing."""
    gt_boxes = jax.lax.stop_gradient(jnp.asarray(gt_boxes, jnp.float32))
    counts = jnp.asarray(gt_valid) & is_proper(gt_boxes)
    ignored = jnp.zeros_like(counts) if gt_ignore is None else jnp.asarray(gt_ignore)

    def only(rows):
        boxes = finite_boxes(jnp.where(rows[:, None], gt_boxes, jnp.nan))
        # One row more, that overlaps nothing, so that there always is one to index.
        return jnp.concatenate([boxes, finite_boxes(jnp.full((1, 4), jnp.nan))])

    has_regions = gt_ignore is not None and config.ignore_iof is not None
    return GroundTruth(
        only(counts & ~ignored), only(counts & ignored) if has_regions else None
    )


def match(
    anchors: Anchors,
    gt: GroundTruth,
    image_size: ImageSize | None,
    *,
    config: TargetConfig,
    floor: float,
) -> Matches:
    """`match_anchors`, where an IoU below `floor` need not be exact, nor its box.

    Labels are exact for a `floor` up to `config.negative_iou`, and so are the boxes of
    forced anchors under `config.retarget_forced`.
    """
    _check(anchors, image_size, config)
    if isinstance(anchors, AnchorGrid):
        found = associate_grid(
            anchors, gt.objects, gt.regions, image_size, config=config, floor=floor
        )
    else:
        found = _associate_boxes(anchors, gt, image_size, config)
    labels = _labels(found, config)
    if config.border_after_matching:
        inside = _inside(anchors, image_size, config.allowed_border)
        labels = jnp.where(inside, labels, -1)
    gt_index = found.gt_index
    if config.retarget_forced:
        gt_index = jnp.where(found.forced_by >= 0, found.forced_by, gt_index)
    return Matches(labels, gt_index, found.iou)


def _check(
    anchors: Anchors, image_size: ImageSize | None, config: TargetConfig
) -> None:
    if image_size is None and (
        config.allowed_border is not None or config.ignore_padding
    ):
        raise ValueError(
            "match_anchors needs image_size for allowed_border="
            f"{config.allowed_border} and ignore_padding={config.ignore_padding}, got "
            "None. Pass (height, width) of the image without its padding."
        )
    if config.ignore_padding and not isinstance(anchors, AnchorGrid):
        raise ValueError(
            "match_anchors needs an AnchorGrid for ignore_padding, to know the cells, "
            f"got an array of shape {anchors.shape}. Pass what make_anchors returns."
        )


def _labels(found: Association, config: TargetConfig) -> Int[jax.Array, " n"]:
    is_negative = found.iou < config.negative_iou
    is_positive = (found.iou >= config.positive_iou) | (found.forced_by >= 0)
    if config.clobber_positives:
        is_positive &= ~is_negative
    labels = jnp.where(is_positive, 1, jnp.where(is_negative, 0, -1))
    return jnp.where(found.is_kept, labels, -1).astype(jnp.int32)


def _inside(
    anchors: Anchors, image_size: ImageSize | None, border: float | None
) -> Bool[jax.Array, " n"]:
    if isinstance(anchors, AnchorGrid):
        return grid_inside(anchors, image_size, border)
    boxes = jnp.asarray(anchors, jnp.float32)
    if border is None or image_size is None:
        return jnp.ones(boxes.shape[0], bool)
    height, width = (jnp.asarray(image_size[i], jnp.float32) for i in (0, 1))
    starts_inside = (boxes[:, 0] >= -border) & (boxes[:, 1] >= -border)
    return (
        starts_inside & (boxes[:, 2] < width + border) & (boxes[:, 3] < height + border)
    )


def _associate_boxes(
    anchors: Float[Array, "n 4"],
    gt: GroundTruth,
    image_size: ImageSize | None,
    config: TargetConfig,
) -> Association:
    """One pass over the boxes, with every anchor at a time."""
    border = None if config.border_after_matching else config.allowed_border
    is_kept = _inside(anchors, image_size, border)
    boxes = finite_boxes(jax.lax.stop_gradient(jnp.asarray(anchors)))
    if gt.regions is not None and config.ignore_iof is not None:
        share = _share_of_regions(boxes, gt.regions, config)
        is_kept &= share <= config.ignore_iof

    def visit(found, row):
        index, box = row
        overlap = _shared_area(boxes, box, config.pixel_offset)
        areas = [area(x, pixel_offset=config.pixel_offset) for x in (boxes, box[None])]
        iou = jnp.where(is_kept, iou_from_areas(overlap, *areas), 0.0)
        # As one array, so that the maximum and those equal to it see the same bits.
        iou = jax.lax.optimization_barrier(iou)
        claims = _claims(iou, config)
        return Association(
            iou=jnp.maximum(iou, found.iou),
            gt_index=jnp.where(iou > found.iou, index, found.gt_index),
            forced_by=jnp.where(claims, index, found.forced_by),
            is_kept=is_kept,
        ), None

    # Made from inputs: under `shard_map`, a scan's state has to vary like its results.
    no_iou = jnp.full(boxes.shape[0], jnp.zeros_like(gt.objects[0, 0]))
    no_index = jnp.zeros_like(no_iou, jnp.int32)
    nothing = Association(no_iou, no_index, no_index - 1, is_kept)
    rows = jnp.arange(gt.objects.shape[0], dtype=jnp.int32)
    return jax.lax.scan(visit, nothing, (rows, gt.objects))[0]


def _claims(iou: Float[jax.Array, " n"], config: TargetConfig) -> Bool[jax.Array, " n"]:
    """The anchors that one box forces positive."""
    best = iou.max()
    may_force = (best > 0.0) & (best >= config.min_force_iou)
    if config.force_match == "none":
        return jnp.zeros_like(iou, bool)
    if config.force_match == "first":
        return may_force & (jnp.arange(iou.shape[0]) == iou.argmax())
    return may_force & (iou == best)


def _shared_area(
    boxes: Float[jax.Array, "n 4"], box: Float[jax.Array, "4"], pixel_offset: float
) -> Float[jax.Array, " n"]:
    low, high, start, end = boxes[:, :2], boxes[:, 2:], box[None, :2], box[None, 2:]
    sides = shared_length(low, high, start, end, pixel_offset)
    return sides[:, 0] * sides[:, 1]


def _share_of_regions(
    boxes: Float[jax.Array, "n 4"],
    regions: Float[jax.Array, "m 4"],
    config: TargetConfig,
) -> Float[jax.Array, " n"]:
    """The largest share of an anchor in a region, or of a region in an anchor."""

    def visit(largest, region):
        overlap = _shared_area(boxes, region, config.pixel_offset)
        foreground = boxes if config.ignore_wrt_candidates else region[None]
        whole = area(foreground, pixel_offset=config.pixel_offset)
        return jnp.maximum(largest, overlap / jnp.where(whole > 0.0, whole, 1.0)), None

    nothing = jnp.full(boxes.shape[0], jnp.zeros_like(regions[0, 0]))
    return jax.lax.scan(visit, nothing, regions)[0]
