"""What a reader of annotations hands over: images, the names of their files, boxes."""

from typing import NamedTuple

from .box_rules import Boxes


class Annotated(NamedTuple):
    """An image and its boxes as a reader found them.

    Attributes:
        image_id: the number of the image.
        names: possible names of the file, relative to the folder; the first that exists
            is used.
        size: `(height, width)` according to the annotations, or None.
        boxes: the boxes, with ordered corners.
        is_fraction: whether the boxes are fractions of the upright image instead of
            pixels.
    """

    image_id: int
    names: tuple[str, ...]
    size: tuple[int, int] | None
    boxes: Boxes
    is_fraction: bool = False
