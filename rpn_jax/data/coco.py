"""Reads annotations in COCO's JSON format.

The box of an annotation with `iscrowd` 1 becomes an ignored region. Segmentations are
not read. Categories only serve to recognize repeated boxes. Numbers that are written as
strings count as numbers. `Problem` lists the other rules.
"""

import itertools
import json
import math
import pathlib
from collections.abc import Hashable
from typing import Any, TypeGuard

import numpy as np

from .box_rules import NO_BOXES, Boxes, drop_unreadable, order_corners
from .file_source import Annotated, FileSource, open_annotated
from .problems import Problem, Problems

_LARGEST_ID = 2**63  # larger numbers do not fit 64 bits, and are replaced

# The corners of a box, whether it is an ignored region, its area and its category.
_Row = tuple[tuple[float, float, float, float], bool, float, float]


def read_coco(
    annotations: str | pathlib.Path, images: str | pathlib.Path | None = None
) -> FileSource:
    """Opens a data set in COCO's format.

    Args:
        annotations: the JSON file.
        images: the folder that the file names are relative to. By default the folder
            `images` beside the JSON file or beside its folder, or the folder of the
            file: whichever has the images.

    Returns:
        The images in the order of the file, with their boxes.

    Raises:
        ValueError: the file is not a COCO annotation file, or no image or no object is
            found.
    """
    path = pathlib.Path(annotations)
    content = _load_json(path)
    problems = Problems()
    listed = _list_images(path, content, problems)
    boxes = _read_boxes(content.get("annotations"), set(listed), problems)
    annotated = [
        image._replace(boxes=_check(boxes.get(key, []), image.names[0], problems))
        for key, image in listed.items()
    ]
    return open_annotated(annotated, _folders(path, images), path, problems)


def _folders(
    path: pathlib.Path, images: str | pathlib.Path | None
) -> list[pathlib.Path]:
    """The folders where the images may be, in the order of preference."""
    if images is not None:
        return [pathlib.Path(images)]
    split = path.stem.removeprefix("instances_")  # COCO's own layout
    return [
        path.parent / "images",
        path.parent,
        path.parent.parent / "images",
        path.parent.parent / split,
    ]


def _load_json(path: pathlib.Path) -> dict[str, Any]:
    """Loads the file, and raises an error unless it has a list of images."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(
            f"read_coco needs a JSON file in UTF-8, got {path}: {error}."
        ) from error
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        raise ValueError(
            "read_coco needs a JSON object with a list `images`, got "
            f"{type(content).__name__} in {path}. Pass an annotation file, not a file "
            "of results or of another format."
        )
    return content


def _list_images(
    path: pathlib.Path, content: dict[str, Any], problems: Problems
) -> dict[Hashable, Annotated]:
    """The images without boxes, by the id that annotations use for them."""
    # An id that is not a whole number is replaced by the lowest number that is free.
    records = [r if isinstance(r, dict) else {} for r in content["images"]]
    taken = {record.get("id") for record in records if _is_number(record.get("id"))}
    free = (number for number in itertools.count(1) if number not in taken)
    # Annotations refer to the id in the file, so it stays the key even if the image
    # gets another number.
    images: dict[Hashable, Annotated] = {}
    for position, record in enumerate(records):
        where = f"{path.name}, images[{position}]"
        name, key = record.get("file_name"), record.get("id")
        if not isinstance(name, str) or not isinstance(key, str | int | float):
            problems.add(Problem.NO_NAME, where)
        elif key in images:
            problems.add(Problem.REPEATED_IMAGE, where)
        else:
            problems.add(Problem.OTHER_ID, where, int(not _is_number(key)))
            number = key if _is_number(key) else next(free)
            images[key] = Annotated(number, (name,), _size(record), NO_BOXES)
    return images


def _is_number(key: object) -> TypeGuard[int]:
    """Whether a key can be kept as the id of an image."""
    return isinstance(key, int) and abs(key) < _LARGEST_ID


def _size(record: dict[str, Any]) -> tuple[int, int] | None:
    """`(height, width)` of the record, or None unless both are numbers."""
    height, width = _to_float(record.get("height")), _to_float(record.get("width"))
    return (int(height), int(width)) if math.isfinite(height + width) else None


def _to_float(value: object) -> float:
    """Converts a number, or a string that holds one; anything else becomes NaN."""
    try:
        return float(value) if isinstance(value, str | int | float) else math.nan
    except (ValueError, OverflowError):
        return math.nan


def _read_boxes(
    annotations: object, images: set[Hashable], problems: Problems
) -> dict[Hashable, list[_Row]]:
    """The boxes of each image, by the id that annotations use for it."""
    rows: dict[Hashable, list[_Row]] = {}
    records = annotations if isinstance(annotations, list) else []
    for position, record in enumerate(records):
        record = record if isinstance(record, dict) else {}
        key = record.get("image_id")
        if not isinstance(key, str | int | float) or key not in images:
            problems.add(Problem.UNLISTED_IMAGE, f"annotations[{position}]")
            continue
        rows.setdefault(key, []).append(_read_box(record))
    return rows


def _read_box(record: dict[str, Any]) -> _Row:
    """Reads one annotation; corners that are not four numbers become NaN."""
    bbox = record.get("bbox")
    numbers = [_to_float(value) for value in bbox] if isinstance(bbox, list) else []
    x, y, width, height = numbers if len(numbers) == 4 else [math.nan] * 4
    return (
        (x, y, x + width, y + height),
        _to_float(record.get("iscrowd")) == 1.0,
        _to_float(record.get("area")),
        _to_float(record.get("category_id")),
    )


def _check(rows: list[_Row], where: str, problems: Problems) -> Boxes:
    """Makes the boxes of one image, and applies the rules that need no image file."""
    if not rows:
        return NO_BOXES
    corners, is_ignored, areas, categories = zip(*rows, strict=True)
    boxes = Boxes(
        corners=np.array(corners),
        is_ignored=np.array(is_ignored),
        areas=np.array(areas),
        categories=np.nan_to_num(categories, nan=-1.0),
    )
    # An unusable area becomes 0, because `fit_to_image` then computes it from the
    # clipped box.
    boxes = drop_unreadable(boxes, where, problems)
    unknown = ~((boxes.areas > 0.0) & np.isfinite(boxes.areas))
    problems.add(Problem.OTHER_AREA, where, int(unknown.sum()))
    boxes.areas[unknown] = 0.0
    return order_corners(boxes, where, problems)
