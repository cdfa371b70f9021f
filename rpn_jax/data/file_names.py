"""Compares file names that are spelled in different ways, and lists files."""

import os
import pathlib
import unicodedata
import urllib.parse
from collections.abc import Iterator, Sequence

# Listing more entries takes too long: the folder is hardly one of a data set.
_MOST_ENTRIES = 2_000_000


class EndIndex:
    """Files of a folder by the ends of their paths, without extension and case.

    Args:
        root: the folder.
        files: files at any depth below it.
    """

    def __init__(self, root: pathlib.Path, files: Sequence[pathlib.Path]) -> None:
        self._files: dict[str, list[tuple[tuple[str, ...], pathlib.Path]]] = {}
        for file in files:
            parts = name_parts(file.relative_to(root).as_posix())
            if parts:
                self._files.setdefault(_stem(parts), []).append((parts, file))

    def find(self, name: str) -> pathlib.Path | None:
        """The one file whose path ends as a name does; None if there are several.

        Either path may have more folders in front. But two paths that name different
        folders are different files, even if their last parts agree.

        Args:
            name: the name, whose folders and percent-encoding may differ.
        """
        wanted = name_parts(name)
        alike = self._files.get(_stem(wanted), []) if wanted else []
        shared = [_shared_end(wanted, parts) for parts, _ in alike]
        best = max(shared, default=0)
        found = [a for a, n in zip(alike, shared, strict=True) if n == best > 0]
        exact = [a for a in found if a[0][-1] == wanted[-1]]
        found = exact if len(exact) == 1 else found
        return found[0][1] if len(found) == 1 else None


def walk(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """All files below a folder, sorted within each folder.

    Links to folders are not followed. Folders and files whose names begin with a dot
    are left out, and so is `__MACOSX`: they hold no data of the user.

    Args:
        folder: the folder.

    Raises:
        ValueError: there are too many files.
    """
    seen = 0
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(
            name for name in folders if name[0] != "." and name != "__MACOSX"
        )
        yield from (pathlib.Path(place, f) for f in sorted(files) if f[0] != ".")
        seen += len(folders) + len(files)
        if seen > _MOST_ENTRIES:
            raise ValueError(
                f"A data set needs a folder of at most {_MOST_ENTRIES:,} files, got "
                f"more in {folder}. Name the folder of the data set itself."
            )


def entries(folder: pathlib.Path) -> list[pathlib.Path]:
    """The files and folders in a folder, sorted; none if it is no folder.

    Args:
        folder: the folder.
    """
    return sorted(folder.iterdir()) if folder.is_dir() else []


def subfolders(folder: pathlib.Path) -> list[pathlib.Path]:
    """The folders in a folder that `walk` would enter, sorted.

    Args:
        folder: the folder.
    """
    return [
        path
        for path in entries(folder)
        if path.is_dir() and path.name[0] != "." and path.name != "__MACOSX"
    ]


def name_parts(name: str) -> tuple[str, ...]:
    r"""The decoded parts of a file name, without those that lead nowhere or upwards.

    Args:
        name: the name; `\` counts as `/`.
    """
    parts = pathlib.PurePosixPath(decode(name.replace("\\", "/"))).parts
    return tuple(part for part in parts if part not in ("/", "//", ".."))


def compose(name: str) -> str:
    """A name in composed Unicode.

    Args:
        name: the name.
    """
    return unicodedata.normalize("NFC", name)


def decode(name: str) -> str:
    """A name in composed Unicode without percent-encoding and spaces around it.

    Args:
        name: the name; encoded bytes that are not UTF-8 become surrogates.
    """
    return compose(urllib.parse.unquote(name.strip(), errors="surrogateescape"))


def fold(name: str) -> str:
    """A name in composed Unicode that is equal for both cases.

    Args:
        name: the name.
    """
    return compose(name).casefold()


def _stem(parts: tuple[str, ...]) -> str:
    """The folded last part without its extension."""
    return fold(pathlib.PurePosixPath(parts[-1]).stem)


def _shared_end(wanted: tuple[str, ...], parts: tuple[str, ...]) -> int:
    """The length of the shorter path if the longer one ends with it, otherwise 0."""
    length = min(len(wanted), len(parts))
    ends = [(*map(fold, path[-length:-1]), _stem(path)) for path in (wanted, parts)]
    return length if ends[0] == ends[1] else 0
