"""Matching: the label of every anchor, from its overlaps with the ground truth."""

import jax
import jax.numpy as jnp

from .._arguments import lenient
from .._typing import Array, ArrayLike, Bool, Float, ImageSize, Int
from ..anchors import AnchorGrid, Anchors
from ..config import TargetConfig
from ..output import RPNOutput
from .any_boxes import associate_boxes, kept_boxes
from .association import Association
from .association import Matches as Matches
from .atss import match_atss
from .centerness import overlap_rules, with_centerness
from .grid import associate_grid, grid_inside, kept_in_grid
from .ground_truth import MatchBoxes, split_ground_truth
from .predicted import read_predictions
from .region import match_regions
from .sim_ota import match_sim_ota
from .task_aligned import match_task_aligned


@lenient
def match_anchors(
    anchors: Anchors,
    gt_boxes: Float[ArrayLike, "m 4"],
    gt_valid: Bool[ArrayLike, " m"],
    image_size: ImageSize | None = None,
    *,
    gt_ignore: Bool[ArrayLike, " m"] | None = None,
    predictions: RPNOutput | None = None,
    config: TargetConfig = TargetConfig(),
) -> Matches:
    """Labels every anchor of an image by the ground truth.

    By default, an anchor is positive if its IoU with some box is at least
    `config.positive_iou`, and negative if its IoU with every box is below
    `config.negative_iou`. Every box also forces its best anchors positive: Sec. 3.1.2
    of "Faster R-CNN" by Ren et al. (https://arxiv.org/abs/1506.01497). `TargetConfig`
    has the rules of other systems, and `config.assigner` names other rules altogether.
    No array of anchors times boxes is stored.

    Args:
        anchors: a grid, which is faster, or any boxes `[n 4]`.
        gt_boxes: boxes `(x0, y0, x1, y1)` in pixels. There may be no rows.
        gt_valid: which rows are boxes; the others are padding and may hold anything.
        image_size: `(height, width)` of the image without its padding. It is needed if
            `config` has an `allowed_border` or `ignore_padding`.
        gt_ignore: which of the valid rows are ignored regions instead of objects.
        predictions: what the head predicts for all anchors of the image, if
            `config.assigner` reads it: `"task_aligned"` and `"sim_ota"`. No gradient
            passes through them.
        config: the rules.

    Returns:
        Labels, boxes and overlaps. A valid row that is not finite, or does not have
        `x0 < x1` and `y0 < y1`, counts as padding; `count_degenerate` counts those.
        Without any box all anchors are negative, except those that a border ignores.

    Raises:
        ValueError: `config` needs an `image_size`, an `AnchorGrid` or `predictions`,
            and got none.

    >>> anchors = jnp.array([[0.0, 0, 8, 8], [20, 20, 28, 28]])
    >>> boxes, valid = jnp.array([[0.0, 0, 8, 6]]), jnp.array([True])
    >>> matches = jax.jit(match_anchors)(anchors, boxes, valid)
    >>> matches.labels.tolist(), matches.max_iou.tolist()
    ([1, 0], [0.75, 0.0])
    """
    gt = split_ground_truth(gt_boxes, gt_valid, gt_ignore, config)
    return match(anchors, gt, image_size, predictions=predictions, config=config)


def match(
    anchors: Anchors,
    gt: MatchBoxes,
    image_size: ImageSize | None,
    *,
    predictions: RPNOutput | None = None,
    config: TargetConfig,
    is_exact: bool = True,
) -> Matches:
    """`match_anchors` of ground truth that is split already.

    Args:
        anchors: a grid, or any boxes.
        gt: objects and ignored regions.
        image_size: `(height, width)` without the padding.
        predictions: what the head predicts.
        config: the rules.
        is_exact: False is faster on a CPU. IoUs below the threshold of negatives may
            then be wrong, and so may the boxes of the anchors that have them. Labels
            are exact, and so are the boxes of positives under every rule but
            `"max_iou"` without `retarget_forced`.
    """
    _check(anchors, image_size, config)
    if config.assigner_reads_predictions:
        matches = _by_predictions(anchors, gt, image_size, predictions, config)
    else:
        matches = _by_geometry(anchors, gt, image_size, config, is_exact)
    if not config.border_after_matching:
        return matches
    inside = _inside(anchors, image_size, config.allowed_border)
    return matches._replace(labels=jnp.where(inside, matches.labels, -1))


