"""Checks boxes, and repairs or drops them by one rule per problem."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from .image_files import Header
from .problems import Problem, Problems

_MIN_SIDE = 1.0  # pixels; a box must be wider and higher than this
_TOLERANCE = 1e-3  # pixels; an edge beyond the image by less is a rounding error


class Boxes(NamedTuple):
    """The boxes of one image.

    Attributes:
        corners: `[m, 4]` `(x0, y0, x1, y1)`.
        is_ignored: `[m]` which boxes are ignored regions.
        areas: `[m]` area of each object; 0 or less where it is unknown.
        categories: `[m]` a number that is equal for boxes of one category.
    """

    corners: Float[np.ndarray, "m 4"]
    is_ignored: Bool[np.ndarray, " m"]
    areas: Float[np.ndarray, " m"]
    categories: Float[np.ndarray, " m"]

    def where(self, keep: Bool[np.ndarray, " m"]) -> "Boxes":
        """The boxes for which `keep` is true."""
        return Boxes(*(column[keep] for column in self))


NO_BOXES = Boxes(np.zeros((0, 4)), np.zeros(0, bool), np.zeros(0), np.zeros(0))


def in_pixels(boxes: Boxes, size: tuple[int, int]) -> Boxes:
    """Converts boxes from fractions of the upright image.

    Args:
        boxes: the boxes of an image.
        size: `(height, width)` of the upright image.
    """
    height, width = size
    return boxes._replace(
        corners=boxes.corners * (width, height, width, height),
        areas=boxes.areas * (width * height),
    )


def drop_unreadable(boxes: Boxes, where: str, problems: Problems) -> Boxes:
    """Drops boxes that are not finite.

    Args:
        boxes: the boxes of an image.
        where: the name of the image, which the problems mention.
        problems: counts the dropped boxes.
    """
    finite = np.all(np.isfinite(boxes.corners), axis=1)
    problems.add(Problem.BAD_BOX, where, int((~finite).sum()))
    return boxes.where(finite)


def order_corners(boxes: Boxes, where: str, problems: Problems) -> Boxes:
    """Exchanges left with right and top with bottom where they are inverted.

    Args:
        boxes: the boxes of an image, all finite.
        where: the name of the image, which the problems mention.
        problems: counts the inverted boxes.
    """
    low = np.minimum(boxes.corners[:, :2], boxes.corners[:, 2:])
    high = np.maximum(boxes.corners[:, :2], boxes.corners[:, 2:])
    inverted = (low != boxes.corners[:, :2]).any(axis=1)
    problems.add(Problem.INVERTED_BOX, where, int(inverted.sum()))
    return boxes._replace(corners=np.concatenate([low, high], axis=1))


def fit_to_image(
    boxes: Boxes,
    annotated_size: tuple[int, int] | None,
    header: Header,
    where: str,
    problems: Problems,
) -> Boxes:
    """Turns boxes with their image, clips them, and drops thin and repeated ones.

    Args:
        boxes: the boxes of an image, with ordered corners.
        annotated_size: `(height, width)` of the image according to the annotations, or
            None.
        header: the header of the image file.
        where: the name of the image, which the problems mention.
        problems: counts what was repaired or dropped.

    Returns:
        Boxes in pixels of the upright image, with areas above 0.
    """
    # The annotated size shows whether boxes were drawn in the stored image or in the
    # upright one. If it is neither, the boxes count as pixels of the upright image.
    if annotated_size == header.stored_size != header.size:
        problems.add(Problem.TURNED, where, len(boxes.corners))
        boxes = boxes._replace(corners=_turned(boxes.corners, header))
    elif annotated_size not in (None, header.size):
        problems.add(Problem.OTHER_SIZE, where)
    # Clipping comes first, because it makes a box outside the image thin.
    height, width = header.size
    corners = np.clip(boxes.corners, 0.0, np.tile([width, height], 2))
    clipped = (np.abs(corners - boxes.corners) > _TOLERANCE).any(axis=1)
    problems.add(Problem.CLIPPED_BOX, where, int(clipped.sum()))
    # The area of the clipped box replaces an unknown area, because the evaluation by
    # size needs an area for each object.
    sides = corners[:, 2:] - corners[:, :2]
    wide = np.all(sides > _MIN_SIDE, axis=1)
    problems.add(Problem.THIN_BOX, where, int((~wide).sum()))
    areas = np.where(boxes.areas > 0.0, boxes.areas, sides.prod(axis=1))
    boxes = boxes._replace(corners=corners, areas=areas).where(wide)
    return _drop_repeated(boxes, where, problems)


def join(parts: Sequence[Boxes], where: str, problems: Problems) -> Boxes:
    """The boxes of one image that several records list, each once.

    Args:
        parts: the boxes of each record, in pixels of the upright image.
        where: the name of the image, which the problems mention.
        problems: counts the repeated boxes.
    """
    joined = Boxes(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
    return _drop_repeated(joined, where, problems)


def _turned(
    corners: Float[np.ndarray, "m 4"], header: Header
) -> Float[np.ndarray, "m 4"]:
    """Turns corners from an image that is stored on its side to the upright image.

    EXIF orientations 5 to 8 exchange x with y. Orientations 6 and 7 then mirror left to
    right, and 7 and 8 mirror top to bottom.
    """
    height, width = header.size
    x0, y0, x1, y1 = corners[:, [1, 0, 3, 2]].T
    if header.orientation in (6, 7):
        x0, x1 = width - x1, width - x0
    if header.orientation in (7, 8):
        y0, y1 = height - y1, height - y0
    return np.stack([x0, y0, x1, y1], axis=1)


def _drop_repeated(boxes: Boxes, where: str, problems: Problems) -> Boxes:
    """Keeps the first of boxes that agree in corners, category and being ignored."""
    keys = np.column_stack([boxes.corners, boxes.categories, boxes.is_ignored])
    _, first = np.unique(keys, axis=0, return_index=True)
    problems.add(Problem.REPEATED_BOX, where, len(keys) - len(first))
    return boxes.where(np.isin(np.arange(len(keys)), first))
