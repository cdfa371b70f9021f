"""How proposals find each object: at which rank, and how tightly."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ..core._typing import Bool, Float, Int
from ..data.image_source import GroundTruth
from .first_choices import first_choices
from .overlaps import Objects, find_overlaps, iou_of_pairs, proposals_in_order
from .recall_report import IOU_THRESHOLDS, LIMITS, ImageProposals

MOST = LIMITS[-1]  # proposals per image that count
BEST_LIMITS = (10, 100, 1000)  # numbers of proposals for the best IoU


class FoundObjects(NamedTuple):
    """The objects of all images, and the proposals of one network that find them.

    Attributes:
        objects: the objects, without ignored regions, image after image.
        needed: `[t o]` number of best proposals of the image after which the object is
            found, by `IOU_THRESHOLDS`; `MOST + 1` if 1,000 do not find it. Proposals
            are paired with objects as COCO does.
        best_iou: `[k o]` the highest IoU with any of the best proposals, by
            `BEST_LIMITS`; 0 if there is none.
    """

    objects: Objects
    needed: Int[np.ndarray, "t o"]
    best_iou: Float[np.ndarray, "k o"]

    def is_found(self, limit: int, iou: float) -> Bool[np.ndarray, " o"]:
        """Which objects are found.

        Args:
            limit: number of proposals per image.
            iou: one of `IOU_THRESHOLDS`.
        """
        return self.needed[IOU_THRESHOLDS.index(iou)] <= limit

    def share_found(self, limit: int) -> Float[np.ndarray, " o"]:
        """The share of `IOU_THRESHOLDS` at which each object is found.

        Args:
            limit: number of proposals per image.
        """
        return (self.needed <= limit).mean(axis=0)


def find_objects(
    truths: Sequence[GroundTruth], proposals: Mapping[int, ImageProposals]
) -> FoundObjects:
    """Finds the proposals of every object.

    Args:
        truths: the ground truth of every image.
        proposals: the proposals by the index of their image in `truths`. An image
            without an entry has none.

    >>> from rpn_jax.data import Scenes
    >>> truth = Scenes().truth(0)
    >>> scores = np.linspace(1.0, 0.5, len(truth.boxes), dtype=np.float32)
    >>> found = find_objects([truth], {0: ImageProposals(0, truth.boxes, scores)})
    >>> found.is_found(1, 0.5).tolist()[:2], found.needed[0].tolist()[:2]
    ([True, False], [1, 2])
    """
    in_order = proposals_in_order(truths, proposals)
    overlaps = find_overlaps(truths, in_order, MOST)
    number = len(overlaps.objects.areas)
    needed = np.full((len(IOU_THRESHOLDS), number), MOST + 1)
    for threshold, iou in enumerate(IOU_THRESHOLDS):
        for row, candidate in first_choices(overlaps, np.ones(number, bool), iou):
            needed[threshold, row] = overlaps.candidates.rank[candidate] + 1
    best = [
        _best_iou(truth, image) for truth, image in zip(truths, in_order, strict=True)
    ]
    nowhere = np.zeros((len(BEST_LIMITS), 0))
    return FoundObjects(
        overlaps.objects, needed, np.concatenate([nowhere, *best], axis=1)
    )


def _best_iou(truth: GroundTruth, image: ImageProposals) -> Float[np.ndarray, "k m"]:
    """The highest IoU of each object of an image with its best proposals."""
    objects = truth.boxes[~truth.is_ignored].astype(float)
    order = np.argsort(-image.scores, kind="stable")
    best = [
        iou_of_pairs(objects, image.boxes[order[:limit]].astype(float)).max(
            axis=1, initial=0.0
        )
        for limit in BEST_LIMITS
    ]
    return np.stack(best)