def _by_geometry(
    anchors: Anchors,
    gt: MatchBoxes,
    image_size: ImageSize | None,
    config: TargetConfig,
    is_exact: bool,
) -> Matches:
    """Labels the anchors by a rule that reads no predictions."""
    rules = overlap_rules(config) if config.assigner == "centerness" else config
    if isinstance(anchors, AnchorGrid):
        floor = 0.0 if is_exact else rules.negative_iou
        found = associate_grid(anchors, gt, image_size, config=rules, floor=floor)
    else:
        inside = _inside_before(anchors, image_size, config)
        found = associate_boxes(anchors, inside, gt, config=rules)
    if config.assigner == "atss":
        return match_atss(anchors, gt, image_size, found, config)
    if config.assigner == "region":
        return match_regions(_grid(anchors, config), gt.objects, found, config)
    matches = _by_overlap(found, rules)
    if config.assigner == "centerness":
        return with_centerness(matches, anchors, gt.objects, config)
    return matches


def _by_predictions(
    anchors: Anchors,
    gt: MatchBoxes,
    image_size: ImageSize | None,
    predictions: RPNOutput | None,
    config: TargetConfig,
) -> Matches:
    """Labels the anchors by a rule that reads predictions."""
    predicted = read_predictions(predictions, anchors, config)
    if isinstance(anchors, AnchorGrid):
        is_kept = kept_in_grid(anchors, gt, image_size, config=config)
    else:
        inside = _inside_before(anchors, image_size, config)
        is_kept = kept_boxes(anchors, inside, gt, config=config)
    shared = (gt.objects, is_kept, predicted, config)
    if config.assigner == "sim_ota":
        return match_sim_ota(_grid(anchors, config), *shared)
    return match_task_aligned(anchors, *shared)


def _by_overlap(found: Association, config: TargetConfig) -> Matches:
    """The rule of Faster R-CNN."""
    gt_index = found.gt_index
    if config.retarget_forced:
        gt_index = jnp.where(found.forced_by >= 0, found.forced_by, gt_index)
    return Matches(_labels(found, config), gt_index, found.iou)


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


def _grid(anchors: Anchors, config: TargetConfig) -> AnchorGrid:
    """The anchors, for a rule that has to know their levels and strides."""
    if isinstance(anchors, AnchorGrid):
        return anchors
    raise ValueError(
        f'match_anchors needs an AnchorGrid for assigner="{config.assigner}" to know '
        f"levels and strides, got an array of shape {anchors.shape}. Pass what "
        "make_anchors returns."
    )


def _labels(found: Association, config: TargetConfig) -> Int[jax.Array, " n"]:
    """Labels by the two thresholds. What boxes force is decided in `forced.py`."""
    is_negative = found.iou < config.negative_iou
    is_positive = (found.iou >= config.positive_iou) | (found.forced_by >= 0)
    if config.clobber_positives:
        is_positive &= ~is_negative
    labels = jnp.where(is_positive, 1, jnp.where(is_negative, 0, -1))
    return jnp.where(found.is_kept, labels, -1).astype(jnp.int32)


def _inside_before(
    anchors: Float[Array, "n 4"], image_size: ImageSize | None, config: TargetConfig
) -> Bool[jax.Array, " n"]:
    """Which boxes the border keeps before matching."""
    border = None if config.border_after_matching else config.allowed_border
    return _inside(anchors, image_size, border)


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
