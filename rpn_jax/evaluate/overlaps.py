"""Gathers objects and the proposals that may find them, over all images."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ..core._typing import Bool, Float, Int
from ..data.image_source import NO_CATEGORY, GroundTruth
from .recall_report import IOU_THRESHOLDS, ImageProposals

# Proposals below this IoU find nothing. The margin is larger than any rounding error,
# so the evaluation itself decides about pairs close to the lowest threshold.
_LOWEST_IOU = IOU_THRESHOLDS[0] - 0.01


class Objects(NamedTuple):
    """The objects of all images, without ignored regions.

    Attributes:
        boxes: `[o 4]` in pixels of the original image.
        areas: `[o]` in square pixels; they decide the size of the object.
        image: `[o]` index of the image.
        category: `[o]` number of the category; `NO_CATEGORY` where it is not known.
    """

    boxes: Float[np.ndarray, "o 4"]
    areas: Float[np.ndarray, " o"]
    image: Int[np.ndarray, " o"]
    category: Int[np.ndarray, " o"]


class Candidates(NamedTuple):
    """The proposals that overlap some object enough to find it.

    Attributes:
        boxes: `[p 4]` in pixels of the original image.
        rank: `[p]` rank among all proposals of the image; the highest score has rank 0.
        image: `[p]` index of the image.
    """

    boxes: Float[np.ndarray, "p 4"]
    rank: Int[np.ndarray, " p"]
    image: Int[np.ndarray, " p"]


class Pairs(NamedTuple):
    """The pairs of an object and a candidate that overlap enough.

    Attributes:
        object_row: `[q]` row of the object in `Objects`.
        candidate_row: `[q]` row of the candidate in `Candidates`.
        iou: `[q]` IoU of the two.
    """

    object_row: Int[np.ndarray, " q"]
    candidate_row: Int[np.ndarray, " q"]
    iou: Float[np.ndarray, " q"]

    def where(self, kept: Bool[np.ndarray, " q"]) -> "Pairs":
        """The pairs for which `kept` is true."""
        return Pairs(*(column[kept] for column in self))


class Overlaps(NamedTuple):
    """Everything that the recall over a data set depends on."""

    objects: Objects
    candidates: Candidates
    pairs: Pairs


def find_overlaps(
    truths: Sequence[GroundTruth], proposals: Sequence[ImageProposals], limit: int
) -> Overlaps:
    """Gathers objects, and the candidates and pairs that can count.

    Args:
        truths: the ground truth of every image.
        proposals: the proposals of the same images, in the same order.
        limit: number of proposals per image that count, the best scores first.
    """
    # Each image numbers its rows from 0. Adding the rows of the images before it makes
    # them rows of the concatenated arrays.
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


def proposals_in_order(
    truths: Sequence[GroundTruth], proposals: Mapping[int, ImageProposals]
) -> list[ImageProposals]:
    """The proposals of every image; an image without an entry has none.

    Args:
        truths: the ground truth of every image.
        proposals: the proposals by the index of their image in `truths`.
    """
    nothing = np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
    return [
        proposals.get(row, ImageProposals(truth.image_id, *nothing))
        for row, truth in enumerate(truths)
    ]


def _of_image(
    truth: GroundTruth, image: ImageProposals, number: int, limit: int
) -> Overlaps:
    """The objects, candidates and pairs of one image; rows count from 0."""
    # After sorting by score, the position of a proposal is its rank.
    order = np.argsort(-image.scores, kind="stable")[:limit]
    boxes = image.boxes[order].astype(float)
    # Only pairs that may count are kept, because all pairs of a data set would need too
    # much memory.
    is_object = ~truth.is_ignored
    objects = truth.boxes[is_object].astype(float)
    iou = iou_of_pairs(objects, boxes)
    is_candidate = (iou >= _LOWEST_IOU).any(axis=0)
    iou = iou[:, is_candidate]
    object_row, candidate_row = np.nonzero(iou >= _LOWEST_IOU)
    rank = np.flatnonzero(is_candidate)
    areas = truth.areas[is_object].astype(float)
    category = np.full(len(objects), NO_CATEGORY)
    if truth.categories is not None:
        category = truth.categories[is_object]
    return Overlaps(
        Objects(objects, areas, np.full(len(objects), number), category),
        Candidates(boxes[is_candidate], rank, np.full(len(rank), number)),
        Pairs(object_row, candidate_row, iou[object_row, candidate_row]),
    )


def _nothing() -> Overlaps:
    """No objects, so that there is something to concatenate without images."""
    boxes, numbers, index = np.zeros((0, 4)), np.zeros(0), np.zeros(0, int)
    return Overlaps(
        Objects(boxes, numbers, index, index),
        Candidates(boxes, index, index),
        Pairs(index, index, numbers),
    )


def iou_of_pairs(
    a: Float[np.ndarray, "m 4"], b: Float[np.ndarray, "k 4"]
) -> Float[np.ndarray, "m k"]:
    """`boxes.pairwise_iou` in NumPy, because the shapes change with every image."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    overlap = np.maximum(high - low, 0.0).prod(axis=2)
    areas_a, areas_b = ((x[:, 2:] - x[:, :2]).prod(axis=1) for x in (a, b))
    union = areas_a[:, None] + areas_b[None, :] - overlap
    return overlap / np.where(union > 0.0, union, 1.0)
