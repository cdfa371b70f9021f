"""Whether the boxes of a VOC data set count pixels from 1 or from 0."""

from collections.abc import Iterable

import numpy as np

from .annotated import Annotated


def counts_from_zero(images: Iterable[Annotated], others: Iterable[Annotated]) -> bool:
    """Whether a data set counts pixels from 0, as some tools do.

    VOC counts from 1, so a box at the left or upper edge begins at 1. If more boxes
    begin at 0, the set counts from 0. A single 0 in another set is a mistake.

    Args:
        images: the images of a split, with boxes as they are in the files.
        others: the other images of the data set. They decide if no box of the split
            begins at 0 or at 1, so that all splits are read alike.
    """
    at_zero, at_one = _count(images)
    if at_zero == at_one == 0:
        at_zero, at_one = _count(others)
    return at_zero > at_one


def _count(images: Iterable[Annotated]) -> tuple[int, int]:
    """The number of boxes that begin at 0, and of those that begin at 1."""
    at_zero = at_one = 0
    for image in images:
        corners = image.boxes.corners
        # A box that lies outside the image says nothing about where pixels begin.
        height, width = image.size or (np.inf, np.inf)
        if min(height, width) > 0:
            corners = corners[np.all(corners[:, 2:] <= (width, height), axis=1)]
        first = corners[:, :2]
        zero = np.any((first >= 0.0) & (first < 1.0), axis=1)
        one = np.any(first == 1.0, axis=1) & ~zero
        at_zero += int((zero & (first >= 0.0).all(axis=1)).sum())
        at_one += int(one.sum())
    return at_zero, at_one
