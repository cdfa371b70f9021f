"""The protocol that every data set follows: images, and the boxes of their objects."""

import types
from collections.abc import Collection, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image

from .problems import Problems

ENDLESS = 2**31 - 1  # the length of a source that has an image for every row
NO_CATEGORY = -1  # the number of a box whose category is not known

ImageLibrary = Literal["pillow", "opencv"]
Pixels = Image.Image | UInt8[np.ndarray, "h w 3"]  # upright RGB, held by either library


class GroundTruth(NamedTuple):
    """The annotations of one image, in pixels of the upright original.

    Attributes:
        image_id: the number that the annotations give to the image.
        size: `(height, width)` of the image.
        boxes: `[m, 4]` `(x0, y0, x1, y1)` of objects and of ignored regions.
        is_ignored: `[m]` whether a box is an ignored region instead of an object.
        areas: `[m]` area of the object's segmentation where it is known, otherwise of
            its box.
        name: the name of the file, for messages and pictures.
        categories: `[m]` number of each box's category, `NO_CATEGORY` where it is not
            known; None if the source has no categories.

    >>> boxes, no = np.array([[5.0, 6, 15, 26]]), np.array([False])
    >>> truth = GroundTruth(7, (40, 60), boxes, no, np.array([200.0]), "cat.jpg")
    >>> truth.in_categories([1]).tolist()
    [False]
    """

    image_id: int
    size: tuple[int, int]
    boxes: Float[np.ndarray, "m 4"]
    is_ignored: Bool[np.ndarray, " m"]
    areas: Float[np.ndarray, " m"]
    name: str
    categories: Int[np.ndarray, " m"] | None = None

    def in_categories(self, numbers: Collection[int]) -> Bool[np.ndarray, " m"]:
        """Which boxes are of some categories.

        Args:
            numbers: the numbers of the categories.
        """
        if self.categories is None:
            return np.zeros(len(self.boxes), bool)
        return np.isin(self.categories, list(numbers))


class Decoded(NamedTuple):
    """The pixels of one image.

    Attributes:
        pixels: `[h, w, 3]` upright RGB.
        truncated: whether the file is damaged, so that its lower pixels are missing.
    """

    pixels: UInt8[np.ndarray, "h w 3"]
    truncated: bool


class OpenedImage(NamedTuple):
    """A decoded image, held by the library that resizes it.

    Attributes:
        image: upright RGB: an image of Pillow, or an array for OpenCV.
        size: `(height, width)` of the upright original.
        reduction: pixels of the original per pixel of `image`, along each side: 1 for
            the original, or 2, 4 or 8 if it was decoded at a reduced scale. The last
            row and column may stand for fewer.
        truncated: whether the file is damaged, so that its lower pixels are missing.
    """

    image: Pixels
    size: tuple[int, int]
    reduction: int = 1
    truncated: bool = False


class ImageError(ValueError):
    """An image file cannot be read; the message says which and why."""


@runtime_checkable
class ImageSource(Protocol):
    """A data set: images in rows, which may be read in any order and by any thread.

    Attributes:
        problems: counts what the reader repaired or left out.
        image_sizes: `[n, 2]` `(height, width)` of every upright image.
        num_boxes: `[n]` number of boxes of every image, or an upper bound.
        categories: the names of categories by their numbers; empty if the source has
            none.
        left_out: the annotations of images whose file cannot be opened. They are no
            rows, so nothing trains on them, but their objects count in recall.
    """

    problems: Problems
    image_sizes: Int[np.ndarray, "n 2"]
    num_boxes: Int[np.ndarray, " n"]
    categories: Mapping[int, str] = types.MappingProxyType({})
    left_out: Sequence[GroundTruth] = ()

    def __len__(self) -> int:
        """Number of images, or `ENDLESS`."""
        ...

    def truth(self, row: int) -> GroundTruth:
        """The boxes of an image."""
        ...

    def decode(self, row: int) -> Decoded:
        """The pixels of an image, and whether they are complete.

        Raises:
            ImageError: the image cannot be decoded.
        """
        ...

    def pixels(self, row: int) -> UInt8[np.ndarray, "h w 3"]:
        """The pixels of an image.

        Raises:
            ImageError: the image cannot be decoded.
        """
        return self.decode(row).pixels

    def open_image(
        self,
        row: int,
        least: tuple[int, int] | None = None,
        library: ImageLibrary = "pillow",
    ) -> OpenedImage:
        """An image for the pipeline, which may be decoded at a reduced scale.

        By default it is the whole image, from `decode`.

        Args:
            row: row of the image.
            least: `(height, width)` that the decoded image needs at least, because it
                will be resized to that. None needs the original.
            library: the library that resizes the image.

        Raises:
            ImageError: the image cannot be decoded.
        """
        del least
        pixels, truncated = self.decode(row)
        height, width = pixels.shape[:2]
        image = pixels if library == "opencv" else Image.fromarray(pixels)
        return OpenedImage(image, (height, width), truncated=truncated)


def size_of(pixels: Pixels) -> tuple[int, int]:
    """`(height, width)` of an image of either library."""
    if isinstance(pixels, np.ndarray):
        return pixels.shape[:2]
    return pixels.height, pixels.width


def as_pillow(pixels: Pixels) -> Image.Image:
    """An image of either library as one of Pillow."""
    return Image.fromarray(pixels) if isinstance(pixels, np.ndarray) else pixels


def open_from(
    source: ImageSource,
    row: int,
    least: tuple[int, int] | None = None,
    library: ImageLibrary = "pillow",
) -> OpenedImage:
    """`source.open_image`, also of a source of another class that only has `decode`.

    Args:
        source: the images.
        row: row of the image.
        least: `(height, width)` that the decoded image needs at least; None needs the
            original.
        library: the library that resizes the image.
    """
    # A source of one's own need not know of any library but Pillow.
    chosen: dict[str, ImageLibrary] = (
        {} if library == "pillow" else {"library": library}
    )
    if hasattr(source, "open_image"):
        return source.open_image(row, least, **chosen)
    return ImageSource.open_image(source, row, least, **chosen)


def all_truths(source: ImageSource) -> list[GroundTruth]:
    """The annotations of all images; those that cannot be opened come last.

    Args:
        source: a data set that is not endless.
    """
    return [source.truth(row) for row in range(len(source))] + list(source.left_out)


def is_endless(source: ImageSource) -> bool:
    """Whether a source has an image for every row, so that no epoch ends.

    >>> from rpn_jax.data import Scenes
    >>> is_endless(Scenes()), is_endless(Scenes(num_images=5))
    (True, False)
    """
    return len(source) >= ENDLESS
