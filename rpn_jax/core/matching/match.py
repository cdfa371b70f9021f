"""Matching: the label of every anchor, from its overlaps with the ground truth."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from .._typing import Array, Bool, Float, ImageSize, Int
from ..anchors import AnchorGrid, Anchors
from ..config import TargetConfig
from .any_boxes import associate_boxes
from .association import Association
from .grid import associate_grid, grid_inside
from .ground_truth import MatchBoxes, split_ground_truth


class Matches(NamedTuple):
    """For each anchor, its label and the box it should regress to.

    Attributes:
        labels: `[n]` 1 positive, 0 negative, -1 ignored.
        gt_index: `[n]` row of the box with the highest IoU, the lowest row on ties; 0
            if the anchor overlaps none. Under `retarget_forced`, a forced anchor has
            the row of the box that forced it.
        max_iou: `[n]` the highest IoU with any box; 0 for an anchor that was dropped
            before matching.
    """

    labels: Int[jax.Array, " n"]
    gt_index: Int[jax.Array, " n"]
    max_iou: Float[jax.Array, " n"]


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

    An anchor is positive if its IoU with some box is at least `config.positive_iou`,
    and negative if its IoU with every box is below `config.negative_iou`. Every box
    also forces its best anchors positive: Sec. 3.1.2 of "Faster R-CNN" by Ren et al.
    (https://arxiv.org/abs/1506.01497). `TargetConfig` has the rules of other systems.
    No array of anchors times boxes is stored.

    Args:
        anchors: a grid, which is faster, or any boxes `[n 4]`.
        gt_boxes: boxes `(x0, y0, x1, y1)` in pixels. There may be no rows.
        gt_valid: which rows are boxes; the others are padding and may hold anything.
        image_size: `(height, width)` of the image without its padding. It is needed if
            `config` has an `allowed_border` or `ignore_padding`.
        gt_ignore: which of the valid rows are ignored regions instead of objects.
        config: the rules.

    Returns:
        Labels, boxes and overlaps. A valid row that is not finite, or does not have
        `x0 < x1` and `y0 < y1`, counts as padding; `count_degenerate` counts those.
        Without any box all anchors are negative, except those that a border ignores.

    Raises:
        ValueError: `config` needs an `image_size` or an `AnchorGrid`, and got none.
    """
    gt = split_ground_truth(gt_boxes, gt_valid, gt_ignore, config)
    return match(anchors, gt, image_size, config=config, floor=0.0)


def match(
    anchors: Anchors,
    gt: MatchBoxes,
    image_size: ImageSize | None,
    *,
    config: TargetConfig,
    floor: float,
) -> Matches:
    """`match_anchors`, where IoUs below `floor`, and their boxes, may be wrong.

    Labels are exact for a `floor` of up to `config.negative_iou`. So are the boxes of
    forced anchors under `config.retarget_forced`.

    Args:
        anchors: a grid, or any boxes.
        gt: objects and ignored regions.
        image_size: `(height, width)` without the padding.
        config: the rules.
        floor: lowest IoU that must be exact.
    """
    _check(anchors, image_size, config)
    if isinstance(anchors, AnchorGrid):
        found = associate_grid(anchors, gt, image_size, config=config, floor=floor)
    else:
        border = None if config.border_after_matching else config.allowed_border
        inside = _inside(anchors, image_size, border)
        found = associate_boxes(anchors, inside, gt, config=config)
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
            "match_anchors needs an AnchorGrid for ignore_padding to know the cells, "
            f"got an array of shape {anchors.shape}. Pass what make_anchors returns."
        )


def _labels(found: Association, config: TargetConfig) -> Int[jax.Array, " n"]:
    """Labels by the two thresholds. What boxes force is decided in `forced.py`."""
    is_negative = found.iou < config.negative_iou
    is_positive = (found.iou >= config.positive_iou) | (found.forced_by >= 0)
    if config.clobber_positives:
        is_positive &= ~is_negative
    labels = jnp.where(is_positive, 1, jnp.where(is_negative, 0, -1))
    return jnp.where(found.is_kept, labels, -1).astype(jnp.int32)


def _inside(
    anchors: Anchors, image_size: ImageSize | None, border: float | None
) -> Bool[jax.Array, " n"]:
    """Which anchors lie in the image, or extend beyond it by less than a border."""
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
