"""Recall as COCO counts it, computed by faster-coco-eval."""

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

from ..core._typing import Float, Int
from .overlaps import Candidates, Overlaps
from .recall_report import CURVE_LIMITS, IOU_THRESHOLDS, SIZES, in_sizes


def count_by_coco(overlaps: Overlaps) -> Float[np.ndarray, "t s l"]:
    """Counts the objects that are found, by IoU, size and number of proposals.

    Proposals are matched in the order of their scores. Each takes the object that it
    overlaps most among the objects that are left. Two kinds of rows cannot change the
    result and are left out. Ignored regions only take proposals that found no object.
    A proposal that overlaps no object enough only takes a place among the best ones.
    """
    objects, candidates, _ = overlaps
    # Candidates keep their rank among all proposals, so each limit selects by rank and
    # is evaluated separately.
    found = np.zeros((len(IOU_THRESHOLDS), len(SIZES), len(CURVE_LIMITS)))
    num_objects = in_sizes(objects.areas).sum(axis=1)
    if not len(objects.boxes):
        return found
    # The library returns shares, so they are multiplied by the number of objects and
    # rounded to whole counts.
    truth = _dataset(objects.boxes, objects.image, objects.areas)
    for row, limit in enumerate(CURVE_LIMITS):
        kept = candidates.rank < limit
        recall = _recall(truth, Candidates(*(column[kept] for column in candidates)))
        found[:, :, row] = np.rint(recall * num_objects[None])
    return found


def _recall(truth: COCO, candidates: Candidates) -> Float[np.ndarray, "t s"]:
    """Recall at each IoU threshold for each size; 0 for a size without objects."""
    evaluation = COCOeval_faster(
        truth,
        # COCO sorts by score, so the negative rank stands for it.
        _dataset(candidates.boxes, candidates.image, -candidates.rank.astype(float)),
        "bbox",
        ranges={size: list(limits) for size, limits in SIZES.items() if size != "all"},
        print_function=lambda *_: None,
    )
    # Categories are ignored, because the proposals are class-agnostic.
    evaluation.params.useCats = 0
    evaluation.params.maxDets = [CURVE_LIMITS[-1]]
    evaluation.params.iouThrs = np.array(IOU_THRESHOLDS)
    # The precision is not used, so it is sampled at a single recall.
    evaluation.params.recThrs = np.zeros(1)
    evaluation.evaluate()
    return np.maximum(evaluation.eval["recall"][:, 0, :, 0], 0.0)


def _dataset(
    boxes: Float[np.ndarray, "n 4"],
    image: Int[np.ndarray, " n"],
    value: Float[np.ndarray, " n"],
) -> COCO:
    """Boxes in COCO's format. `value` is both their area and their score."""
    sides = boxes[:, 2:] - boxes[:, :2]
    columns = image, np.concatenate([boxes[:, :2], sides], axis=1), value
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return COCO(
        {
            "images": [{"id": number} for number in np.unique(image).tolist()],
            "categories": [{"id": 1, "name": "object"}],
            "annotations": [
                {
                    "id": number,
                    "image_id": image_id,
                    "category_id": 1,
                    "bbox": box,
                    "area": value,
                    "score": value,
                    "iscrowd": 0,
                }
                for number, (image_id, box, value) in enumerate(rows, start=1)
            ],
        }
    )
