"""Finds and reads image files, whatever is in them.

The bytes of a file decide its format, not the name. Images are turned upright by their
EXIF orientation and become 8-bit RGB: transparent ones are laid on white, 16-bit grey
values are divided by 257, and values of more bits are stretched from the lowest to the
highest. Of several frames the first is read. Damaged data is used if at least half of
the rows could be decoded.
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

_SCAN_THREADS = 8  # they wait for the disk most of the time
_UPRIGHT = {  # by EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Pillow warns of odd metadata, which is not used here, when it opens a file. That is in
# threads, and filters of warnings cannot be set for a thread alone.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.\w+Plugin")


class Header(NamedTuple):
    """What is known of an image file without decoding it.

    Attributes:
        stored_size: `(height, width)` before the orientation is applied.
        orientation: of EXIF, 1 to 8, where 1 is upright.
    """

    stored_size: tuple[int, int]
    orientation: int

    @property
    def size(self) -> tuple[int, int]:
        """`(height, width)` of the upright image."""
        height, width = self.stored_size
        return (width, height) if self.orientation >= 5 else (height, width)


class ImageFolder:
    """A folder of images that file names cannot lead out of.

    Args:
        root: the folder. Links in it are followed only to places inside.
    """

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root.resolve()
        self._listing = functools.cache(list_images)

    def find(self, name: str) -> tuple[pathlib.Path | None, Problem | None]:
        r"""Looks for an image file.

        Args:
            name: relative to the folder; `\` counts as `/`.

        Returns:
            The file, and whether it has another extension or case than `name`; or
            None, and why.
        """
        try:
            path = self.root / name.replace("\\", "/")
            if not path.resolve().is_relative_to(self.root):
                return None, Problem.OUTSIDE_FOLDER
            if path.is_file():
                return path, None
            alike = self._listing(path.parent).get(path.stem.casefold(), [])
            if len(alike) == 1 and alike[0].resolve().is_relative_to(self.root):
                return alike[0], Problem.RENAMED_FILE
        except (OSError, ValueError, RuntimeError):  # no name that a file could have
            pass
        return None, Problem.MISSING_FILE


def list_images(folder: pathlib.Path) -> dict[str, list[pathlib.Path]]:
    """The images directly in a folder, whatever their bytes may be.

    Args:
        folder: where to look.

    Returns:
        The files by their names without extension, in lower case.
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
        For each the header, or why there is none.
    """
    # Set here, around all threads, because filters of warnings are global.
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
        header: what `read_headers` found.

    Returns:
        The upright image in RGB.

    Raises:
        ImageError: the file cannot be decoded, or is no longer what `header` says.
    """
    try:
        with Image.open(path) as image:
            truncated = _load(image)
            if (image.height, image.width) != header.stored_size:
                raise ValueError("its size has changed")
            rgb = _to_rgb(image)
        if header.orientation in _UPRIGHT:
            rgb = rgb.transpose(_UPRIGHT[header.orientation])
    except Exception as error:  # Pillow has no common class for what damage can cause
        raise ImageError(f"Image {path} cannot be decoded: {error}") from error
    return Decoded(np.asarray(rgb), truncated)


def _read_header(path: pathlib.Path) -> Header | Problem:
    try:
        with Image.open(path) as image:
            return Header((image.height, image.width), _orientation(image))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        return Problem.TOO_LARGE
    except Exception:  # Pillow has no common class for what damage can cause
        return Problem.BAD_FILE


def _orientation(image: Image.Image) -> int:
    """What EXIF says, or 1."""
    exif = Image.Exif()
    try:
        # `getexif` would decode a whole PNG to look for it at the end.
        exif.load(image.info.get("exif", b""))
        orientation = exif.get(ExifTags.Base.Orientation)
        return orientation if orientation in _UPRIGHT else 1
    except Exception:  # as above
        return 1


def _load(image: ImageFile.ImageFile) -> bool:
    """Decodes as much as possible; whether something is missing."""
    try:
        image.load()
    except Exception:  # as above
        # Without anything left to decode, what there is counts as loaded.
        image.tile = []
        image.load()
        lower_half = np.asarray(image)[image.height // 2 :]
        if not lower_half.any():
            raise
        return True
    return False


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
    elif image.mode in ("I", "F"):
        image = Image.fromarray(_stretch(np.asarray(image)))
    return image.convert("RGB")


def _stretch(values: Shaped[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    values = np.nan_to_num(values.astype(np.float64))
    lowest, highest = values.min(), values.max()
    span = max(highest - lowest, np.finfo(np.float64).tiny)
    return (255.0 * ((values - lowest) / span)).astype(np.uint8)
