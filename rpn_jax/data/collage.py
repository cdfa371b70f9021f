"""Images laid on a canvas, and what a window shows of them and of their boxes.

A crop, a larger canvas, a mosaic and a pasted object are all collages: rectangles of
images, each with a place, where later ones hide earlier ones. So every pixel is
resized once, and one rule says what happens to every box:

* A box becomes the bounding box of its visible part.
* An object stays an object if at least `min_visibility` of its box is visible. The
  default of 0.25 is the least that SSD keeps, which asks for the centre of the box
  ("SSD: Single Shot MultiBox Detector" by Liu et al.,
  https://arxiv.org/abs/1512.02325).
* An object of which less is visible becomes an ignored region, as the "reasonable"
  setting of CityPersons ignores persons that are mostly hidden ("CityPersons" by Zhang
  et al., https://arxiv.org/abs/1702.05693). SSD drops it, which makes background of the
  part that can still be seen.
* A box of which nothing is visible is left out, and so is one of less than
  `min_visibility` that is less than a pixel wide or high.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from PIL import Image

from . import opencv
from .image_source import OpenedImage, Pixels, as_pillow, size_of
from .visible import visible_parts

# The mean colour of ImageNet, as torchvision's reference scripts fill a canvas.
FILL = (123, 117, 104)

Rect = Float[np.ndarray, "4"]  # `(x0, y0, x1, y1)`


class Labels(NamedTuple):
    """The boxes of an image.

    Attributes:
        boxes: `[m, 4]` `(x0, y0, x1, y1)` of objects and of ignored regions.
        is_ignored: `[m]` whether a box is an ignored region instead of an object.
        categories: `[m]` number of each box's category.
    """

    boxes: Float[np.ndarray, "m 4"]
    is_ignored: Bool[np.ndarray, " m"]
    categories: Int[np.ndarray, " m"]


class Picture(NamedTuple):
    """An image with its boxes.

    Attributes:
        opened: the image. If it was decoded at a reduced scale, it stands for the
            original all the same.
        labels: the boxes in pixels of the original.
    """

    opened: OpenedImage
    labels: Labels

    @property
    def size(self) -> tuple[int, int]:
        """`(height, width)` of the original."""
        return self.opened.size


class Part(NamedTuple):
    """A rectangle of a picture, and its place in a collage.

    Attributes:
        picture: the picture.
        shown: the rectangle in pixels of the picture.
        place: the rectangle in the collage that `shown` fills.
    """

    picture: Picture
    shown: Rect
    place: Rect


class Collage(NamedTuple):
    """Parts of pictures on a canvas without borders.

    Attributes:
        parts: the parts, of which later ones hide earlier ones.
        window: the rectangle of the canvas that is seen, with corners in whole numbers.
    """

    parts: tuple[Part, ...]
    window: Rect

    @property
    def size(self) -> Int[np.ndarray, "2"]:
        """`(height, width)` of the window."""
        x0, y0, x1, y1 = self.window.astype(np.int64)
        return np.array([y1 - y0, x1 - x0])

    @property
    def is_whole(self) -> bool:
        """Whether this is one picture, of which all is seen."""
        part = self.parts[0]
        same = np.array_equal(part.shown, part.place)
        return len(self.parts) == 1 and same and np.array_equal(part.place, self.window)


class Carried(NamedTuple):
    """The boxes that a collage shows.

    Attributes:
        labels: the boxes of all parts, in their order.
        num_cut: number of objects that became ignored regions.
        num_hidden: number of boxes in the shown parts of pictures that were left out.
    """

    labels: Labels
    num_cut: int
    num_hidden: int


class _Placed(NamedTuple):
    """A part on the resized window: `x * factor + offset` maps its pixels.

    `rect` is the rectangle in whole pixels that the part fills; it may be empty.
    """

    part: Part
    factor: Float[np.ndarray, "2"]
    offset: Float[np.ndarray, "2"]
    rect: Rect

    @property
    def is_empty(self) -> bool:
        x0, y0, x1, y1 = self.rect
        return bool(x1 <= x0 or y1 <= y0)


def whole(picture: Picture) -> Collage:
    """A picture by itself."""
    rect = rect_of_size(picture.size)
    return Collage((Part(picture, rect, rect),), rect)


def rect_of_size(size: tuple[int, ...]) -> Rect:
    """The rectangle of an image of `(height, width)`."""
    height, width = size
    return np.array([0.0, 0.0, width, height])


def paint(collage: Collage, size: tuple[int, int]) -> Pixels:
    """Draws what the window shows.

    Pillow resizes with its bilinear filter. When it makes an image smaller, the filter
    averages over all original pixels that a new pixel covers. OpenCV resizes a whole
    picture that is an array.

    Args:
        collage: the pictures.
        size: `(height, width)` of the result.

    Returns:
        The image. Where there is no picture, it has the colour `FILL`.
    """
    all_placed = _place_all(collage, size)
    if collage.is_whole:
        return _resized(all_placed[0], (size[1], size[0]))
    image = Image.new("RGB", (size[1], size[0]), FILL)
    for placed in all_placed:
        if placed.is_empty:
            continue
        x0, y0, x1, y1 = placed.rect.astype(np.int64).tolist()
        part = as_pillow(_resized(placed, (x1 - x0, y1 - y0)))
        image.paste(part, (x0, y0))
    return image


def carry(collage: Collage, size: tuple[int, int], min_visibility: float) -> Carried:
    """Finds the boxes that the window shows.

    Args:
        collage: the pictures.
        size: `(height, width)` of the result.
        min_visibility: the least visible share of an object's box.

    Returns:
        The boxes in pixels of the result. If the collage is one whole picture, all its
        boxes stay as they are, even thin ones and ones beyond the image.
    """
    all_placed = _place_all(collage, size)
    if collage.is_whole:
        labels = all_placed[0].part.picture.labels
        return Carried(labels._replace(boxes=_mapped(all_placed[0])), 0, 0)
    found: list[Labels] = []
    num_cut = num_hidden = 0
    for number, placed in enumerate(all_placed):
        labels, shown = placed.part.picture.labels, placed.part.shown
        covers = np.array([x.rect for x in all_placed[number + 1 :] if not x.is_empty])
        boxes, shares = visible_parts(
            _mapped(placed), placed.rect, covers.reshape(-1, 4)
        )
        _, in_shown = visible_parts(labels.boxes, shown, np.zeros((0, 4)))
        is_wide = (boxes[:, 2:] - boxes[:, :2] >= 1.0).all(axis=1)
        is_seen = (shares > 0.0) & (is_wide | (shares >= min_visibility))
        is_cut = is_seen & ~labels.is_ignored & (shares < min_visibility)
        num_cut += int(is_cut.sum())
        num_hidden += int((~is_seen & (in_shown > 0.0)).sum())
        labels = Labels(boxes, labels.is_ignored | is_cut, labels.categories)
        found.append(Labels(*(column[is_seen] for column in labels)))
    columns = map(np.concatenate, zip(*found, strict=True))
    return Carried(Labels(*columns), num_cut, num_hidden)


def _place_all(collage: Collage, size: tuple[int, int]) -> list[_Placed]:
    """The parts on a window that is resized to `(height, width)`."""
    to = np.array(size[::-1], np.float64)
    window = collage.window
    sides = window[2:] - window[:2]
    limits = np.tile(to, 2)
    all_placed = []
    for part in collage.parts:
        # The product comes before the quotient, so that edges on the border of the
        # window stay there to the bit.
        target = (part.place - np.tile(window[:2], 2)) * limits / np.tile(sides, 2)
        factor = (target[2:] - target[:2]) / (part.shown[2:] - part.shown[:2])
        offset = target[:2] - part.shown[:2] * factor
        rect = np.rint(np.clip(target, 0.0, limits))
        all_placed.append(_Placed(part, factor, offset, rect))
    return all_placed


def _mapped(placed: _Placed) -> Float[np.ndarray, "m 4"]:
    """The boxes of a part's picture, in pixels of the result."""
    boxes = placed.part.picture.labels.boxes.astype(np.float64)
    return boxes * np.tile(placed.factor, 2) + np.tile(placed.offset, 2)


def _resized(placed: _Placed, size: tuple[int, int]) -> Pixels:
    """What a part shows in its rectangle, which has `(width, height)`."""
    opened, shown = placed.part.picture.opened, placed.part.shown
    # The rectangle was rounded and clipped, so what it shows of the picture was too.
    source = (placed.rect - np.tile(placed.offset, 2)) / np.tile(placed.factor, 2)
    source = np.clip(source, np.tile(shown[:2], 2), np.tile(shown[2:], 2))
    x0, y0, x1, y1 = (source / opened.reduction).tolist()
    height, width = size_of(opened.image)
    if (x0, y0, x1, y1) == (0, 0, width, height):
        if size == (width, height):
            return opened.image
        if isinstance(opened.image, np.ndarray):
            return opencv.resize(opened.image, size)
    # OpenCV has no fractions of pixels at the borders of what it resizes.
    return as_pillow(opened.image).resize(
        size, Image.Resampling.BILINEAR, box=(x0, y0, x1, y1), reducing_gap=2.0
    )
