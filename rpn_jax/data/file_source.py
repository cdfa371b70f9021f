"""A data set of image files, from what a reader found in the annotations.

Boxes are taken to lie in the upright image. Only if the annotated size is that of the
image as it is stored, and not of the upright one, they are turned with it. Where the
annotated size is neither, the file is right, and the coordinates count as its pixels.
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

_PROBED = 20  # images by which the folder is chosen


class Annotated(NamedTuple):
    """An image and its boxes as a reader found them.

    Attributes:
        image_id: the number of the image.
        names: of its file, relative to the folder; the first that is there counts.
        size: `(height, width)` that the annotations claim, or None.
        boxes: with ordered corners.
    """

    image_id: int
    names: tuple[str, ...]
    size: tuple[int, int] | None
    boxes: Boxes


class ImageFile(NamedTuple):
    """An image file that can be read.

    Attributes:
        path: where it is.
        header: its size and orientation.
        truth: its boxes.
    """

    path: pathlib.Path
    header: Header
    truth: GroundTruth


class FileSource(ImageSource):
    """A data set of image files.

    Args:
        files: the images, at least one.
        problems: what the reader met.
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
        annotated: the images.
        folders: where the files may be; the one that has most of them is taken.
        annotations: what was read, for messages.
        problems: counts what is wrong.

    Raises:
        ValueError: there is no image, or no object in all of them.
    """
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
    if all(file.truth.is_crowd.all() for file in files):
        raise ValueError(
            f"{annotations} needs boxes of objects, got none in {len(files)} images."
            + _explained(problems)
        )
    return FileSource(files, problems)


def open_unannotated(paths: Sequence[pathlib.Path]) -> FileSource:
    """Images without annotations, to propose boxes for.

    Args:
        paths: image files, or folders, of which all images count that lie directly in
            them, by name.

    Returns:
        The images that can be read, numbered from 1, without boxes.

    Raises:
        ValueError: there is none.
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
    probed = annotated[:: max(len(annotated) // _PROBED, 1)]

    def number_found(folder: ImageFolder) -> int:
        return sum(_find(image, folder)[0] is not None for image in probed)

    return max(map(ImageFolder, folders), key=number_found)


def _find_files(
    annotated: Sequence[Annotated], folder: ImageFolder, problems: Problems
) -> list[tuple[Annotated, pathlib.Path]]:
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
    results = [folder.find(name) for name in image.names]
    return next((result for result in results if result[0] is not None), results[0])


def _check(
    image: Annotated, header: Header, name: str, problems: Problems
) -> GroundTruth:
    boxes = fit_to_image(image.boxes, image.size, header, name, problems)
    problems.add(Problem.NO_BOX, name, int(boxes.is_crowd.all()))
    return _to_truth(image.image_id, header, boxes, name)


def _to_truth(image_id: int, header: Header, boxes: Boxes, name: str) -> GroundTruth:
    return GroundTruth(
        image_id=image_id,
        size=header.size,
        boxes=boxes.corners.astype(np.float32),
        is_crowd=boxes.is_crowd,
        areas=boxes.areas.astype(np.float32),
        name=name,
    )


def _explained(problems: Problems) -> str:
    return "".join(f"\n  {line}" for line in problems.summary())
