"""Which proposal finds each object, as COCO pairs them.

In COCO's evaluation the proposals choose in the order of their scores. So a limit on
their number or their score only drops the last choices, and changes no earlier one. The
proposal that finds an object is therefore the same at every limit that includes it.
"""

import numpy as np

from ..core._typing import Bool
from .overlaps import Overlaps


def first_choices(
    overlaps: Overlaps, is_asked: Bool[np.ndarray, " o"], iou: float
) -> list[tuple[int, int]]:
    """The pairs of an object and its candidate, if only some objects take candidates.

    COCO lets objects of other sizes take only candidates that no asked one wants, so
    they can be left out.

    Args:
        overlaps: the objects and the candidates of all images.
        is_asked: which objects take candidates.
        iou: the lowest IoU of a pair, one of `IOU_THRESHOLDS`.
    """
    pairs = overlaps.pairs.where(overlaps.pairs.iou >= iou)
    pairs = pairs.where(is_asked[pairs.object_row])
    # Candidates are sorted by image and score. Each takes the free object that it
    # overlaps most, and the last one of equals, as in pycocotools.
    order = np.lexsort((-pairs.object_row, -pairs.iou, pairs.candidate_row))
    chosen: dict[int, int] = {}
    last = -1  # the last candidate that has found an object
    for i in order.tolist():
        row, candidate = int(pairs.object_row[i]), int(pairs.candidate_row[i])
        if candidate != last and row not in chosen:
            chosen[row] = last = candidate
    return list(chosen.items())
