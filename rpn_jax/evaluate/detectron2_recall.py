"""Recall as detectron2 counts it: `_evaluate_box_proposals` of its COCO evaluator.

Whatever the scores, the proposal and the object that overlap most are paired first,
then the closest of those that are left, and so on; thresholds on their IoU come
afterwards. Where detectron2 leaves out the images without any proposal, their objects
count as missed here.
"""

import numpy as np

from ..core._typing import Float
from .overlaps import Overlaps, Pairs
from .recall_report import CURVE_LIMITS, IOU_THRESHOLDS, SIZES, in_sizes


def count_by_detectron2(overlaps: Overlaps) -> Float[np.ndarray, "t s l"]:
    """Objects found, by IoU, size and number of proposals.

    Pairs of too little overlap to count would come last, so they can be left out.
    """
    objects, candidates, pairs = overlaps
    # Equal overlaps: the first object, then the best score.
    order = np.lexsort((pairs.candidate_row, pairs.object_row, -pairs.iou))
    pairs = Pairs(*(column[order] for column in pairs))
    thresholds = np.array(IOU_THRESHOLDS)[:, None]
    found = np.zeros((len(IOU_THRESHOLDS), len(SIZES), len(CURVE_LIMITS)))
    for size, in_size in enumerate(in_sizes(objects.areas)):
        of_size = pairs.where(in_size[pairs.object_row])
        ranks = candidates.rank[of_size.candidate_row]
        for row, limit in enumerate(CURVE_LIMITS):
            iou = _closest_first(of_size.where(ranks < limit))
            found[:, size, row] = (iou[None] >= thresholds).sum(axis=1)
    return found


def _closest_first(pairs: Pairs) -> Float[np.ndarray, " taken"]:
    """Overlaps of the pairs that are taken: one for an object or a proposal at most.

    A pair that is the first of its object and of its candidate is taken whatever the
    others do, so each round takes all of those, in all images at once.
    """
    taken = [np.zeros(0)]
    while len(pairs.iou):
        is_first = np.ones(len(pairs.iou), bool)
        for row in (pairs.object_row, pairs.candidate_row):
            is_first &= np.isin(
                np.arange(len(row)), np.unique(row, return_index=True)[1]
            )
        chosen = pairs.where(is_first)
        taken.append(chosen.iou)
        is_used = np.isin(pairs.object_row, chosen.object_row)
        is_used |= np.isin(pairs.candidate_row, chosen.candidate_row)
        pairs = pairs.where(~is_used)
    return np.concatenate(taken)
