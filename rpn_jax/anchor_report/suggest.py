"""Anchor sizes and aspect ratios that fit the boxes of a data set."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..core._typing import Float, Int
from ..core.anchor_config import AnchorConfig
from ..core.config import TargetConfig
from .coverage import ImageBoxes
from .fit_report import RECALL_IOUS
from .nearest import nearest_iou, place_boxes

_MAX_BOXES = 4_000  # more move the result little
_SIZES_PER_OCTAVE = 8
_RATIOS_PER_OCTAVE = 4
_LOSS = 1000.0  # no gain in mean IoU makes up for a share of recall that is lost
_LEAST = 1e-6  # a smaller gain is rounding

Choice = tuple[Int[np.ndarray, " i"], Int[np.ndarray, " j"]]  # of sizes and ratios


def suggest_anchors(
    images: Sequence[ImageBoxes],
    config: AnchorConfig,
    targets: TargetConfig = TargetConfig(),
) -> AnchorConfig | None:
    """As many sizes and ratios on each level as `config` has, fitted to the boxes.

    What is minimised is the mean of 1 - IoU, as by the k-means of YOLOv2 (Sec. 2 of
    https://arxiv.org/abs/1612.08242), but with the nearest anchor of each level's grid
    in the place of one on the same centre, so that a size which is small for its stride
    is worth little. One size or ratio after another moves to the best of many
    candidates, from the given anchors and from the quantiles of the boxes. A move that
    lowers the recall of the given anchors, at an IoU of 0.5, 0.7 or `positive_iou`,
    does not pay. Nothing is random: the same boxes give the same result.

    Args:
        images: the objects of every image, as `scaled` makes them.
        config: gives the numbers of sizes and ratios, and all else.
        targets: whose border rules leave out anchors.

    Returns:
        The configuration with other sizes, the smallest on the finest level, and other
        ratios, fewer if some agree; None if the boxes have fewer different shapes than
        there are sizes.
        What rounding does to the anchors is not foreseen: measure the result, as
        `inspect_anchors` does.
    """
    placed = place_boxes(images, _MAX_BOXES)
    given = np.sort(np.concatenate(config.level_sizes)), np.array(config.aspect_ratios)
    if len(np.unique(placed.sides().round(1), axis=0)) < len(given[0]):
        return None
    width, height = placed.sides().T
    values = np.sqrt(width * height), height / width
    sizes = _candidates(values[0], given[0], _SIZES_PER_OCTAVE, digits=1)
    ratios = _candidates(values[1], given[1], _RATIOS_PER_OCTAVE, digits=2)
    levels = _levels(config)
    cover = _Cover(nearest_iou(placed, _shapes(sizes, ratios), config, targets), levels)
    starts = [
        (_nearest(sizes, wanted[0]), _nearest(ratios, wanted[1]))
        for wanted in (given, tuple(map(_quantiles, values, map(len, given))))
    ]
    score = _Score.of(cover.best(starts[0]), (*RECALL_IOUS, targets.positive_iou))
    climbed = [_climb(cover, score, start) for start in starts]
    of_size, of_ratio = max(climbed, key=lambda found: found[0])[1]
    return _configure(config, levels, sizes[of_size], ratios[of_ratio])


class _Cover(NamedTuple):
    """How well every candidate covers every box.

    Attributes:
        iou: `[l o s r]` with the nearest anchor, by level, size and ratio.
        levels: `[i]` the level of each size that is wanted, the finest stride first.
    """

    iou: Float[np.ndarray, "l o s r"]
    levels: Int[np.ndarray, " i"]

    def best(self, choice: Choice) -> Float[np.ndarray, " o"]:
        """Best IoU of each box with the anchors of a choice."""
        sizes, ratios = choice
        return self.iou[self.levels, :, sizes][:, :, ratios].max(axis=(0, 2))

    def by_size(self, choice: Choice, place: int) -> Float[np.ndarray, "o s"]:
        """The same if the size at a place were each of the candidates."""
        sizes, ratios = choice
        levels, others = (np.delete(x, place) for x in (self.levels, sizes))
        rest = self.iou[levels, :, others][:, :, ratios].max(axis=(0, 2), initial=0.0)
        own = self.iou[self.levels[place]][:, :, ratios].max(axis=2)
        return np.maximum(own, rest[:, None])

    def by_ratio(self, choice: Choice, place: int) -> Float[np.ndarray, "o r"]:
        """The same if the ratio at a place were each of the candidates."""
        sizes, ratios = choice
        own = self.iou[self.levels, :, sizes].max(axis=0)
        rest = own[:, np.delete(ratios, place)].max(axis=1, initial=0.0)
        return np.maximum(own, rest[:, None])


class _Score(NamedTuple):
    """What a choice is worth: its mean best IoU, less the recall that it loses.

    Attributes:
        ious: where recall must not fall.
        recalls: `[t]` what it is with the given anchors.
    """

    ious: tuple[float, ...]
    recalls: Float[np.ndarray, " t"]

    @classmethod
    def of(cls, best: Float[np.ndarray, " o"], ious: tuple[float, ...]) -> "_Score":
        """From the best IoU of each box with the given anchors."""
        return cls(ious, np.array([(best >= iou).mean() for iou in ious]))

    def __call__(self, best: Float[np.ndarray, "o c"]) -> Float[np.ndarray, " c"]:
        recalls = np.stack([(best >= iou).mean(axis=0) for iou in self.ious])
        lost = np.maximum(self.recalls[:, None] - recalls, 0.0).sum(axis=0)
        return best.mean(axis=0) - _LOSS * lost


def _climb(cover: _Cover, score: _Score, start: Choice) -> tuple[float, Choice]:
    """Moves one size or ratio at a time to its best candidate, until none moves.

    Sizes stay ascending, so that finer levels keep the smaller ones.
    """
    sizes, ratios = (places.copy() for places in start)
    highest, before = float(score(cover.best(start)[:, None])[0]), -np.inf
    while highest > before:
        before = highest
        for place in range(len(sizes)):
            scores = score(cover.by_size((sizes, ratios), place))
            if place > 0:
                scores[: sizes[place - 1]] = -np.inf
            if place + 1 < len(sizes):
                scores[sizes[place + 1] + 1 :] = -np.inf
            if scores.max() > highest + _LEAST:
                highest, sizes[place] = float(scores.max()), scores.argmax()
        for place in range(len(ratios)):
            scores = score(cover.by_ratio((sizes, ratios), place))
            if scores.max() > highest + _LEAST:
                highest, ratios[place] = float(scores.max()), scores.argmax()
    return highest, (sizes, ratios)


def _candidates(
    values: Float[np.ndarray, " o"],
    given: Float[np.ndarray, " c"],
    per_octave: int,
    digits: int,
) -> Float[np.ndarray, " c"]:
    """Evenly spaced over most of the values, as logarithms, and those given."""
    ends = np.log2(np.quantile(values, [0.01, 0.99])) * per_octave
    low, high = np.clip(np.rint(ends), -4 * per_octave, 12 * per_octave)
    steps = 2.0 ** (np.arange(low, high + 1) / per_octave)
    steps = np.maximum(np.round(steps, digits), 10.0**-digits)
    return np.unique(np.concatenate([steps, given]))


def _quantiles(values: Float[np.ndarray, " o"], number: int) -> np.ndarray:
    return np.quantile(values, (np.arange(number) + 0.5) / number)


def _nearest(
    candidates: Float[np.ndarray, " c"], wanted: Float[np.ndarray, " w"]
) -> Int[np.ndarray, " w"]:
    return np.abs(candidates[:, None] - wanted).argmin(axis=0)


def _shapes(
    sizes: Float[np.ndarray, " s"], ratios: Float[np.ndarray, " r"]
) -> Float[np.ndarray, "2 s r"]:
    """Width and height of every size in every ratio."""
    root = np.sqrt(ratios)
    return (np.stack([1.0 / root, root])[:, None] * sizes[:, None]).astype(np.float32)


def _levels(config: AnchorConfig) -> Int[np.ndarray, " i"]:
    """The level of each size, in the order of the strides."""
    order = sorted(range(len(config.strides)), key=config.level_strides.__getitem__)
    return np.repeat(order, [len(config.level_sizes[level]) for level in order])


def _configure(
    config: AnchorConfig,
    levels: Int[np.ndarray, " i"],
    sizes: Float[np.ndarray, " i"],
    ratios: Float[np.ndarray, " j"],
) -> AnchorConfig:
    nested = [sizes[levels == level].tolist() for level in range(len(config.strides))]
    return dataclasses.replace(
        config,
        sizes=tuple(x[0] if len(x) == 1 else tuple(x) for x in nested),
        aspect_ratios=tuple(np.unique(ratios).tolist()),
        scales_per_octave=1,
    )
