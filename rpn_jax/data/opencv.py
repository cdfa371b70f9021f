"""Decodes JPEGs and resizes images with OpenCV, which is faster than Pillow.

OpenCV is optional: its two packages for Python exclude each other, so the choice
between them is the user's.
"""

import functools
import importlib
from types import ModuleType

import numpy as np
from jaxtyping import UInt8

from .file_ends import jpeg_ends_early

# How OpenCV's flags name the divisors of a JPEG's sides.
_FLAGS = {
    1: "IMREAD_COLOR",
    2: "IMREAD_REDUCED_COLOR_2",
    4: "IMREAD_REDUCED_COLOR_4",
    8: "IMREAD_REDUCED_COLOR_8",
}


@functools.cache
def require_opencv() -> ModuleType:
    """Imports OpenCV, and lets each call of it compute in the thread that makes it.

    The threads of the pipeline share the cores already. OpenCV has one number of
    threads per process, so it is set for other users of OpenCV in the process too.

    Raises:
        ValueError: OpenCV is not installed.
    """
    try:
        cv2 = importlib.import_module("cv2")
    except ImportError as error:  # also if a library that OpenCV needs is missing
        raise ValueError(
            'PipelineConfig needs the package cv2 for image_library="opencv", and '
            f"importing it failed ({error}). Install opencv-python-headless, or choose "
            '"pillow".'
        ) from error
    cv2.setNumThreads(0)
    return cv2


def decode_jpeg(content: bytes, reduction: int) -> UInt8[np.ndarray, "h w 3"] | None:
    """Decodes a JPEG of one or three channels, as it is stored.

    Args:
        content: the bytes of the file.
        reduction: divisor of the sides: 1, 2, 4 or 8.

    Returns:
        RGB, or None if the file ends early or cannot be decoded.
    """
    # Not every version of OpenCV tells that the end of a file is missing.
    if jpeg_ends_early(content):
        return None
    cv2 = require_opencv()
    flags = getattr(cv2, _FLAGS[reduction]) | cv2.IMREAD_IGNORE_ORIENTATION
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    return None if pixels is None else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def resize(
    pixels: UInt8[np.ndarray, "h w 3"], size: tuple[int, int]
) -> UInt8[np.ndarray, "H W 3"]:
    """Resizes a whole image.

    Args:
        pixels: the image.
        size: `(width, height)` of the result.

    Returns:
        The image, by bilinear interpolation, or if neither side becomes longer, by the
        mean of the area that a new pixel covers.
    """
    cv2 = require_opencv()
    height, width = pixels.shape[:2]
    is_smaller = size[0] <= width and size[1] <= height
    method = cv2.INTER_AREA if is_smaller else cv2.INTER_LINEAR
    return cv2.resize(pixels, size, interpolation=method)


def mirror(pixels: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """Exchanges left and right."""
    return require_opencv().flip(pixels, 1)
