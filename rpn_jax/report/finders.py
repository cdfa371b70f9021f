"""Which proposal finds each object, so that a page can count at every limit."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..core._typing import Bool, Float, Int
from ..data.image_source import GroundTruth
from ..evaluate import ImageProposals
from ..evaluate.first_choices import first_choices
from ..evaluate.overlaps import find_overlaps
from ..evaluate.recall_report import COCO_SIZES, CURVE_LIMITS, in_sizes

IOU = 0.5  # the lowest IoU that finds an object, in all counts of a page
NEVER = CURVE_LIMITS[-1]  # the rank in place of a proposal that does not exist
NUM_LEVELS = 101  # steps of a score between 0 and 1, both included
_STEPS = np.linspace(0.0, 1.0, NUM_LEVELS)


class Finders(NamedTuple):
    """For every object, the proposal that finds it at an IoU of 0.5.

    Attributes:
        boxes: `[o 4]` the objects of all images, in pixels of the original image.
        image: `[o]` index of the image of each object.
        in_size: `[s o]` whether the object counts in each of `COCO_SIZES`.
        rank: `[s o]` rank of the proposal, from 0, if only objects of that size take
            proposals; `NEVER` if none finds the object, or it has another size.
        level: `[s o]` `score_level` of the proposal; 0 where there is none.
    """

    boxes: Float[np.ndarray, "o 4"]
    image: Int[np.ndarray, " o"]
    in_size: Bool[np.ndarray, "s o"]
    rank: Int[np.ndarray, "s o"]
    level: Int[np.ndarray, "s o"]

    def counts(self) -> Int[np.ndarray, "s l v"]:
        """The objects found, by size, `CURVE_LIMITS` and lowest score level."""
        shape = len(COCO_SIZES), len(CURVE_LIMITS), NUM_LEVELS
        found = np.zeros(shape, int)
        for size, (ranks, levels) in enumerate(zip(self.rank, self.level, strict=True)):
            for row, limit in enumerate(CURVE_LIMITS):
                at_level = np.bincount(levels[ranks < limit], minlength=NUM_LEVELS)
                # A lowest level keeps the proposals of this level and of all above.
                found[size, row] = np.cumsum(at_level[::-1])[::-1]
        return found


def score_level(scores: Float[np.ndarray, " k"]) -> Int[np.ndarray, " k"]:
    """The number of hundredths that each score reaches, at least 0 and at most 100.

    >>> score_level(np.array([-2.0, 0.0, 0.256, 1.0])).tolist()
    [0, 0, 25, 100]
    """
    steps = np.searchsorted(_STEPS, scores.astype(float), side="right") - 1
    return np.clip(steps, 0, NUM_LEVELS - 1)


def find_finders(
    truths: Sequence[GroundTruth], proposals: Sequence[ImageProposals]
) -> Finders:
    """Pairs proposals with objects as COCO does, for every size of objects.

    Args:
        truths: the ground truth of every image.
        proposals: the proposals of the same images, in the same order.

    >>> from rpn_jax.data import Scenes
    >>> truth = Scenes().truth(0)
    >>> found = ImageProposals(truth.image_id, truth.boxes, truth.areas)
    >>> len(truth.boxes), find_finders([truth], [found]).rank[0].tolist()
    (3, [0, 1, 2])
    """
    overlaps = find_overlaps(truths, proposals, CURVE_LIMITS[-1])
    in_size = in_sizes(overlaps.objects.areas)[: len(COCO_SIZES)]
    levels = [
        score_level(image.scores[np.argsort(-image.scores, kind="stable")])
        for image in proposals
    ]
    rank = np.full(in_size.shape, NEVER)
    level = np.zeros(in_size.shape, int)
    for size, of_size in enumerate(in_size):
        for row, candidate in first_choices(overlaps, of_size, IOU):
            place = overlaps.candidates.rank[candidate]
            rank[size, row] = place
            level[size, row] = levels[overlaps.candidates.image[candidate]][place]
    objects = overlaps.objects
    return Finders(objects.boxes, objects.image, in_size, rank, level)
