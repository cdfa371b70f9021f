"""Reads annotations in COCO's JSON format.

The box of an annotation with `iscrowd` 1 becomes an ignored region. Segmentations are
not read. Numbers that are written as strings count as numbers. `coco_ids.py` has the
rules for ids, and `Problem` the others.
"""

import itertools
import json
import math
import pathlib
from typing import Any

import numpy as np

from .annotated import Annotated
from .box_rules import NO_BOXES, Boxes, drop_unreadable, order_corners
from .coco_ids import ImageIds, Key, number_of
from .file_names import name_parts
from .file_source import FileSource, open_annotated
from .image_folder import ImageFolder
from .lfs import is_lfs_pointer
from .loose_values import is_true, to_corners, to_float
from .problems import Problem, Problems

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

    >>> import tempfile
    >>> from PIL import Image
    >>> content = {
    ...     "images": [{"id": 7, "file_name": "cat.png", "width": 60, "height": 40}],
    ...     "annotations": [{"image_id": 7, "category_id": 1, "bbox": [5, 6, 10, 20]}],
    ...     "categories": [{"id": 1, "name": "cat"}],
    ... }
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder)
    ...     Image.new("RGB", (60, 40)).save(path / "cat.png")
    ...     _ = (path / "train.json").write_text(json.dumps(content))
    ...     read_coco(path / "train.json").truth(0).boxes.tolist()
    [[5.0, 6.0, 15.0, 26.0]]
    """
    path = pathlib.Path(annotations)
    folder = None if images is None else pathlib.Path(images)
    content = _load_json(path)
    problems = Problems()
    records = [r if isinstance(r, dict) else {} for r in content["images"]]
    ids = ImageIds(record.get("id") for record in records)
    listed = _list_images(path, records, ids, problems)
    boxes = _read_boxes(content.get("annotations"), ids, set(listed), problems)
    images_of = _drop_shared(listed, boxes, problems)
    taken = {ids.key(record.get("id")) for record in records}
    annotated = [
        image._replace(boxes=_check(boxes.get(key, []), image.names[0], problems))
        for key, image in _number(images_of, taken, problems).items()
    ]
    names = _read_categories(content.get("categories"))
    return open_annotated(annotated, _folders(path, folder), path, problems, names)


def _folders(path: pathlib.Path, images: pathlib.Path | None) -> list[ImageFolder]:
    """The folders where the images may be, in the order of preference."""
    if images is not None:
        return [ImageFolder(images)]
    split = path.stem.removeprefix("instances_")  # COCO's own layout
    return [
        ImageFolder(path.parent / "images"),
        # The folder of the file may hold anything, so folders below do not count.
        ImageFolder(path.parent, deep=False),
        ImageFolder(path.parent.parent / "images"),
        ImageFolder(path.parent.parent / split),
        ImageFolder(path.parent / split),
    ]


def _load_json(path: pathlib.Path) -> dict[str, Any]:
    """Loads the file, and raises an error unless it has a list of images."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(
            f"read_coco needs a JSON file in UTF-8, got {path}: "
            f"{_what_it_is(path) or error}."
        ) from error
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        raise ValueError(
            "read_coco needs a JSON object with a list `images`, got "
            f"{type(content).__name__} in {path}. Pass an annotation file, not a file "
            "of results or of another format."
        )
    return content


def _what_it_is(path: pathlib.Path) -> str | None:
    """What a file is that is not JSON, and what to do; None if it is not known."""
    if is_lfs_pointer(path):
        return "it is a pointer of Git LFS; fetch its content with `git lfs pull`"
    try:
        begin = path.read_bytes()[:64].lstrip(b"\xef\xbb\xbf\xff\xfe\0 \r\n\t")
    except OSError:
        return None
    if begin.startswith(b"<"):
        return "it is XML; name the folder of VOC's XML files, or export as COCO"
    if begin.startswith((b"PK\x03\x04", b"\x1f\x8b")):
        return "it is an archive; unpack it"
    return None


