"""Makes boxes from the lines of a YOLO set: their unit, their form and their class."""

import collections
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .box_rules import NO_BOXES, Boxes, order_corners
from .loose_values import to_float
from .problems import Problem, Problems
from .yolo_lines import Line, as_track
from .yolo_yaml import DataYaml

# A larger number is not a fraction of the image. A box that reaches far beyond its
# image may have a side or a centre above 1.
_LARGEST_FRACTION = 2.0
# Edges beyond the image by less are rounding errors of numbers with six digits.
_ROUNDING = 1e-5
# The number of the first class that is a name of its own; no set has as many classes.
_FIRST_OTHER = 2**31


class Conventions(NamedTuple):
    """What the lines of a set mean, which single lines do not show.

    Attributes:
        is_pixels: whether boxes are in pixels instead of fractions.
        has_tracks: whether seven columns are a box with a confidence and a track id,
            and not a polygon of three points.
    """

    is_pixels: bool
    has_tracks: bool


def conventions_of(lines: Sequence[Line]) -> Conventions:
    """What most lines of a set agree with.

    Args:
        lines: all lines of the set.
    """
    triples = [line for line in lines if line.num_columns == 7]
    tracks = [line for line in triples if line.track is not None]
    # A point on the lower edge of the image looks like the track id 1.
    has_tracks = 2 * len(tracks) > len(triples) and any(t.track_id > 1 for t in tracks)
    sizes = [
        (as_track(line) if has_tracks else line).largest
        for line in lines
        if math.isfinite(sum(line.corners))
    ]
    beyond = sum(size > _LARGEST_FRACTION for size in sizes)
    return Conventions(2 * beyond > len(sizes), has_tracks)


class Classes:
    """The numbers of classes.

    Args:
        data: gives the names and the number of classes.
    """

    def __init__(self, data: DataYaml) -> None:
        self._known = data.num_classes or math.inf
        self._unnamed: set[int] = set(range(data.num_classes))
        self._names = dict(data.names)
        self._numbers = {name: number for number, name in data.names.items()}

    @property
    def names(self) -> dict[int, str]:
        """The names by number; a class without a name has its number as text."""
        return {n: str(n) for n in sorted(self._unnamed)} | self._names

    def number(self, text: str) -> tuple[int | None, Problem | None]:
        """The number of a class, or None; and the problem, or None if there is none.

        Args:
            text: the first column of a line.
        """
        if text in self._numbers:
            return self._numbers[text], None
        value = to_float(text)
        if math.isfinite(value) and value.is_integer():
            self._unnamed.add(int(value))
            is_known = 0.0 <= value < self._known
            return int(value), None if is_known else Problem.UNKNOWN_CLASS
        if not math.isnan(value) or text.strip("+-").lower() == "nan":
            return None, Problem.BAD_CLASS
        # The new name gets a number, so that equal boxes of two names stay apart.
        number = self._numbers[text] = _FIRST_OTHER + len(self._names)
        self._names[number] = text
        return number, Problem.UNKNOWN_CLASS


def to_boxes(
    lines: Sequence[Line],
    conventions: Conventions,
    classes: Classes,
    where: str,
    problems: Problems,
) -> Boxes:
    """Makes the boxes of one image, and applies the rules that need no image file.

    Args:
        lines: the lines of the image.
        conventions: what they mean.
        classes: numbers the classes.
        where: the name of the image, which the problems mention.
        problems: counts what is odd.

    Returns:
        The boxes, in pixels or in fractions of the image.
    """
    kept: list[tuple[Line, int]] = []
    counts: collections.Counter[Problem] = collections.Counter()
    for line in map(as_track, lines) if conventions.has_tracks else lines:
        if not math.isfinite(sum(line.corners)):
            counts[Problem.BAD_BOX] += 1
            continue
        if line.largest > _LARGEST_FRACTION and not conventions.is_pixels:
            counts[Problem.NO_FRACTION] += 1
            continue
        number, problem = classes.number(line.category)
        found = [problem, line.problem, Problem.COMMAS if line.has_commas else None]
        counts.update(problem for problem in found if problem is not None)
        if number is not None:
            kept.append((line, number))
    if conventions.is_pixels:
        counts[Problem.PIXELS] += len(kept)
    for problem, times in counts.items():
        problems.add(problem, where, times)
    if not kept:
        return NO_BOXES
    boxes = Boxes(
        corners=np.array([line.corners for line, _ in kept]),
        is_ignored=np.zeros(len(kept), bool),
        areas=np.array([line.area for line, _ in kept]),
        categories=np.array([number for _, number in kept], float),
    )
    boxes = order_corners(boxes, where, problems)
    return boxes if conventions.is_pixels else _snapped(boxes)


def _snapped(boxes: Boxes) -> Boxes:
    """Moves edges onto the border of the image that are beyond it by rounding alone."""
    inside = np.clip(boxes.corners, 0.0, 1.0)
    is_close = np.abs(inside - boxes.corners) < _ROUNDING
    return boxes._replace(corners=np.where(is_close, inside, boxes.corners))
