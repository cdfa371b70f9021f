"""Reads data sets in the layout of YOLO, as Ultralytics defines it.

A set is a `data.yaml`, or a folder with images and a text file of labels for each. The
numbers in a line are fractions of the upright image; `yolo_lines.py` has its forms.
Where Ultralytics leaves out an image because of one line, only this line is left out
or repaired. `Problem` lists the rules.
"""

import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from .annotated import Annotated
from .file_names import walk
from .file_source import FileSource, open_annotated
from .lfs import is_lfs_pointer
from .problems import Problem, Problems
from .yolo_boxes import Classes, conventions_of, to_boxes
from .yolo_folder import is_names_file
from .yolo_labels import LabelFinder, is_label_name, label_folder
from .yolo_layout import YoloLayout
from .yolo_lines import Line, read_lines
from .yolo_yaml import decoded


def read_yolo(
    data: str | pathlib.Path,
    split: str | None = None,
    images: str | pathlib.Path | None = None,
) -> FileSource:
    """Opens a data set in the layout of YOLO.

    Args:
        data: the `data.yaml`, or the folder of the data set. Without a `data.yaml`,
            lists such as `train.txt` and folders such as `train` or `images/train` are
            the splits.
        split: selects the images of `train`, `val` or another split. None selects all
            images, and so does a data set without splits.
        images: the folder that the paths in `data.yaml` are relative to. None uses its
            `path`, or else its own folder.

    Returns:
        The images in the order of lists, or sorted by path, numbered from 1.

    Raises:
        ValueError: the `data.yaml` cannot be read, there is no such split, or no image
            or no object is found.

    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder)
    ...     Image.new("RGB", (60, 40)).save(path / "cat.png")
    ...     _ = (path / "cat.txt").write_text("0 0.5 0.5 0.2 0.5")
    ...     read_yolo(path).truth(0).boxes.tolist()
    [[24.0, 10.0, 36.0, 30.0]]
    """
    problems = Problems()
    base = None if images is None else pathlib.Path(images)
    layout = YoloLayout(pathlib.Path(data), base, problems)
    sources = layout.sources(split, problems)
    folder = layout.image_folder(sources)
    files = layout.images(sources, folder, problems)
    labels = _find_labels(files, problems)
    columns = layout.data.keypoint_columns
    labelled = _read_labels(labels, columns, problems)
    _count_unused(sources, labels, columns, problems)
    conventions = conventions_of([line for image in labelled for line in image.lines])
    classes = Classes(layout.data)
    annotated = [
        Annotated(
            image_id=number,
            names=(name,),
            size=None,
            boxes=to_boxes(lines, conventions, classes, name, problems),
            is_fraction=not conventions.is_pixels,
        )
        for number, name, lines in labelled
    ]
    return open_annotated(annotated, [folder], layout.origin, problems, classes.names)


def yolo_splits(data: str | pathlib.Path) -> tuple[str, ...]:
    """Lists the possible values of `split` in `read_yolo`; there may be none.

    Args:
        data: the `data.yaml`, or the folder of the data set.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = pathlib.Path(folder, "train.txt").write_text("images/cat.jpg")
    ...     _ = pathlib.Path(folder, "val.txt").write_text("images/dog.jpg")
    ...     yolo_splits(folder)
    ('train', 'val')
    """
    return YoloLayout(pathlib.Path(data), None, Problems()).splits


class _Labelled(NamedTuple):
    """The number and the name of an image, and the lines of its label file."""

    number: int
    name: str
    lines: list[Line]


def _find_labels(
    files: Mapping[str, pathlib.Path], problems: Problems
) -> dict[str, pathlib.Path | None]:
    """The label file of every image, by the name of the image."""
    finder, labels = LabelFinder(), {}
    for name, file in files.items():
        labels[name], problem = finder.find(file)
        if problem is not None:
            problems.add(problem, name)
    return labels


def _read_labels(
    labels: Mapping[str, pathlib.Path | None], keypoint_columns: int, problems: Problems
) -> list[_Labelled]:
    """Reads the labels of all images, and leaves out images whose labels are in doubt.

    Images that are left out count too, so that repairing one does not change the
    numbers of others.
    """
    owners: dict[pathlib.Path | None, list[str]] = {}
    for name, label in labels.items():
        owners.setdefault(label, []).append(name)
    labelled = []
    for number, (name, label) in enumerate(labels.items(), start=1):
        lines = [] if label is None else _read_file(label, keypoint_columns)
        same = owners[label]
        if lines is None:
            is_pointer = label is not None and is_lfs_pointer(label)
            problem = Problem.LFS_POINTER if is_pointer else Problem.BAD_LABEL
            problems.add(problem, name)
        elif lines and len(same) > 1:
            # Nothing tells on which of several images the boxes were drawn.
            lost = len(lines) if name == same[0] else 0
            problems.add(Problem.SHARED_LABEL, name, boxes=lost)
        else:
            labelled.append(_Labelled(number, name, lines))
    return labelled


def _read_file(path: pathlib.Path, keypoint_columns: int) -> list[Line] | None:
    """The lines of a label file, or None if it cannot be read."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    if is_lfs_pointer(path):
        return None
    return read_lines(decoded(content), keypoint_columns)


def _count_unused(
    sources: Sequence[pathlib.Path],
    labels: Mapping[str, pathlib.Path | None],
    keypoint_columns: int,
    problems: Problems,
) -> None:
    """Counts label files in the folders of a split that belong to no image.

    A folder of labels may serve several lists, so only sources that are folders count.
    """
    used = {os.path.realpath(label) for label in labels.values() if label is not None}
    folders = dict.fromkeys(label_folder(path) for path in sources if path.is_dir())
    for path in (path for folder in folders for path in walk(folder)):
        is_label = is_label_name(path) and not is_names_file(path)
        if not is_label or os.path.realpath(path) in used:
            continue
        # A text without any box is no label file.
        lines = _read_file(path, keypoint_columns) or []
        number = sum(math.isfinite(sum(line.corners)) for line in lines)
        problems.add(Problem.UNUSED_LABEL, path.name, int(number > 0), boxes=number)