def _list_images(
    path: pathlib.Path, records: list[dict[str, Any]], ids: ImageIds, problems: Problems
) -> dict[Key, list[Annotated]]:
    """The images without boxes or numbers, by their ids: one, or several files."""
    images: dict[Key, list[Annotated]] = {}
    for position, record in enumerate(records):
        where = f"{path.name}, images[{position}]"
        name, key = record.get("file_name"), ids.key(record.get("id"))
        if not isinstance(name, str) or key is None:
            problems.add(Problem.NO_NAME, where)
            continue
        of_key = images.setdefault(key, [])
        if any(name_parts(name) == name_parts(image.names[0]) for image in of_key):
            problems.add(Problem.REPEATED_IMAGE, where)
        else:
            of_key.append(Annotated(0, (name,), _size(record), NO_BOXES))
    return images


def _drop_shared(
    listed: dict[Key, list[Annotated]], boxes: dict[Key, list[_Row]], problems: Problems
) -> dict[Key, Annotated]:
    """The images whose id no other file has.

    Nothing tells on which of several files a box was drawn. Without its boxes an image
    would count as background, so it is left out.
    """
    for key, images in listed.items():
        if len(images) > 1:
            lost = len(boxes.get(key, []))
            problems.add(Problem.SHARED_ID, images[0].names[0], len(images), boxes=lost)
    return {key: images[0] for key, images in listed.items() if len(images) == 1}


def _number(
    images: dict[Key, Annotated], taken: set[Key | None], problems: Problems
) -> dict[Key, Annotated]:
    """Gives every image a whole number, and the lowest free one if its id is none."""
    free = (number for number in itertools.count(1) if number not in taken)
    numbered = {}
    for key, image in images.items():
        number = number_of(key)
        if number is None:
            problems.add(Problem.OTHER_ID, image.names[0])
            number = next(free)
        numbered[key] = image._replace(image_id=number)
    return numbered


def _size(record: dict[str, Any]) -> tuple[int, int] | None:
    """`(height, width)` of the record, or None unless both are numbers."""
    height, width = to_float(record.get("height")), to_float(record.get("width"))
    return (int(height), int(width)) if math.isfinite(height + width) else None


def _read_categories(records: object) -> dict[int, str]:
    """The names of categories by their ids; a category without a name has its id."""
    names: dict[int, str] = {}
    for record in records if isinstance(records, list) else []:
        record = record if isinstance(record, dict) else {}
        number, name = to_float(record.get("id")), record.get("name")
        if number.is_integer():
            names[int(number)] = name if isinstance(name, str) else f"{number:.0f}"
    return names


def _read_boxes(
    annotations: object, ids: ImageIds, images: set[Key], problems: Problems
) -> dict[Key, list[_Row]]:
    """The boxes of each image, by its id."""
    rows: dict[Key, list[_Row]] = {}
    records = annotations if isinstance(annotations, list) else []
    for position, record in enumerate(records):
        record = record if isinstance(record, dict) else {}
        key = ids.key(record.get("image_id"))
        if key is None or key not in images:
            problems.add(Problem.UNLISTED_IMAGE, f"annotations[{position}]")
            continue
        rows.setdefault(key, []).append(_read_box(record))
    return rows


def _read_box(record: dict[str, Any]) -> _Row:
    """Reads one annotation; corners that are not four numbers become NaN."""
    bbox = record.get("bbox")
    numbers = to_corners(bbox) if isinstance(bbox, list) else []
    x, y, width, height = numbers if len(numbers) == 4 else [math.nan] * 4
    return (
        (x, y, x + width, y + height),
        is_true(record.get("iscrowd")),
        to_float(record.get("area")),
        to_float(record.get("category_id")),
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
    unknown = ~((boxes.areas > 0.0) & (boxes.areas <= np.finfo(np.float32).max))
    problems.add(Problem.OTHER_AREA, where, int(unknown.sum()))
    boxes.areas[unknown] = 0.0
    return order_corners(boxes, where, problems)
