"""Parts of a page: tables and pictures."""

import base64
import io
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

_PICTURE_SIDE = 1400  # longest side of a picture that is no photo, in pixels


class Table(NamedTuple):
    """A table of texts; the first cell of each row is its heading.

    >>> Table("Recall", ["limit", "AR"], [["100", "0.5"]]).rows
    [['100', '0.5']]
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


class Picture(NamedTuple):
    """A picture inside the page.

    Attributes:
        source: the picture as a `data:` URL.
        text: what it shows, for who cannot see it.
    """

    source: str
    text: str


def jpeg_url(image: Image.Image, side: int, quality: int = 80) -> str:
    """An image as a `data:` URL, in JPEG.

    Args:
        image: the image.
        side: the longest side of the result in pixels; smaller images keep their size.
        quality: JPEG's quality, up to 95.
    """
    small = image.convert("RGB")
    small.thumbnail((side, side))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=quality, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def pixels_url(pixels: UInt8[np.ndarray, "h w 3"], side: int) -> str:
    """An image of pixels as `jpeg_url` gives it."""
    return jpeg_url(Image.fromarray(pixels), side)


def read_picture(path: pathlib.Path, text: str) -> Picture | None:
    """A picture of a run's folder, or None if it was not drawn.

    Args:
        path: the file.
        text: what the picture shows.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "labels.png"
    ...     Image.new("RGB", (60, 40)).save(path)
    ...     read_picture(path, "Labels of anchors.").source[:23]
    'data:image/jpeg;base64,'
    """
    if not path.exists():
        return None
    with Image.open(path) as image:
        return Picture(jpeg_url(image, _PICTURE_SIDE, 88), text)
