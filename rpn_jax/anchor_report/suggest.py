"""Anchor sizes and aspect ratios that fit the boxes of a data set."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from ..core._typing import Float, Int
from ..core.anchor_config import AnchorConfig
from ..core.config import TargetConfig
from .coverage import ImageBoxes
from .fit_report import RECALL_IOUS
from .nearest import nearest_iou, place_boxes
from .search import Cover, Score, climb, separated

# The time grows with the number of boxes. It was measured on the 11,137 boxes of 1,500
# scenes: 2,000, 4,000 and 8,000 boxes gave anchors of equal mean IoU and recall. With
# 250 to 1,000 boxes the mean best IoU was lower by 0.001 to 0.007.
_MAX_BOXES = 4_000
# Candidates per doubling, measured with the default anchors on 94 images of COCO that
# were resized to 600 pixels. The mean best IoU was 0.592 with 4 sizes per octave, 0.608
# with 8 and 0.611 with 16, which took three times as long as 8. It was 0.605 with 2
# ratios per octave, 0.608 with 4 and 0.609 with 8.
_SIZES_PER_OCTAVE = 8
_RATIOS_PER_OCTAVE = 4
# Candidates that are closer than this share are one; `AnchorConfig` would refuse both.
_CLOSEST = 2e-4


def suggest_anchors(
    images: Sequence[ImageBoxes],
    config: AnchorConfig,
    targets: TargetConfig = TargetConfig(),
) -> AnchorConfig | None:
    """Fits the sizes and aspect ratios of `config` to the boxes, keeping their numbers.

    The objective is the mean of 1 - IoU, as in the k-means of YOLOv2 (Sec. 2 of
    https://arxiv.org/abs/1612.08242). YOLOv2 puts an anchor on the centre of the box;
    here the IoU is the one with the nearest anchor of each level's grid. So a size that
    is small for its stride is worth little.

    A coordinate search moves one size or ratio at a time to the best of many
    candidates. It runs from the given anchors and from the quantiles of the boxes, and
    the better result counts. No move may lower the recall of the given anchors at an
    IoU of 0.5, 0.7 or `positive_iou`. Nothing is random: the same boxes give the same
    result.

    Args:
        images: the objects of every image, as `scaled` makes them.
        config: gives the number of sizes on each level, the number of ratios, and all
            other fields of the result.
        targets: the matching rules; the border rules drop anchors.

    Returns:
        The configuration with other sizes, the smallest on the finest level, and other
        ratios. Ratios that agree are listed once. None if the boxes have fewer
        different shapes than there are sizes, or if too few sizes are candidates.
        The search ignores how `rounding` moves corners, so measure the result, as
        `inspect_anchors` does.

    >>> from rpn_jax.anchor_report import ImageBoxes
    >>> suggest_anchors([], AnchorConfig()) is None
    True
    """
    placed = place_boxes(images, _MAX_BOXES)
    given = np.sort(np.concatenate(config.level_sizes)), np.array(config.aspect_ratios)
    # Without enough different shapes, several anchors would be fitted to one shape.
    if len(np.unique(placed.sides().round(1), axis=0)) < len(given[0]):
        return None
    # The candidates come from the sizes and ratios of the boxes. The size of a box is
    # the side of the square of equal area.
    width, height = placed.sides().T
    values = np.sqrt(width * height), height / width
    sizes = _candidates(values[0], given[0], _SIZES_PER_OCTAVE, digits=1)
    ratios = _candidates(values[1], given[1], _RATIOS_PER_OCTAVE, digits=2)
    levels = _levels(config)
    if len(sizes) <= np.sum(np.diff(levels) == 0):
        return None  # too few to differ on each level
    # The IoU of every box with every candidate is computed once, before the search.
    cover = Cover(nearest_iou(placed, _shapes(sizes, ratios), config, targets), levels)
    quantiles = tuple(map(_quantiles, values, map(len, given)))
    starts = [
        (
            separated(_nearest(sizes, of_size), levels, len(sizes)),
            _nearest(ratios, of_ratio),
        )
        for of_size, of_ratio in (given, quantiles)
    ]
    # The search runs from both starts, and the higher score wins.
    score = Score.of(cover.best(starts[0]), (*RECALL_IOUS, targets.positive_iou))
    climbed = [climb(cover, score, start) for start in starts]
    of_size, of_ratio = max(climbed, key=lambda found: found[0])[1]
    return _configure(config, levels, sizes[of_size], ratios[of_ratio])


def _candidates(
    values: Float[np.ndarray, " o"],
    given: Float[np.ndarray, " c"],
    per_octave: int,
    digits: int,
) -> Float[np.ndarray, " c"]:
    """Candidates for a size or a ratio, ascending.

    Args:
        values: the sizes or ratios of the boxes.
        given: values that are always candidates.
        per_octave: number of candidates per doubling.
        digits: decimal places that candidates are rounded to.
    """
    # Powers of two with evenly spaced exponents cover the middle 98 % of the boxes, so
    # that a few extreme boxes add no candidates. The bounds of 2 ** -4 and 2 ** 12
    # limit the work if most boxes are extreme.
    ends = np.log2(np.quantile(values, [0.01, 0.99])) * per_octave
    low, high = np.clip(np.rint(ends), -4 * per_octave, 12 * per_octave)
    steps = 2.0 ** (np.arange(low, high + 1) / per_octave)
    steps = np.maximum(np.round(steps, digits), 10.0**-digits)
    found = np.unique(np.concatenate([steps, given]))
    return found[np.diff(found, prepend=0.0) > _CLOSEST * found]


def _quantiles(values: Float[np.ndarray, " o"], number: int) -> np.ndarray:
    """The middles of `number` groups of equally many values."""
    return np.quantile(values, (np.arange(number) + 0.5) / number)


def _nearest(
    candidates: Float[np.ndarray, " c"], wanted: Float[np.ndarray, " w"]
) -> Int[np.ndarray, " w"]:
    """The index of the candidate that is closest to each wanted value."""
    return np.abs(candidates[:, None] - wanted).argmin(axis=0)


def _shapes(
    sizes: Float[np.ndarray, " s"], ratios: Float[np.ndarray, " r"]
) -> Float[np.ndarray, "2 s r"]:
    """Width and height of the anchor of every size and ratio."""
    root = np.sqrt(ratios)
    return (np.stack([1.0 / root, root])[:, None] * sizes[:, None]).astype(np.float32)


def _levels(config: AnchorConfig) -> Int[np.ndarray, " i"]:
    """The level of each size, from the finest stride to the coarsest."""
    order = sorted(range(len(config.strides)), key=config.level_strides.__getitem__)
    return np.repeat(order, [len(config.level_sizes[level]) for level in order])


def _configure(
    config: AnchorConfig,
    levels: Int[np.ndarray, " i"],
    sizes: Float[np.ndarray, " i"],
    ratios: Float[np.ndarray, " j"],
) -> AnchorConfig:
    """`config` with other sizes and ratios; `levels` gives the level of each size."""
    nested = [sizes[levels == level].tolist() for level in range(len(config.strides))]
    return dataclasses.replace(
        config,
        sizes=tuple(x[0] if len(x) == 1 else tuple(x) for x in nested),
        aspect_ratios=tuple(np.unique(ratios).tolist()),
        scales_per_octave=1,
    )
