"""Converts decoded images of any mode to 8-bit RGB.

* Transparent images are laid on white.
* 16-bit grey values are divided by 257.
* Values of more bits are stretched from the lowest to the highest that is data: NaN,
  infinity and the marks of pixels without data do not count.
"""

import math
from collections.abc import Iterator

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image

_NODATA_TAG = 42113  # TIFF: GDAL writes the value of pixels without data as text
_LARGEST = 1e30  # mostly the limit of float32; no sensor measures such a value
# What tools write where there is no data, if they do not say so. The value has to be
# far from all others, because an elevation may be -999 as well.
_MARKS = (-999.0, -9999.0, -99999.0, -999999.0, -32767.0, -32768.0, -(2.0**31))
_BLOCK = 2**22  # values converted at a time, which bounds the memory


def to_rgb(image: Image.Image) -> Image.Image:
    """Converts an image of any mode to 8-bit RGB.

    Args:
        image: the decoded image.
    """
    # Pillow would drop the transparency, and clip values above 255, so images with
    # either are converted here.
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
    elif image.mode in ("I", "F"):
        image = Image.fromarray(_stretch(np.asarray(image), _declared_mark(image)))
    # `convert` would copy an image that is RGB already.
    return image if image.mode == "RGB" else image.convert("RGB")


def _declared_mark(image: Image.Image) -> float:
    """The value of pixels without data that a TIFF declares, or NaN."""
    tags = getattr(image, "tag_v2", {})
    try:
        return float(str(tags.get(_NODATA_TAG)).strip("\0 "))
    except ValueError:
        return math.nan


def _stretch(
    values: Shaped[np.ndarray, "h w"], mark: float
) -> UInt8[np.ndarray, "h w"]:
    """Maps the lowest value to 0 and the highest to 255; equal values become 0.

    Pixels without data become 0, like those below all data; infinity becomes 255.
    """
    lowest, highest = _limits(values, mark)
    span = max(highest - lowest, np.finfo(np.float64).tiny)
    pixels = np.zeros(values.shape, np.uint8)
    for rows in _blocks(values):
        part = np.asarray(values[rows], np.float64)
        with np.errstate(invalid="ignore", over="ignore"):
            shares = np.clip((part - lowest) / span, 0.0, 1.0)
        shares[np.isnan(part) | (part == mark)] = 0.0
        pixels[rows] = (255.0 * shares).astype(np.uint8)
    return pixels


def _limits(values: Shaped[np.ndarray, "h w"], mark: float) -> tuple[float, float]:
    """The lowest and the highest value that is data; zeros if there is none."""
    lowest, highest = _limits_above(-math.inf, values, mark)
    if lowest not in _MARKS:
        return lowest, highest
    # The mark of a tool is farther from the data than the data is wide.
    second, _ = _limits_above(lowest, values, mark)
    is_mark = lowest < highest and second - lowest > highest - second
    return (second if is_mark else lowest), highest


def _limits_above(
    floor: float, values: Shaped[np.ndarray, "h w"], mark: float
) -> tuple[float, float]:
    """The lowest and the highest value that is data and above a floor, or zeros."""
    found: list[float] = []
    for rows in _blocks(values):
        part = np.asarray(values[rows], np.float64)
        is_data = (np.abs(part) < _LARGEST) & (part > floor) & (part != mark)
        if is_data.any():
            found += [float(part[is_data].min()), float(part[is_data].max())]
    return (min(found), max(found)) if found else (0.0, 0.0)


def _blocks(values: Shaped[np.ndarray, "h w"]) -> Iterator[slice]:
    """Ranges of rows that have few enough values to be converted at a time."""
    rows = max(_BLOCK // max(values.shape[1], 1), 1)
    return (slice(first, first + rows) for first in range(0, len(values), rows))
