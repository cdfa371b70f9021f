"""A data set of image files, made from the annotations that a reader found.

The annotated size of an image decides what its boxes mean. If it is the size of the
upright image, the boxes are pixels of that image. If it is only the size of the stored
image, the boxes are turned with the image. If it is neither, the file's size is used,
and the boxes are pixels of the upright image. Fractions are always of the upright one.
"""

import itertools
import pathlib
import types
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from .annotated import Annotated
from .box_rules import NO_BOXES, Boxes, fit_to_image, in_pixels, join
from .image_claims import choose_folder, find_files
from .image_files import Header, decode_image, open_image, read_headers
from .image_folder import ImageFolder, list_images
from .image_source import (
    NO_CATEGORY,
    Decoded,
    GroundTruth,
    ImageLibrary,
    ImageSource,
    OpenedImage,
)
from .open_errors import explained, no_object, none_readable
from .problems import Problem, Problems

_LARGEST_NUMBER = 2.0**53  # several whole numbers become one float beyond this


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
        categories: the names of categories by their numbers.
        left_out: the annotations of images whose file cannot be opened.
    """

    def __init__(
        self,
        files: Sequence[ImageFile],
        problems: Problems,
        categories: Mapping[int, str] = types.MappingProxyType({}),
        left_out: Sequence[GroundTruth] = (),
    ) -> None:
        self.problems, self.categories = problems, dict(categories)
        self.left_out = left_out
        self._files = files
        self.image_sizes = np.array([file.truth.size for file in files])
        self.num_boxes = np.array([len(file.truth.boxes) for file in files])

    def __len__(self) -> int:
        return len(self._files)

    def truth(self, row: int) -> GroundTruth:
        """The boxes of an image."""
        return self._files[row].truth

    def path(self, row: int) -> pathlib.Path:
        """The file of an image."""
        return self._files[row].path

    def decode(self, row: int) -> Decoded:
        """The pixels of an image.

        Raises:
            ImageError: the file cannot be decoded.
        """
        path, header, _ = self._files[row]
        return decode_image(path, header)

    def open_image(
        self,
        row: int,
        least: tuple[int, int] | None = None,
        library: ImageLibrary = "pillow",
    ) -> OpenedImage:
        """An image; a JPEG is decoded at the smallest scale that `least` allows."""
        path, header, _ = self._files[row]
        return open_image(path, header, least, library)


def open_annotated(
    annotated: Sequence[Annotated],
    folders: Sequence[ImageFolder],
    annotations: pathlib.Path,
    problems: Problems,
    categories: Mapping[int, str],
) -> FileSource:
    """Finds the files of annotated images, reads their headers and checks the boxes.

    Args:
        annotated: the images with their annotations.
        folders: the folders where the files may be. The folder that holds most of the
            probed files is used.
        annotations: the path of the annotations, for messages.
        problems: counts what is wrong.
        categories: the names of categories by their numbers.

    Raises:
        ValueError: no image can be read, or no image has an object.
    """
    # An image is left out if its file is missing or has no readable header.
    folder = choose_folder(annotated, folders)
    found = find_files(annotated, folder, problems)
    files: list[ImageFile] = []
    left_out: list[GroundTruth] = []
    headers = read_headers([path for path, _ in found])
    for (path, images), header in zip(found, headers, strict=True):
        name = path.resolve().relative_to(folder.root).as_posix()
        if isinstance(header, Problem):
            lost = sum(len(image.boxes.corners) for image in images)
            problems.add(header, name, boxes=lost)
            left_out += _check_without_file(images, name)
        else:
            truth = _check(images, header, name, problems)
            files.append(ImageFile(path, header, truth))
    if not files:
        raise ValueError(none_readable(annotations, annotated, folders, problems))
    if all(file.truth.is_ignored.all() for file in files):
        raise ValueError(no_object(annotations, files, problems))
    return FileSource(files, problems, categories, left_out)


def open_unannotated(paths: Sequence[pathlib.Path]) -> FileSource:
    """Opens images without annotations, to propose boxes for them.

    Args:
        paths: image files and folders. A folder stands for all images that lie directly
            in it, sorted by name.

    Returns:
        The images that can be read, numbered from 1, without boxes.

    Raises:
        ValueError: no image can be read.

    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "photo.png"
    ...     Image.new("RGB", (60, 40)).save(path)
    ...     open_unannotated([path]).truth(0).size
    (40, 60)
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
            if header.damage is not None:
                problems.add(header.damage, str(path))
            truth = _to_truth(len(files) + 1, header, NO_BOXES, path.name)
            files.append(ImageFile(path, header, truth))
    if not files:
        raise ValueError(
            f"Proposals need an image that can be read, got none of {len(found)} files "
            f"in {', '.join(map(str, paths))}.{explained(problems)}"
        )
    return FileSource(files, problems)


def _check(
    images: Sequence[Annotated], header: Header, name: str, problems: Problems
) -> GroundTruth:
    """Applies the rules that need the image file, to all images that name it."""
    found = [
        in_pixels(image.boxes, header.size) if image.is_fraction else image.boxes
        for image in images
    ]
    fitted = [
        fit_to_image(boxes, image.size, header, name, problems)
        for boxes, image in zip(found, images, strict=True)
    ]
    boxes = fitted[0] if len(fitted) == 1 else join(fitted, name, problems)
    problems.add(Problem.NO_BOX, name, int(boxes.is_ignored.all()))
    if header.damage is not None:
        problems.add(header.damage, name)
    return _to_truth(images[0].image_id, header, boxes, name)


def _check_without_file(images: Sequence[Annotated], name: str) -> list[GroundTruth]:
    """The annotations of an image that cannot be opened, if they have its size."""
    sizes = [image.size for image in images if image.size and min(image.size) > 0]
    return [_check(images, Header(size, 1), name, Problems()) for size in sizes[:1]]


def _to_truth(image_id: int, header: Header, boxes: Boxes, name: str) -> GroundTruth:
    return GroundTruth(
        image_id=image_id,
        size=header.size,
        boxes=boxes.corners.astype(np.float32),
        is_ignored=boxes.is_ignored,
        areas=boxes.areas.astype(np.float32),
        name=name,
        categories=_whole(boxes.categories),
    )


def _whole(numbers: Float[np.ndarray, " m"]) -> Int[np.ndarray, " m"]:
    """Numbers of categories; those that are no whole numbers become `NO_CATEGORY`."""
    is_whole = (np.abs(numbers) < _LARGEST_NUMBER) & (np.rint(numbers) == numbers)
    return np.where(is_whole, numbers, NO_CATEGORY).astype(np.int64)
