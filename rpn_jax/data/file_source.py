"""A data set of image files, made from the annotations that a reader found.

The annotated size of an image decides what its boxes mean. If it is the size of the
upright image, the boxes are pixels of that image. If it is only the size of the stored
image, the boxes are turned with the image. If it is neither, the file's size is used,
and the boxes are pixels of the upright image.
"""

import itertools
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .box_rules import NO_BOXES, Boxes, fit_to_image
from .image_files import Header, ImageFolder, decode_image, list_images, read_headers
from .image_source import Decoded, GroundTruth, ImageSource
from .problems import Problem, Problems

# The folder is chosen by looking for this number of images. More images make the choice
# surer, but each is a look-up in every candidate folder.
_PROBED = 20


class Annotated(NamedTuple):
    """An image and its boxes as a reader found them.

    Attributes:
        image_id: the number of the image.
        names: possible names of the file, relative to the folder; the first that exists
            is used.
        size: `(height, width)` according to the annotations, or None.
        boxes: the boxes, with ordered corners.
    """

    image_id: int
    names: tuple[str, ...]
    size: tuple[int, int] | None
    boxes: Boxes


class ImageFile(NamedTuple):
    """An image file that can be read.

    Attributes:
        path: the path of the file.
        header: the size and orientation of the image.
        truth: the annotations of the image.
    """

    path: pathlib.Path
    header: Header
    truth: GroundTruth


class FileSource(ImageSource):
    """A data set of image files.

    Args:
        files: the images, at least one.
        problems: the problems that the reader met.
    """

    def __init__(self, files: Sequence[ImageFile], problems: Problems) -> None:
        self.problems = problems
        self._files = files
        self.image_sizes = np.array([file.truth.size for file in files])
        self.num_boxes = np.array([len(file.truth.boxes) for file in files])

    def __len__(self) -> int:
        return len(self._files)

    def truth(self, row: int) -> GroundTruth:
        """The boxes of an image."""
        return self._files[row].truth

    def decode(self, row: int) -> Decoded:
        """The pixels of an image.

        Raises:
            ImageError: the file cannot be decoded.
        """
        path, header, _ = self._files[row]
        return decode_image(path, header)


def open_annotated(
    annotated: Sequence[Annotated],
    folders: Sequence[pathlib.Path],
    annotations: pathlib.Path,
    problems: Problems,
) -> FileSource:
    """Finds the files of annotated images, reads their headers and checks the boxes.

    Args:
        annotated: the images with their annotations.
        folders: the folders where the files may be. The folder that holds most of the
            probed files is used.
        annotations: the path of the annotations, for messages.
        problems: counts what is wrong.

    Raises:
        ValueError: no image can be read, or no image has an object.
    """
    # An image is left out if its file is missing or has no readable header.
    folder = _choose_folder(annotated, folders)
    found = _find_files(annotated, folder, problems)
    files: list[ImageFile] = []
    headers = read_headers([path for _, path in found])
    for (image, path), header in zip(found, headers, strict=True):
        name = path.resolve().relative_to(folder.root).as_posix()
        if isinstance(header, Problem):
            problems.add(header, name)
        else:
            truth = _check(image, header, name, problems)
            files.append(ImageFile(path, header, truth))
    if not files:
        raise ValueError(
            f"{annotations} needs its images, got none of {len(annotated)} that can be "
            f"read in {', '.join(map(str, folders))}. Name their folder with `images`."
            + _explained(problems)
        )
    if all(file.truth.is_ignored.all() for file in files):
        raise ValueError(
            f"{annotations} needs boxes of objects, got none in {len(files)} images."
            + _explained(problems)
        )
    return FileSource(files, problems)


def open_unannotated(paths: Sequence[pathlib.Path]) -> FileSource:
    """Opens images without annotations, to propose boxes for them.

    Args:
        paths: image files and folders. A folder stands for all images that lie directly
            in it, sorted by name.

    Returns:
        The images that can be read, numbered from 1, without boxes.

    Raises:
        ValueError: no image can be read.
    """
    problems = Problems()
    found: list[pathlib.Path] = []
    for path in paths:
        inside = list_images(path).values() if path.is_dir() else [[path]]
        found += itertools.chain.from_iterable(inside)
    files: list[ImageFile] = []
    for path, header in zip(found, read_headers(found), strict=True):
        if isinstance(header, Problem):
            problems.add(header, str(path))
        else:
            truth = _to_truth(len(files) + 1, header, NO_BOXES, path.name)
            files.append(ImageFile(path, header, truth))
    if not files:
        raise ValueError(
            f"Proposals need an image that can be read, got none of {len(found)} files "
            f"in {', '.join(map(str, paths))}.{_explained(problems)}"
        )
    return FileSource(files, problems)


def _choose_folder(
    annotated: Sequence[Annotated], folders: Sequence[pathlib.Path]
) -> ImageFolder:
    """The folder that holds most of the probed images; the first of several."""
    # The probed images are spread over the whole list, because a part of the images may
    # be absent.
    probed = annotated[:: max(len(annotated) // _PROBED, 1)]

    def number_found(folder: ImageFolder) -> int:
        return sum(_find(image, folder)[0] is not None for image in probed)

    return max(map(ImageFolder, folders), key=number_found)


def _find_files(
    annotated: Sequence[Annotated], folder: ImageFolder, problems: Problems
) -> list[tuple[Annotated, pathlib.Path]]:
    """The images whose file exists, with its path."""
    found = []
    for image in annotated:
        path, problem = _find(image, folder)
        if problem is not None:
            problems.add(problem, image.names[0])
        if path is not None:
            found.append((image, path))
    return found


def _find(
    image: Annotated, folder: ImageFolder
) -> tuple[pathlib.Path | None, Problem | None]:
    """Looks for the file by each possible name, and returns as `ImageFolder.find`."""
    results = [folder.find(name) for name in image.names]
    return next((result for result in results if result[0] is not None), results[0])


def _check(
    image: Annotated, header: Header, name: str, problems: Problems
) -> GroundTruth:
    """Applies the rules that need the image file."""
    boxes = fit_to_image(image.boxes, image.size, header, name, problems)
    problems.add(Problem.NO_BOX, name, int(boxes.is_ignored.all()))
    return _to_truth(image.image_id, header, boxes, name)


def _to_truth(image_id: int, header: Header, boxes: Boxes, name: str) -> GroundTruth:
    return GroundTruth(
        image_id=image_id,
        size=header.size,
        boxes=boxes.corners.astype(np.float32),
        is_ignored=boxes.is_ignored,
        areas=boxes.areas.astype(np.float32),
        name=name,
    )


def _explained(problems: Problems) -> str:
    """The problems as lines to append to an error message."""
    return "".join(f"\n  {line}" for line in problems.summary())
