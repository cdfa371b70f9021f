"""Reads the lines of a YOLO label file, each of which describes one object.

A line has one of these forms, where x and y are fractions of the upright image:

* `class cx cy w h`: a box by its centre and sides.
* the same with a confidence or a track id, with both, or with keypoints.
* `class x1 y1 x2 y2 x3 y3 ...`: a polygon, of which the bounding box is used. Four
  points may also be the corners of an oriented box.

Ultralytics reads all lines of a file as polygons if one of them is. Tools write both
into one file, so here every line counts alone.
"""

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

from .loose_values import to_corners
from .problems import Problem

Corners = tuple[float, float, float, float]

_BLANKS = re.compile(r"(?:,?[\s;]+)+")
_BLANKS_AND_COMMAS = re.compile(r"[\s;,]+")
_NO_CORNERS = (math.nan, math.nan, math.nan, math.nan)


class Line(NamedTuple):
    """One object.

    Attributes:
        category: the class as it is written.
        corners: `(x0, y0, x1, y1)` in the unit of the file; NaN if they are not usable.
        area: the area of a polygon in the same unit, or 0.
        largest: the largest number that describes the place, without its sign.
        problem: what is said about the form of the line, or None.
        track: the corners if the line has a confidence and a track id instead of a
            third point; None if it cannot have them.
        track_id: the last number of such a line.
        num_columns: number of columns.
        has_commas: whether commas or semicolons were read as something else.
    """

    category: str
    corners: Corners
    area: float = 0.0
    largest: float = 0.0
    problem: Problem | None = None
    track: Corners | None = None
    track_id: float = 0.0
    num_columns: int = 0
    has_commas: bool = False


def read_lines(text: str, keypoint_columns: int = 0) -> list[Line]:
    r"""Reads the lines that are not blank.

    Args:
        text: the content of a label file; lines end in `\n`, `\r` or both.
        keypoint_columns: number of columns that keypoints take behind a box, or 0.
    """
    lines = re.split(r"[\r\n]+", text)
    return [_read(line, keypoint_columns) for line in lines if line.strip()]


def _read(text: str, keypoint_columns: int) -> Line:
    category, *columns = _columns(text.strip())
    has_commas = "," in text or ";" in text
    try:
        numbers = list(map(float, columns))
    except ValueError:
        numbers = to_corners(columns)  # of decimal commas, among others
    line = _interpret(category, numbers, keypoint_columns)
    return line._replace(num_columns=1 + len(columns), has_commas=has_commas)


def _columns(text: str) -> list[str]:
    """The columns of a line, between blanks or, if these are too few, commas."""
    columns = _BLANKS.split(text.rstrip(",; \t"))
    if len(columns) < 5:
        columns = _BLANKS_AND_COMMAS.split(text)
    return columns


def _interpret(category: str, numbers: Sequence[float], keypoint_columns: int) -> Line:
    """Tells the forms of a line apart by the number of their columns."""
    number = len(numbers)
    if number < 4 or not math.isfinite(sum(numbers)):
        return Line(category, _NO_CORNERS)
    if number in (4, 5) or (keypoint_columns and number == 4 + keypoint_columns):
        return Line(
            category,
            _box(numbers),
            largest=max(map(abs, numbers[:4])),
            problem=Problem.MORE_COLUMNS if number > 4 else None,
        )
    if number % 2:  # not pairs, so a number is missing somewhere
        return Line(category, _NO_CORNERS)
    x, y = numbers[::2], numbers[1::2]
    line = Line(
        category,
        (min(x), min(y), max(x), max(y)),
        area=_polygon_area(x, y),
        largest=max(map(abs, numbers)),
        problem=Problem.POLYGON,
    )
    confidence, track_id = numbers[4:6]
    if number == 6 and 0.0 <= confidence <= 1.0 <= track_id and track_id % 1.0 == 0.0:
        line = line._replace(track=_box(numbers), track_id=track_id)
    return line


def as_track(line: Line) -> Line:
    """The line read as a box with a confidence and a track id, if it can be.

    Args:
        line: a line of `read_lines`.
    """
    if line.track is None:
        return line
    return line._replace(
        corners=line.track,
        area=0.0,
        largest=max(map(abs, line.track)),
        problem=Problem.MORE_COLUMNS,
    )


def _box(numbers: Sequence[float]) -> Corners:
    x, y, width, height = numbers[:4]
    return (x - width / 2, y - height / 2, x + width / 2, y + height / 2)


def _polygon_area(x: Sequence[float], y: Sequence[float]) -> float:
    """The area by the shoelace formula."""
    ends = zip(x, y, [*x[1:], x[0]], [*y[1:], y[0]], strict=True)
    return abs(sum(x0 * y1 - x1 * y0 for x0, y0, x1, y1 in ends)) / 2
