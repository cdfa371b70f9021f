"""Finds and reads image files of any format that Pillow knows.

The bytes of a file decide its format, not the name. The first of several frames is
read. Images are turned upright by their EXIF orientation, and become 8-bit RGB:

* transparent images are laid on white;
* 16-bit grey values are divided by 257;
* values of more bits are stretched from the lowest to the highest.

A damaged image is used if at least half of its rows can be decoded.
"""

import concurrent.futures
import functools
import pathlib
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import ExifTags, Image, ImageFile

from .image_source import Decoded, ImageError
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
        orientation: EXIF orientation, 1 to 8, where 1 is upright.
    """

    stored_size: tuple[int, int]
    orientation: int

    @property
    def size(self) -> tuple[int, int]:
        """`(height, width)` of the upright image."""
        height, width = self.stored_size
        return (width, height) if self.orientation >= 5 else (height, width)


class ImageFolder:
    """A folder of images. File names cannot lead out of it.

    Args:
        root: the folder. Links in it are followed only to places inside.
    """

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root.resolve()
        self._listing = functools.cache(list_images)

    def find(self, name: str) -> tuple[pathlib.Path | None, Problem | None]:
        r"""Looks for an image file.

        Args:
            name: file name relative to the folder; `\` counts as `/`.

        Returns:
            The file, or None if there is none; and the problem, or None if there is
            none. A file with another extension or case than `name` is a problem, but is
            returned.
        """
        try:
            # The resolved path is checked first, because `..` or a link may lead out of
            # the folder.
            path = self.root / name.replace("\\", "/")
            if not path.resolve().is_relative_to(self.root):
                return None, Problem.OUTSIDE_FOLDER
            if path.is_file():
                return path, None
            # Images are often converted or renamed after annotation, so a file of the
            # same stem is accepted if there is only one.
            alike = self._listing(path.parent).get(path.stem.casefold(), [])
            if len(alike) == 1 and alike[0].resolve().is_relative_to(self.root):
                return alike[0], Problem.RENAMED_FILE
        except (OSError, ValueError, RuntimeError):  # no file can have this name
            pass
        return None, Problem.MISSING_FILE


def list_images(folder: pathlib.Path) -> dict[str, list[pathlib.Path]]:
    """Lists the files directly in a folder that have the extension of an image.

    Args:
        folder: the folder.

    Returns:
        The files, by their names in lower case without the extension.
    """
    extensions = Image.registered_extensions()
    listing: dict[str, list[pathlib.Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in extensions and path.is_file():
            listing.setdefault(path.stem.casefold(), []).append(path)
    return listing


def read_headers(paths: Sequence[pathlib.Path]) -> list[Header | Problem]:
    """Reads the size and orientation of image files.

    Args:
        paths: the files.

    Returns:
        The header of each file, or the problem if it cannot be read.
    """
    # The filter is set around all threads, because filters of warnings are global.
    with (
        warnings.catch_warnings(),
        concurrent.futures.ThreadPoolExecutor(_SCAN_THREADS) as pool,
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
    try:
        # Boxes and batch shapes rely on the header, so a file whose size has changed
        # since is rejected.
        with Image.open(path) as image:
            truncated = _load(image)
            if (image.height, image.width) != header.stored_size:
                raise ValueError("its size has changed")
            rgb = _to_rgb(image)
        if header.orientation in _UPRIGHT:
            rgb = rgb.transpose(_UPRIGHT[header.orientation])
    except Exception as error:  # damage raises errors of many classes in Pillow
        raise ImageError(f"Image {path} cannot be decoded: {error}") from error
    return Decoded(np.asarray(rgb), truncated)


def _read_header(path: pathlib.Path) -> Header | Problem:
    """Reads one header; a warning about too many pixels arrives as an error."""
    try:
        with Image.open(path) as image:
            return Header((image.height, image.width), _orientation(image))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        return Problem.TOO_LARGE
    except Exception:  # damage raises errors of many classes in Pillow
        return Problem.BAD_FILE


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation; 1 if it is missing or invalid."""
    exif = Image.Exif()
    try:
        # `getexif` would decode a whole PNG to look for it at the end.
        exif.load(image.info.get("exif", b""))
        orientation = exif.get(ExifTags.Base.Orientation)
        return orientation if orientation in _UPRIGHT else 1
    except Exception:  # damage raises errors of many classes
        return 1


def _load(image: ImageFile.ImageFile) -> bool:
    """Decodes as much as possible, and returns whether something is missing.

    If the lower half is missing, the error of the decoder is raised.
    """
    try:
        image.load()
    except Exception:  # damage raises errors of many classes
        # With no tile left to decode, Pillow returns the pixels decoded so far. The
        # others are 0.
        image.tile = []
        image.load()
        lower_half = np.asarray(image)[image.height // 2 :]
        if not lower_half.any():
            raise
        return True
    return False


def _to_rgb(image: Image.Image) -> Image.Image:
    """Converts an image of any mode to 8-bit RGB."""
    # Pillow would drop the transparency, and clip values above 255, so images with
    # either are converted here.
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
    elif image.mode in ("I", "F"):
        image = Image.fromarray(_stretch(np.asarray(image)))
    return image.convert("RGB")


def _stretch(values: Shaped[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """Maps the lowest value to 0 and the highest to 255; equal values become 0."""
    values = np.nan_to_num(values.astype(np.float64))
    lowest, highest = values.min(), values.max()
    span = max(highest - lowest, np.finfo(np.float64).tiny)
    return (255.0 * ((values - lowest) / span)).astype(np.uint8)
