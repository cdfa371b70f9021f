"""Recall of the objects of seen and of unseen categories.

Objects of other categories are left out, and do not use up proposals. The recall of
unseen objects is counted in two ways: with all proposals, and as OLN does ("Learning
Open-World Object Proposals without Learning to Classify" by Kim et al.,
https://arxiv.org/abs/2108.06753). There the proposals that find a seen object do not
count in the number of proposals, because they could not find an unseen one.
"""

import numpy as np

from ..core._typing import Bool
from ..data.categories import CategorySplit
from .overlaps import Candidates, Objects, Overlaps, Pairs
from .recall_report import IOU_THRESHOLDS


def split_overlaps(overlaps: Overlaps, split: CategorySplit) -> dict[str, Overlaps]:
    """What the recall of each group of objects depends on, by the name of the group.

    Args:
        overlaps: all objects, and the proposals that may find them.
        split: the categories of both groups.
    """
    is_seen, is_unseen = (
        np.isin(overlaps.objects.category, list(numbers)) for numbers in split
    )
    others = _without_candidates(overlaps, _finds_seen(overlaps, is_seen, is_unseen))
    return {
        "seen": _of_objects(overlaps, is_seen),
        "unseen": _of_objects(overlaps, is_unseen),
        "unseen, OLN's way": _of_objects(others, is_unseen),
    }


def _of_objects(overlaps: Overlaps, kept: Bool[np.ndarray, " o"]) -> Overlaps:
    """The overlaps of some of the objects."""
    rows = np.cumsum(kept) - 1
    pairs = overlaps.pairs.where(kept[overlaps.pairs.object_row])
    return Overlaps(
        Objects(*(column[kept] for column in overlaps.objects)),
        overlaps.candidates,
        pairs._replace(object_row=rows[pairs.object_row]),
    )


def _without_candidates(
    overlaps: Overlaps, dropped: Bool[np.ndarray, " p"]
) -> Overlaps:
    """The overlaps without some proposals; those behind them move up."""
    _, candidates, pairs = overlaps
    # Candidates are sorted by image and by rank. So the number of dropped ones before a
    # candidate, less those of earlier images, is the number that it moves up.
    before = np.cumsum(dropped) - dropped
    first = np.searchsorted(candidates.image, candidates.image)
    rank = candidates.rank - (before - before[first])
    moved, kept = candidates._replace(rank=rank), ~dropped
    rows = np.cumsum(kept) - 1
    pairs = pairs.where(kept[pairs.candidate_row])
    return Overlaps(
        overlaps.objects,
        Candidates(*(column[kept] for column in moved)),
        Pairs(pairs.object_row, rows[pairs.candidate_row], pairs.iou),
    )


def _finds_seen(
    overlaps: Overlaps,
    is_seen: Bool[np.ndarray, " o"],
    is_unseen: Bool[np.ndarray, " o"],
) -> Bool[np.ndarray, " p"]:
    """Which proposals find a seen object at the lowest threshold.

    As in COCO's evaluation, the proposals choose in the order of their scores, each the
    object that it overlaps most among those that are left. Unseen objects come first.
    """
    found = np.zeros(len(overlaps.candidates.rank), bool)
    pairs = overlaps.pairs.where(overlaps.pairs.iou >= IOU_THRESHOLDS[0])
    pairs = pairs.where((is_seen | is_unseen)[pairs.object_row])
    seen = is_seen[pairs.object_row]
    order = np.lexsort((-pairs.object_row, -pairs.iou, seen, pairs.candidate_row))
    taken: set[int] = set()
    chosen = -1  # the last proposal that has found an object
    for i in order.tolist():
        object_row, candidate_row = int(pairs.object_row[i]), pairs.candidate_row[i]
        if candidate_row == chosen or object_row in taken:
            continue
        taken.add(object_row)
        chosen = candidate_row
        found[candidate_row] = seen[i]
    return found
