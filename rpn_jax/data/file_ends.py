"""Tells from its last bytes whether an image file may have lost its end."""

import os
from collections.abc import Sequence
from typing import IO

from PIL import ExifTags, ImageFile, TiffImagePlugin

_TAIL = 4096  # bytes; what some cameras and tools append is usually shorter
_JPEG_END = b"\xff\xd9"
_END_MARKS = {"JPEG": _JPEG_END, "MPO": _JPEG_END, "PNG": b"IEND"}
# TIFF lists where its strips or tiles begin, and how long they are.
_OFFSETS = (ExifTags.Base.StripOffsets, ExifTags.Base.TileOffsets)
_LENGTHS = (ExifTags.Base.StripByteCounts, ExifTags.Base.TileByteCounts)


def ends_early(image: ImageFile.ImageFile) -> bool:
    """Whether a file seems to end before its image does.

    This reads the end of the file and decodes nothing. So it may be wrong about an
    intact file that ends in other bytes: only decoding is sure. Formats other than
    JPEG, PNG, GIF, WebP, BMP and TIFF never seem to end early.

    Args:
        image: an open image, which cannot be decoded after this.
    """
    file = image.fp
    if file is None:
        return False
    length = file.seek(0, os.SEEK_END)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return _last_byte(image) > length
    if image.format == "WEBP":
        return _number(file, 4) + 8 > length
    if image.format == "BMP":
        return _number(file, 2) > length
    file.seek(max(length - _TAIL, 0))
    tail = file.read(_TAIL)
    if image.format == "GIF":  # the mark is a single byte, which pixels hold too
        return not tail.rstrip(b"\0").endswith(b";")
    mark = _END_MARKS.get(image.format or "")
    return mark is not None and mark not in tail


def jpeg_ends_early(content: bytes) -> bool:
    """Whether a JPEG seems to end before its image does; see `ends_early`.

    Args:
        content: all bytes of the file.
    """
    return _JPEG_END not in content[-_TAIL:]


def _number(file: IO[bytes], offset: int) -> int:
    """The four bytes at an offset as a number; 0 if the file is shorter."""
    file.seek(offset)
    return int.from_bytes(file.read(4), "little")


def _last_byte(image: TiffImagePlugin.TiffImageFile) -> int:
    """The number of bytes that a TIFF needs for its strips or tiles."""
    ends = [0]
    for offset_tag, length_tag in zip(_OFFSETS, _LENGTHS, strict=True):
        offsets = _as_tuple(image.tag_v2.get(offset_tag))
        lengths = _as_tuple(image.tag_v2.get(length_tag))
        ends += [sum(pair) for pair in zip(offsets, lengths, strict=False)]
    return max(ends)


def _as_tuple(value: object) -> Sequence[int]:
    """The whole numbers in a tag, which may hold one, several or something else."""
    values = value if isinstance(value, tuple) else (value,)
    return [number for number in values if isinstance(number, int)]
