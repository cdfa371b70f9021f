"""Anchor sizes and aspect ratios that fit the boxes of a data set."""

import dataclasses
from typing import NamedTuple

import numpy as np

from .._typing import Float, Int
from ..config import AnchorConfig

_MAX_BOXES = 20_000  # more do not move the result
_MAX_ROUNDS = 100
# How far a centre may move in a round, as logarithms; first to stay, so that it does
# where nothing is better.
_STEPS = np.array(sorted(np.linspace(-0.2, 0.2, 41).tolist(), key=abs))


class LogShapes(NamedTuple):
    """Boxes without a place.

    Attributes:
        size: logarithm of the side in pixels of the square of equal area.
        ratio: logarithm of height over width.
    """

    size: Float[np.ndarray, "*shape"]
    ratio: Float[np.ndarray, "*shape"]

    def sides(self) -> tuple[Float[np.ndarray, "*some"], Float[np.ndarray, "*some"]]:
        """Width and height in pixels."""
        half = self.ratio / 2.0
        return np.exp(self.size - half), np.exp(self.size + half)


def suggest_anchors(
    sides: Float[np.ndarray, "o 2"], config: AnchorConfig
) -> AnchorConfig | None:
    """As many sizes and ratios as `config` has, fitted to boxes by k-means on 1 - IoU.

    The distance is that of "YOLO9000" by Redmon and Farhadi
    (https://arxiv.org/abs/1612.08242): boxes and anchors share their centre. The
    clusters are those of all pairs of a size and a ratio, since that is how anchors are
    made. Nothing is random: the same boxes give the same result.

    Args:
        sides: `(width, height)` of the boxes in pixels of the network's input.
        config: gives the number of sizes and ratios, and all else.

    Returns:
        The configuration with other sizes, the smallest to the finest level, and other
        ratios, fewer if some agree; None if the boxes do not have as many different
        sizes.
    """
    sides = sides[(sides > 0.0).all(axis=1)]
    sides = sides[:: max(1, -(-len(sides) // _MAX_BOXES))]
    numbers = [len(sizes) for sizes in config.level_sizes]
    if len(np.unique(sides, axis=0)) < sum(numbers):
        return None
    boxes = LogShapes(np.log(sides).mean(axis=1), np.log(sides[:, 1] / sides[:, 0]))
    log_sizes, log_ratios = _fit(boxes, sum(numbers), len(config.aspect_ratios))
    sizes = np.unique(np.round(np.exp(log_sizes), 1))
    ratios = np.unique(np.round(np.exp(log_ratios), 2))
    if len(sizes) < sum(numbers) or sizes[0] == 0.0 or ratios[0] == 0.0:
        return None
    return dataclasses.replace(
        config,
        sizes=_by_level(sizes, config, numbers),
        aspect_ratios=tuple(ratios.tolist()),
        scales_per_octave=1,
    )


def _fit(
    boxes: LogShapes, num_sizes: int, num_ratios: int
) -> tuple[Float[np.ndarray, " s"], Float[np.ndarray, " r"]]:
    """The best of a few starts: k-means finds the optimum next to where it begins."""
    starts = zip(
        _starts(boxes.size, num_sizes), _starts(boxes.ratio, num_ratios), strict=True
    )
    fits = [_improve(boxes, sizes, ratios) for sizes, ratios in starts]
    return max(fits, key=lambda fit: fit[0])[1:]


def _starts(values: Float[np.ndarray, " o"], number: int) -> list[np.ndarray]:
    """Centres where the boxes are, evenly over their range, and halfway between."""
    places = (np.arange(number) + 0.5) / number
    dense = np.quantile(values, places)
    low, high = np.quantile(values, [0.01, 0.99])
    even = low + (high - low) * places
    return [dense, even, (dense + even) / 2.0]


def _improve(
    boxes: LogShapes, sizes: Float[np.ndarray, " s"], ratios: Float[np.ndarray, " r"]
) -> tuple[float, Float[np.ndarray, " s"], Float[np.ndarray, " r"]]:
    """Lloyd's algorithm, where the centres are all pairs of a size and a ratio.

    Every round, boxes choose the pair of highest IoU; then each size, and each ratio,
    moves to where the mean IoU of its boxes is highest. So the mean never falls.

    Returns:
        The mean IoU, the sizes and the ratios.
    """
    column = LogShapes(boxes.size[:, None], boxes.ratio[:, None])
    pairs = np.indices((len(sizes), len(ratios))).reshape(2, -1)
    mean, before = 0.0, -1.0
    for _ in range(_MAX_ROUNDS):
        iou = _shape_iou(column, LogShapes(sizes[pairs[0]], ratios[pairs[1]]))
        mean = float(iou.max(axis=1).mean())
        if mean < before + 1e-5:
            break
        before = mean
        size, ratio = pairs[:, iou.argmax(axis=1)]
        shifted = LogShapes(sizes[size, None] + _STEPS, ratios[ratio, None])
        sizes = _best_shift(sizes, size, _shape_iou(column, shifted))
        shifted = LogShapes(sizes[size, None], ratios[ratio, None] + _STEPS)
        ratios = _best_shift(ratios, ratio, _shape_iou(column, shifted))
    return mean, sizes, ratios


def _best_shift(
    centers: Float[np.ndarray, " c"],
    chosen: Int[np.ndarray, " o"],
    iou: Float[np.ndarray, "o steps"],
) -> Float[np.ndarray, " c"]:
    """Moves each centre by the step that serves the boxes which chose it best."""
    total = np.zeros((len(centers), len(_STEPS)))
    np.add.at(total, chosen, iou)
    return centers + _STEPS[total.argmax(axis=1)]


def _shape_iou(a: LogShapes, b: LogShapes) -> Float[np.ndarray, "o c"]:
    """IoU of shapes around one centre."""
    (width_a, height_a), (width_b, height_b) = a.sides(), b.sides()
    shared = np.minimum(width_a, width_b) * np.minimum(height_a, height_b)
    return shared / (width_a * height_a + width_b * height_b - shared)


def _by_level(
    sizes: Float[np.ndarray, " s"], config: AnchorConfig, numbers: list[int]
) -> tuple[float | tuple[float, ...], ...]:
    """Hands out ascending sizes to the levels, finest stride first."""
    strides = [max(stride) for stride in config.level_strides]
    remaining = sizes.tolist()
    by_level: dict[int, tuple[float, ...]] = {}
    for level in sorted(range(len(strides)), key=strides.__getitem__):
        by_level[level] = tuple(remaining[: numbers[level]])
        remaining = remaining[numbers[level] :]
    nested = [by_level[level] for level in range(len(strides))]
    return tuple(level[0] if len(level) == 1 else level for level in nested)
