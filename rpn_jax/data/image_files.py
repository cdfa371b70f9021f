"""Reads image files of any format that Pillow knows.

The bytes of a file decide its format, not the name. The first of several frames is
read. Images are turned upright by their EXIF or TIFF orientation, and become 8-bit RGB
as `pixel_values.py` explains. A damaged image is used if at least half of its rows can
be decoded.
"""

import concurrent.futures
import pathlib
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageFile, JpegImagePlugin, TiffImagePlugin

from . import opencv
from .file_ends import ends_early
from .image_source import (
    Decoded,
    ImageError,
    ImageLibrary,
    OpenedImage,
    Pixels,
    size_of,
)
from .lfs import is_lfs_pointer
from .pixel_values import to_rgb
from .problems import Problem

_SCAN_THREADS = 8  # more than there may be cores, because they mostly wait for the disk
_UPRIGHT = {  # the operation that turns an image upright, by EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Pillow warns of odd metadata when it opens a file, but the metadata is not used here.
# Files are opened in threads, and a filter of warnings cannot be set for one thread, so
# this one is set for the process.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.\w+Plugin")


class Header(NamedTuple):
    """The size and orientation of an image file, which are known before decoding.

    Attributes:
        stored_size: `(height, width)` before the orientation is applied.
        orientation: EXIF or TIFF orientation, 1 to 8, where 1 is upright.
        damage: the problem that the end of the file is missing, or None.
    """

    stored_size: tuple[int, int]
    orientation: int
    damage: Problem | None = None

    @property
    def size(self) -> tuple[int, int]:
        """`(height, width)` of the upright image."""
        height, width = self.stored_size
        return (width, height) if self.orientation >= 5 else (height, width)


def read_headers(paths: Sequence[pathlib.Path]) -> list[Header | Problem]:
    """Reads the size and orientation of image files.

    Args:
        paths: the files.

    Returns:
        The header of each file, or the problem if it cannot be read.
    """
    threads = max(min(_SCAN_THREADS, len(paths)), 1)
    # The filter is set around all threads, because filters of warnings are global.
    with (
        warnings.catch_warnings(),
        concurrent.futures.ThreadPoolExecutor(threads) as pool,
    ):
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        return list(pool.map(_read_header, paths))


def decode_image(path: pathlib.Path, header: Header) -> Decoded:
    """Decodes an image file.

    Args:
        path: the file.
        header: the header that `read_headers` returned.

    Returns:
        The upright image in RGB.

    Raises:
        ImageError: the file cannot be decoded, or its size differs from `header`.
    """
    opened = open_image(path, header)
    return Decoded(np.asarray(opened.image), opened.truncated)


def open_image(
    path: pathlib.Path,
    header: Header,
    least: tuple[int, int] | None = None,
    library: ImageLibrary = "pillow",
) -> OpenedImage:
    """Decodes an image file, and leaves the pixels to the library that decoded them.

    A JPEG can be decoded at a half, a quarter or an eighth of its scale, which skips
    the arithmetic of the pixels that nobody needs.

    Args:
        path: the file.
        header: the header that `read_headers` returned.
        least: `(height, width)` that the upright result needs at least. A JPEG is then
            decoded at the smallest scale that keeps it. None decodes the original.
        library: `"opencv"` decodes upright JPEGs with OpenCV, to the same pixels. All
            other files are decoded by Pillow, and then become arrays.

    Raises:
        ImageError: the file cannot be decoded, or its size differs from `header`.
    """
    try:
        with Image.open(path) as image:
            reduction = _reduce(image, header, least)
            if library == "opencv":
                pixels, truncated = _decode_array(image, path, header, reduction)
            else:
                pixels, truncated = _decode(image, header)
        # Boxes and batch shapes rely on the header, so a file whose size has changed
        # since is rejected.
        expected = tuple(-(-side // reduction) for side in header.size)
        if size_of(pixels) != expected:
            raise ValueError("its size has changed")
    except Exception as error:  # damage raises errors of many classes in Pillow
        raise ImageError(f"Image {path} cannot be decoded: {error}") from error
    return OpenedImage(pixels, header.size, reduction, truncated)


def _decode(image: ImageFile.ImageFile, header: Header) -> tuple[Image.Image, bool]:
    """Decodes an open file with Pillow, and returns whether something is missing."""
    # A loaded TIFF has no orientation left, because Pillow has turned it.
    loaded, truncated = _load(image)
    is_turned = _orientation(image) == 1
    rgb = to_rgb(loaded)
    if header.orientation in _UPRIGHT and not is_turned:
        rgb = rgb.transpose(_UPRIGHT[header.orientation])
    return rgb, truncated


def _decode_array(
    image: ImageFile.ImageFile, path: pathlib.Path, header: Header, reduction: int
) -> tuple[Pixels, bool]:
    """Decodes with OpenCV what it decodes as Pillow does, and the rest with Pillow."""
    if _suits_opencv(image, header):
        pixels = opencv.decode_jpeg(path.read_bytes(), reduction)
        if pixels is not None:
            return pixels, False
    rgb, truncated = _decode(image, header)
    return np.asarray(rgb), truncated


def _suits_opencv(image: ImageFile.ImageFile, header: Header) -> bool:
    """Whether OpenCV decodes a file as Pillow does, if it is not damaged."""
    return (
        image.format == "JPEG"
        and image.mode in ("L", "RGB")
        and header.orientation == 1
    )


def _reduce(
    image: ImageFile.ImageFile, header: Header, least: tuple[int, int] | None
) -> int:
    """Lets a JPEG be decoded at a reduced scale; returns the divisor of its sides."""
    # A file whose size has changed since is decoded at full scale, and then rejected.
    has_changed = (image.height, image.width) != header.stored_size
    is_jpeg = isinstance(image, JpegImagePlugin.JpegImageFile)
    if least is None or not is_jpeg or has_changed:
        return 1
    height, width = least[::-1] if header.orientation >= 5 else least
    drafted = image.draft(None, (width, height))
    if drafted is None:
        return 1
    # The box of the original in pixels of the reduced image, which may be fractions.
    _, (_, _, right, _) = drafted
    return round(header.stored_size[1] / right)


def _read_header(path: pathlib.Path) -> Header | Problem:
    """Reads one header; a warning about too many pixels arrives as an error."""
    try:
        with Image.open(path) as image:
            header = _header_of(image)
            is_suspect = ends_early(image)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        return Problem.TOO_LARGE
    except Exception:  # damage raises errors of many classes in Pillow
        return Problem.LFS_POINTER if is_lfs_pointer(path) else Problem.BAD_FILE
    return header._replace(damage=_damage(path, header) if is_suspect else None)


def _header_of(image: ImageFile.ImageFile) -> Header:
    height, width = image.height, image.width
    orientation = _orientation(image)
    # Pillow already exchanges the sides of a TIFF that is stored on its side.
    if isinstance(image, TiffImagePlugin.TiffImageFile) and orientation >= 5:
        height, width = width, height
    return Header((height, width), orientation)


def _damage(path: pathlib.Path, header: Header) -> Problem | None:
    """What decoding shows about a file that seems to end early."""
    try:
        return Problem.TRUNCATED_FILE if decode_image(path, header).truncated else None
    except ImageError:
        return Problem.UNDECODABLE_FILE


def _orientation(image: ImageFile.ImageFile) -> int:
    """The EXIF or TIFF orientation; 1 if it is missing or invalid."""
    exif = Image.Exif()
    try:
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            orientation = image.tag_v2.get(ExifTags.Base.Orientation)
        else:
            # `getexif` would decode a whole PNG to look for it at the end.
            exif.load(image.info.get("exif", b""))
            orientation = exif.get(ExifTags.Base.Orientation)
        return orientation if orientation in _UPRIGHT else 1
    except Exception:  # damage raises errors of many classes
        return 1


def _load(image: ImageFile.ImageFile) -> tuple[Image.Image, bool]:
    """Decodes as much as possible, and returns whether something is missing.

    If the lower half is missing, the error of the decoder is raised.
    """
    try:
        image.load()
    except Exception:  # damage raises errors of many classes
        # With no tile left to decode, Pillow returns the pixels decoded so far. The
        # others are 0. A copy of a TIFF has the size of these pixels, even if it was to
        # be turned after decoding.
        image.tile = []
        image.load()
        is_tiff = isinstance(image, TiffImagePlugin.TiffImageFile)
        pixels = image.copy() if is_tiff else image
        half = pixels.crop((0, pixels.height // 2, pixels.width, pixels.height))
        if not np.asarray(half).any():
            raise
        return pixels, True
    return image, False
