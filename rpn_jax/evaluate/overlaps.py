"""The proposals that may find an object, over all images of a data set."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..core._typing import Bool, Float, Int
from ..data.image_source import GroundTruth
from .recall_report import IOU_THRESHOLDS, ImageProposals

_LOWEST_IOU = IOU_THRESHOLDS[0] - 0.01  # below the threshold by more than any rounding


class Objects(NamedTuple):
    """What should be found: the boxes of all images that are no crowds.

    Attributes:
        boxes: `[o 4]` pixels of the original image.
        areas: `[o]` square pixels, for the size.
        image: `[o]` number of the image.
    """

    boxes: Float[np.ndarray, "o 4"]
    areas: Float[np.ndarray, " o"]
    image: Int[np.ndarray, " o"]


class Candidates(NamedTuple):
    """The proposals that overlap some object by enough to find it.

    Attributes:
        boxes: `[p 4]` pixels of the original image.
        rank: `[p]` place among all proposals of the image, the highest score is 0.
        image: `[p]` number of the image.
    """

    boxes: Float[np.ndarray, "p 4"]
    rank: Int[np.ndarray, " p"]
    image: Int[np.ndarray, " p"]


class Pairs(NamedTuple):
    """Which objects and candidates overlap by enough.

    Attributes:
        object_row: `[q]` row of `Objects`.
        candidate_row: `[q]` row of `Candidates`.
        iou: `[q]` their overlap.
    """

    object_row: Int[np.ndarray, " q"]
    candidate_row: Int[np.ndarray, " q"]
    iou: Float[np.ndarray, " q"]

    def where(self, kept: Bool[np.ndarray, " q"]) -> "Pairs":
        """The pairs of a mask."""
        return Pairs(*(column[kept] for column in self))


class Overlaps(NamedTuple):
    """All that the recall of a data set depends on."""

    objects: Objects
    candidates: Candidates
    pairs: Pairs


def find_overlaps(
    truths: Sequence[GroundTruth], proposals: Sequence[ImageProposals], limit: int
) -> Overlaps:
    """Gathers objects, and the proposals and pairs that can count.

    Args:
        truths: of every image.
        proposals: of the same images, in the same order.
        limit: how many proposals of an image count.
    """
    found = [_nothing()]
    num_objects = num_candidates = 0
    for number, (truth, image) in enumerate(zip(truths, proposals, strict=True)):
        objects, candidates, pairs = _of_image(truth, image, number, limit)
        rows = pairs.object_row + num_objects, pairs.candidate_row + num_candidates
        found.append(Overlaps(objects, candidates, Pairs(*rows, pairs.iou)))
        num_objects += len(objects.boxes)
        num_candidates += len(candidates.boxes)
    objects, candidates, pairs = zip(*found, strict=True)
    return Overlaps(
        Objects(*map(np.concatenate, zip(*objects, strict=True))),
        Candidates(*map(np.concatenate, zip(*candidates, strict=True))),
        Pairs(*map(np.concatenate, zip(*pairs, strict=True))),
    )


def _of_image(
    truth: GroundTruth, image: ImageProposals, number: int, limit: int
) -> Overlaps:
    order = np.argsort(-image.scores, kind="stable")[:limit]
    boxes = image.boxes[order].astype(float)
    is_object = ~truth.is_crowd
    objects = truth.boxes[is_object].astype(float)
    iou = _pairwise_iou(objects, boxes)
    is_candidate = (iou >= _LOWEST_IOU).any(axis=0)
    iou = iou[:, is_candidate]
    object_row, candidate_row = np.nonzero(iou >= _LOWEST_IOU)
    rank = np.flatnonzero(is_candidate)
    areas = truth.areas[is_object].astype(float)
    return Overlaps(
        Objects(objects, areas, np.full(len(objects), number)),
        Candidates(boxes[is_candidate], rank, np.full(len(rank), number)),
        Pairs(object_row, candidate_row, iou[object_row, candidate_row]),
    )


def _nothing() -> Overlaps:
    boxes, numbers, index = np.zeros((0, 4)), np.zeros(0), np.zeros(0, int)
    return Overlaps(
        Objects(boxes, numbers, index),
        Candidates(boxes, index, index),
        Pairs(index, index, numbers),
    )


def _pairwise_iou(
    a: Float[np.ndarray, "m 4"], b: Float[np.ndarray, "k 4"]
) -> Float[np.ndarray, "m k"]:
    """`boxes.pairwise_iou` in NumPy: the shapes change with every image."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    overlap = np.maximum(high - low, 0.0).prod(axis=2)
    areas_a, areas_b = ((x[:, 2:] - x[:, :2]).prod(axis=1) for x in (a, b))
    union = areas_a[:, None] + areas_b[None, :] - overlap
    return overlap / np.where(union > 0.0, union, 1.0)
