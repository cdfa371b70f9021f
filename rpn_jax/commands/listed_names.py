"""Names that tell images apart, although folders may hold files of equal names."""

import collections
import os
import pathlib
from collections.abc import Iterable, Sequence

from ..data import ImageSource, Problem
from ..data.image_files import read_headers


def names_of_files(source: ImageSource, paths: Sequence[pathlib.Path]) -> list[str]:
    """The name of every image for a list of images.

    Args:
        source: images of `open_unannotated`.
        paths: the files and folders that were given to `open_unannotated`.

    Returns:
        The names of the files. If several images share a name, every name is instead
        the path from the folder that holds all images, so that COCO's tools find them.
    """
    names = [source.truth(row).name for row in range(len(source))]
    if len(set(names)) == len(names):
        return names
    # Images that share a name come in the order of the paths that they were found in.
    files = {
        name: iter(_readable(name, number, paths))
        for name, number in collections.Counter(names).items()
    }
    return _relative([next(files[name], pathlib.Path(name)) for name in names])


def _readable(
    name: str, number: int, paths: Sequence[pathlib.Path]
) -> list[pathlib.Path]:
    """The `number` files of a name, in the order of the paths that hold them."""
    files = [path / name if path.is_dir() else path for path in paths]
    found = [file for file in files if file.name == name and file.is_file()]
    # Headers are read again only if some file of this name was left out.
    if len(found) > number:
        headers = read_headers(found)
        found = [
            path
            for path, header in zip(found, headers, strict=True)
            if not isinstance(header, Problem)
        ]
    return found


def _relative(files: Iterable[pathlib.Path]) -> list[str]:
    """The paths of files from the folder that holds all of them."""
    absolute = [os.path.abspath(file) for file in files]
    try:
        root = os.path.commonpath([os.path.dirname(path) for path in absolute])
    except ValueError:  # several drives of Windows
        return [pathlib.Path(path).as_posix() for path in absolute]
    return [pathlib.Path(path).relative_to(root).as_posix() for path in absolute]
