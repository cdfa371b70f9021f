"""Recall as detectron2 counts it: `_evaluate_box_proposals` of its COCO evaluator.

Scores play no role in the pairing. The proposal and the object that overlap most are
paired first, then the closest pair that is left, and so on. The IoU thresholds apply
afterwards. There is one difference: detectron2 leaves out images without any proposal,
but here their objects count as missed.
"""

import numpy as np

from ..core._typing import Float
from .overlaps import Overlaps, Pairs
from .recall_report import CURVE_LIMITS, IOU_THRESHOLDS, SIZES, in_sizes


def count_by_detectron2(overlaps: Overlaps) -> Float[np.ndarray, "t s l"]:
    """Counts the objects that are found, by IoU, size and number of proposals.

    Pairs below the lowest threshold would be taken last and never count, so `overlaps`
    need not have them.
    """
    objects, candidates, pairs = overlaps
    # Pairs of equal overlap come in the order of objects, then of scores.
    order = np.lexsort((pairs.candidate_row, pairs.object_row, -pairs.iou))
    pairs = Pairs(*(column[order] for column in pairs))
    thresholds = np.array(IOU_THRESHOLDS)[:, None]
    found = np.zeros((len(IOU_THRESHOLDS), len(SIZES), len(CURVE_LIMITS)))
    # Each size is paired separately, because detectron2 lets objects of other sizes
    # take no proposal.
    for size, in_size in enumerate(in_sizes(objects.areas)):
        of_size = pairs.where(in_size[pairs.object_row])
        ranks = candidates.rank[of_size.candidate_row]
        for row, limit in enumerate(CURVE_LIMITS):
            iou = _closest_first(of_size.where(ranks < limit))
            found[:, size, row] = (iou[None] >= thresholds).sum(axis=1)
    return found


def _closest_first(pairs: Pairs) -> Float[np.ndarray, " taken"]:
    """The overlaps of the pairs that greedy pairing takes, from sorted pairs.

    Greedy pairing takes the first pair, drops all others of its object and of its
    candidate, and repeats. A pair that is the first of both its object and its
    candidate cannot be dropped by an earlier one. So each round takes all such pairs at
    once, in all images.
    """
    taken = [np.zeros(0)]
    while len(pairs.iou):
        is_first = np.ones(len(pairs.iou), bool)
        for row in (pairs.object_row, pairs.candidate_row):
            is_first &= np.isin(
                np.arange(len(row)), np.unique(row, return_index=True)[1]
            )
        # Whoever was paired leaves, and the next round pairs the others.
        chosen = pairs.where(is_first)
        taken.append(chosen.iou)
        is_used = np.isin(pairs.object_row, chosen.object_row)
        is_used |= np.isin(pairs.candidate_row, chosen.candidate_row)
        pairs = pairs.where(~is_used)
    return np.concatenate(taken)
