"""Finds the label file of an image in a YOLO data set.

The last folder `images` in the path of the image becomes `labels`, and the extension
`.txt`. Without such a folder, the label file lies beside the image.
"""

import functools
import pathlib
from collections.abc import Iterator

from .file_names import fold
from .problems import Problem

IMAGE_FOLDERS = ("images", "jpegimages")  # in lower case; the latter in sets from VOC
_LABEL_FOLDER = "labels"


class LabelFinder:
    """Finds label files, and lists every folder of them once."""

    def __init__(self) -> None:
        self._listing = functools.cache(_list_labels)

    def find(self, image: pathlib.Path) -> tuple[pathlib.Path | None, Problem | None]:
        """Looks for the label file of an image.

        Args:
            image: the image file.

        Returns:
            The label file, or None if there is none; and the problem, or None if there
            is none. A file of another case or in another place is a problem, but is
            returned.
        """
        for position, path in enumerate(_places(image)):
            alike = self._listing(path.parent).get(fold(path.stem), [])
            exact = [file for file in alike if file.name == path.name]
            if exact or len(alike) == 1:
                is_usual = position == 0 and bool(exact)
                return (exact or alike)[0], None if is_usual else Problem.OTHER_LABEL
        return None, Problem.NO_LABEL


def label_folder(images: pathlib.Path) -> pathlib.Path:
    """The usual folder of the labels of the images in a folder.

    Args:
        images: the folder of the images.
    """
    return next(_places(images / "image")).parent


def image_folders(labels: pathlib.Path) -> Iterator[pathlib.Path]:
    """The folders whose images have their labels in a folder.

    Args:
        labels: the folder of the labels.
    """
    yield labels
    parts = labels.parts
    for place in reversed(range(len(parts))):
        if parts[place].lower() == _LABEL_FOLDER:
            yield pathlib.Path(*parts[:place], "images", *parts[place + 1 :])
            return


def _places(image: pathlib.Path) -> Iterator[pathlib.Path]:
    """Where the label file may be, in the order of preference."""
    # A folder of images is often a link, with labels beside the link or its target.
    for path in dict.fromkeys([image, image.resolve()]):
        parts = path.parts
        for place in reversed(range(len(parts) - 1)):
            if parts[place].lower() in IMAGE_FOLDERS:
                swapped = (*parts[:place], _LABEL_FOLDER, *parts[place + 1 :])
                yield pathlib.Path(*swapped).with_suffix(".txt")
                break
    yield image.with_suffix(".txt")


def _list_labels(folder: pathlib.Path) -> dict[str, list[pathlib.Path]]:
    """The text files directly in a folder, by their folded stems."""
    listing: dict[str, list[pathlib.Path]] = {}
    try:
        files = sorted(folder.iterdir())
    except OSError:
        return listing
    for path in files:
        if is_label_name(path) and path.is_file():
            listing.setdefault(fold(path.stem), []).append(path)
    return listing


def is_label_name(path: pathlib.PurePath) -> bool:
    """Whether a file has the extension of a label file, in any case.

    Args:
        path: the name or path of the file.
    """
    return path.suffix.lower() == ".txt"
