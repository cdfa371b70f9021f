"""Names that tell images apart, although folders may hold files of equal names."""

import os
import pathlib
from collections.abc import Iterable

from ..data.file_source import FileSource


def names_of_files(source: FileSource) -> list[str]:
    """The name of every image for a list of images.

    Args:
        source: the images.

    Returns:
        The names of the files. If several images share a name, every name is instead
        the path from the folder that holds all images, so that COCO's tools find them.
    """
    rows = range(len(source))
    names = [source.truth(row).name for row in rows]
    if len(set(names)) == len(names):
        return names
    return _relative([source.path(row) for row in rows])


def _relative(files: Iterable[pathlib.Path]) -> list[str]:
    """The paths of files from the folder that holds all of them."""
    absolute = [os.path.abspath(file) for file in files]
    try:
        root = os.path.commonpath([os.path.dirname(path) for path in absolute])
    except ValueError:  # several drives of Windows
        return [pathlib.Path(path).as_posix() for path in absolute]
    return [pathlib.Path(path).relative_to(root).as_posix() for path in absolute]
