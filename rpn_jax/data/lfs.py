"""Recognizes files whose content Git LFS has not fetched."""

import pathlib

_BEGIN = b"version https://git-lfs.github.com/spec/"


def is_lfs_pointer(path: pathlib.Path) -> bool:
    """Whether a file holds a pointer of Git LFS instead of its content.

    Args:
        path: the file; False if it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(len(_BEGIN)) == _BEGIN
    except (OSError, ValueError):
        return False
