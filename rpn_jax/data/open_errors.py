"""The messages of a data set that has no usable image or no object."""

import itertools
import pathlib
from collections.abc import Sequence
from typing import Protocol

from .annotated import Annotated
from .file_names import walk
from .image_folder import ImageFolder, is_image_name
from .image_source import GroundTruth
from .problems import Problem, Problems

_MOST_FOLDERS = 4  # number of folders that a message names
_SEEN_ENTRIES = 50_000  # a message is not worth a longer search

# What to do if most images were left out by this problem.
_ADVICE = {
    Problem.OUTSIDE_FOLDER: (
        "Write names into the annotations that are relative to the folder of the "
        "images, without `..`, and name that folder with `images`."
    ),
    Problem.URL_NAME: (
        "Download the images into one folder, and name that folder with `images`."
    ),
    Problem.LFS_POINTER: "Fetch the files with `git lfs pull`.",
    Problem.BAD_FILE: "Check the files.",
    Problem.TOO_LARGE: "Make the images smaller, and scale their boxes.",
    Problem.NO_NAME: "Give every image an `id` and a `file_name`.",
    Problem.SHARED_ID: "Give every image an id of its own.",
    Problem.BAD_XML: "Check the annotation files.",
    Problem.MANY_IMAGES: (
        "This looks like the XML format of CVAT, dlib or another tool: export the "
        "data as PASCAL VOC or as COCO."
    ),
}


class _File(Protocol):
    """An image file with its annotations."""

    @property
    def truth(self) -> GroundTruth: ...


def explained(problems: Problems) -> str:
    """The problems as lines to append to an error message.

    Args:
        problems: what was counted so far.
    """
    return "".join(f"\n  {line}" for line in problems.summary())


def none_readable(
    annotations: pathlib.Path,
    annotated: Sequence[Annotated],
    folders: Sequence[ImageFolder],
    problems: Problems,
) -> str:
    """The message that no image can be read, and what to do.

    Args:
        annotations: the path of the annotations.
        annotated: the images.
        folders: the folders where the files were looked for.
        problems: what was counted so far.
    """
    reasons = [p for p, _ in problems.counts.most_common() if p in _ADVICE]
    missing = problems.counts[Problem.MISSING_FILE]
    if missing or not reasons:
        advice = f"Name their folder with `images`.{_seen(annotations)}"
    else:
        advice = _ADVICE[reasons[0]]
    looked_in = ", ".join(dict.fromkeys(str(folder.root) for folder in folders))
    return (
        f"{annotations} needs its images, got none of {len(annotated)} that can be "
        f"read in {looked_in}. {advice}{explained(problems)}"
    )


def no_object(
    annotations: pathlib.Path, files: Sequence[_File], problems: Problems
) -> str:
    """The message that no image has an object, and what to do.

    Args:
        annotations: the path of the annotations.
        files: the images that can be read.
        problems: what was counted so far.
    """
    number = sum(len(file.truth.boxes) for file in files)
    message = f"{annotations} needs boxes of objects, got none in {len(files)} images."
    if number:
        message += (
            f" All {number} boxes are ignored regions, because `iscrowd` or "
            "`difficult` is 1. Set it to 0 for the boxes that are objects."
        )
    if missing := problems.counts[Problem.NO_LABEL]:
        message += (
            f" {missing} have no label file: it has the name of its image, and lies in "
            "a folder `labels` in the place of `images`, or beside the image."
        )
    return message + explained(problems)


def folders_with_images(root: pathlib.Path) -> list[str]:
    """The folders at and below a place that hold images, with their number.

    Args:
        root: the place.
    """
    counts: dict[pathlib.Path, int] = {}
    for path in itertools.islice(walk(root), _SEEN_ENTRIES):
        if is_image_name(path):
            counts[path.parent] = counts.get(path.parent, 0) + 1
    most = sorted(counts.items(), key=lambda item: -item[1])[:_MOST_FOLDERS]
    return [f"{folder} ({number})" for folder, number in most]


def _seen(annotations: pathlib.Path) -> str:
    """A sentence that names the folders with images near the annotations, if any."""
    places = [annotations, annotations.parent] if annotations.is_dir() else []
    for place in [*places, annotations.parent]:
        if found := folders_with_images(place):
            return f" Images were seen in {', '.join(found)}."
    return ""
