"""Writes and reads proposals as COCO results files."""

import json
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from .recall_report import ImageProposals, checked


def write_coco_results(
    path: str | os.PathLike[str], proposals: Sequence[ImageProposals]
) -> None:
    """Writes proposals as a list of detections, which COCO's tools can read.

    Each detection has `image_id`, `category_id` 1, `bbox` as `[x, y, width, height]`
    and `score`. Coordinates have three decimal places. An image without proposals does
    not appear in the file.

    Args:
        path: the JSON file to write.
        proposals: the proposals of every image.

    Raises:
        ValueError: boxes or scores are not finite, or their numbers differ.

    >>> import tempfile
    >>> found = ImageProposals(7, np.array([[1.0, 2, 4, 6]]), np.array([0.5]))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_coco_results(f"{folder}/found.json", [found])
    ...     read_coco_results(f"{folder}/found.json")[0].boxes.tolist()
    [[1.0, 2.0, 4.0, 6.0]]
    """
    with pathlib.Path(path).open("w", encoding="utf-8") as file:
        images = (checked(image, "write_coco_results") for image in proposals)
        lines = (line for image in images for line in _lines(image))
        file.write("[")
        for number, line in enumerate(lines):
            file.write(f"{',' if number else ''}\n{line}")
        file.write("\n]\n")


def read_coco_results(path: str | os.PathLike[str]) -> list[ImageProposals]:
    """Reads class-agnostic detections, from `write_coco_results` or another tool.

    Args:
        path: the JSON file to read.

    Returns:
        The proposals of each image, in the order of the file.

    Raises:
        ValueError: the file is not JSON, or not a list of boxes with scores.

    >>> import json, tempfile
    >>> box = {"image_id": 7, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = pathlib.Path(folder, "found.json").write_text(json.dumps([box]))
    ...     read_coco_results(f"{folder}/found.json")[0].boxes.tolist()
    [[1.0, 2.0, 4.0, 6.0]]
    """
    try:
        rows = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
        found: dict[int, list[list[float]]] = {}
        for row in rows:
            x, y, width, height = map(float, row["bbox"])
            box = [x, y, x + width, y + height, float(row["score"])]
            found.setdefault(int(row["image_id"]), []).append(box)
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise ValueError(
            "read_coco_results needs a JSON list of objects with image_id, bbox and "
            f"score, got {path}, which fails with {error!r}."
        ) from error
    tables = {image_id: np.array(rows, np.float32) for image_id, rows in found.items()}
    return [
        checked(
            ImageProposals(image_id, table[:, :4], table[:, 4]), "read_coco_results"
        )
        for image_id, table in tables.items()
    ]


def _lines(image: ImageProposals) -> list[str]:
    """The detections of one image, a line of JSON each."""
    boxes = image.boxes.astype(float)
    boxes[:, 2:] -= boxes[:, :2]
    return [
        f'{{"image_id": {image.image_id}, "category_id": 1, '
        f'"bbox": [{x:.3f}, {y:.3f}, {width:.3f}, {height:.3f}], "score": {score:.9g}}}'
        for (x, y, width, height), score in zip(
            boxes.tolist(), image.scores.tolist(), strict=True
        )
    ]
