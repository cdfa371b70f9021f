"""Finds image files by the names that annotations give them.

A name is tried as it is written. If no file has it, the same name is tried in the other
Unicode form, percent-decoded, and with another case or extension. At last, a file below
the folder is taken whose path ends as the name does. Where several files fit, none is
taken.
"""

import functools
import pathlib
import re
import urllib.parse
from collections.abc import Iterator

from PIL import Image

from .file_names import EndIndex, compose, decode, fold, walk
from .problems import Problem

_URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)

# A file with the problem that its name has, or None with the reason.
Found = tuple[pathlib.Path | None, Problem | None]


class ImageFolder:
    """A folder of images. File names cannot lead out of it.

    Args:
        root: the folder. Links in it are followed only to places inside.
        deep: whether `find` may look in all folders below, and not in `root` alone, for
            a file that is not where its name says.
    """

    def __init__(self, root: pathlib.Path, *, deep: bool = True) -> None:
        self.root, self._deep = root.resolve(), deep
        self._listing = functools.cache(list_images)
        self._entries = functools.cache(_list_alike)

    def find(self, name: str, *, elsewhere: bool = True) -> Found:
        r"""Looks for an image file.

        Args:
            name: file name relative to the folder; `\` counts as `/`.
            elsewhere: whether a file in another place than named may be returned. The
                search lists all folders once.

        Returns:
            The file, or None if there is none; and the problem, or None if there is
            none. A file with another extension, case, spelling or folder than `name`
            is a problem, but is returned.
        """
        try:
            return self._find(name.replace("\\", "/"), elsewhere)
        except (OSError, ValueError, RuntimeError):  # no file can have this name
            return None, Problem.MISSING_FILE

    def _find(self, name: str, elsewhere: bool) -> Found:
        is_url = bool(_URL.match(name))
        if is_url:
            name = urllib.parse.urlsplit(name).path.lstrip("/")
        # The resolved path is checked first, because `..` or a link may lead out of
        # the folder. A file that exists there is meant, so nothing else is tried.
        path = self.root / name
        inside = self._is_inside(path)
        if not inside and path.exists():
            return None, Problem.OUTSIDE_FOLDER
        found = self._find_as_written(path, name) if inside else None
        if found is None and elsewhere:
            found = self._find_elsewhere(name)
        if found is not None:
            return found
        if is_url:
            return None, Problem.URL_NAME
        return None, Problem.MISSING_FILE if inside else Problem.OUTSIDE_FOLDER

    def _find_as_written(self, path: pathlib.Path, name: str) -> Found | None:
        """Looks in the named folder, for spellings that are ever less alike."""
        if path.is_file():
            return path, None
        # A whole path has no part that is looked up in this folder.
        for spelled in () if name.startswith("/") else self._spellings(name):
            if spelled.is_file() and self._is_inside(spelled):
                return spelled, Problem.OTHER_SPELLING
        # Images are often converted or renamed after annotation, so a file of the same
        # stem is accepted if there is only one.
        stems = {fold(path.stem), fold(urllib.parse.unquote(path.stem))}
        alike = [file for stem in stems for file in self._in_folder(path).get(stem, [])]
        if len(alike) == 1 and self._is_inside(alike[0]):
            return alike[0], Problem.RENAMED_FILE
        return None

    def _spellings(self, name: str) -> Iterator[pathlib.Path]:
        """Files whose names mean the same, with every part looked up by itself."""
        for key in (compose, decode):
            path: pathlib.Path | None = self.root
            for part in pathlib.PurePosixPath(key(name)).parts:
                path = self._look_up(path, part, key is decode) if path else None
            if path is not None:
                yield path

    def _look_up(
        self, folder: pathlib.Path, part: str, decoded: bool
    ) -> pathlib.Path | None:
        """The only entry of a folder that is spelled alike."""
        exact = folder / part
        if part == ".." or exact.exists():
            return exact
        alike = self._entries(folder, decoded).get(part, [])
        return alike[0] if len(alike) == 1 else None

    def _in_folder(self, path: pathlib.Path) -> dict[str, list[pathlib.Path]]:
        """The images beside a path, by their folded stems."""
        return self._listing(path.parent) if path.parent.is_dir() else {}

    def _find_elsewhere(self, name: str) -> Found | None:
        """Looks below the folder for the one file whose path ends as a name does."""
        file = self._index.find(name)
        if file is not None and self._is_inside(file):
            return file, Problem.MOVED_FILE
        return None

    @functools.cached_property
    def _index(self) -> EndIndex:
        try:
            paths = walk(self.root) if self._deep else sorted(self.root.iterdir())
            return EndIndex(self.root, [path for path in paths if is_image_name(path)])
        except (OSError, ValueError):  # no folder, or one of too many files
            return EndIndex(self.root, [])

    def _is_inside(self, path: pathlib.Path) -> bool:
        return path.resolve().is_relative_to(self.root)


def is_image_name(path: pathlib.PurePath) -> bool:
    """Whether a file has the extension of an image.

    Args:
        path: the name or path of the file.
    """
    return path.suffix.lower() in Image.registered_extensions()


def list_images(folder: pathlib.Path) -> dict[str, list[pathlib.Path]]:
    """Lists the files directly in a folder that have the extension of an image.

    Args:
        folder: the folder.

    Returns:
        The files, by their names in lower case and composed Unicode without the
        extension.
    """
    listing: dict[str, list[pathlib.Path]] = {}
    for path in sorted(folder.iterdir()):
        if is_image_name(path) and path.is_file():
            listing.setdefault(fold(path.stem), []).append(path)
    return listing


def _list_alike(folder: pathlib.Path, decoded: bool) -> dict[str, list[pathlib.Path]]:
    """All entries of a folder, by their composed and maybe percent-decoded names."""
    key = decode if decoded else compose
    entries: dict[str, list[pathlib.Path]] = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        entries.setdefault(key(path.name), []).append(path)
    return entries
