"""Finds the splits and the images of a YOLO data set.

A `data.yaml` names the folders or lists of images of every split. Without one, lists
such as `train.txt` and folders such as `train` or `images/train` are the splits.
"""

import os
import pathlib
from collections.abc import Iterator, Sequence

from .file_names import name_parts, walk
from .image_folder import ImageFolder, is_image_name
from .lfs import is_lfs_pointer
from .open_errors import folders_with_images
from .problems import Problem, Problems
from .yolo_folder import (
    find_yaml,
    folder_sources,
    image_folder,
    innermost,
    is_generic,
    read_names,
)
from .yolo_yaml import DataYaml, read_data_yaml


class YoloLayout:
    """Where the images of a data set are, and what its classes are called.

    Args:
        path: the `data.yaml`, or the folder of the data set.
        images: the folder that the paths in `data.yaml` are relative to; None uses its
            `path`, or its own folder.
        problems: counts what differs from what `data.yaml` says.

    Attributes:
        origin: the `data.yaml`, or the folder if there is none.
        data: the content of the `data.yaml`, or what the folder says instead.

    Raises:
        ValueError: the `data.yaml` cannot be read, or there are several.
    """

    def __init__(
        self, path: pathlib.Path, images: pathlib.Path | None, problems: Problems
    ) -> None:
        found = path if path.is_file() else find_yaml(innermost(path))
        folder = found.parent if found else innermost(path)
        self.origin = found or folder
        self.data = read_data_yaml(found, problems) if found else DataYaml()
        if not self.data.names:
            names = read_names(folder)
            number = max(self.data.num_classes, len(names))
            self.data = self.data._replace(names=names, num_classes=number)
        self._bases = [images] if images else self._find_bases(folder, problems)
        if self.data.splits:
            self._sources = self._named_sources(problems)
        else:
            self._sources = folder_sources(self._bases[0])

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits that exist; there may be none."""
        return tuple(sorted(self._sources))

    def sources(self, split: str | None, problems: Problems) -> list[pathlib.Path]:
        """The folders and lists of the images of a split, or of all splits.

        Args:
            split: a name in `splits`; None selects all. Without splits it is ignored.
            problems: counts a split that has the same images as another.

        Raises:
            ValueError: there is no such split, or none of them exists.
        """
        if not self._sources and self.data.splits:
            missing = sorted(
                {path for paths in self.data.splits.values() for path in paths}
            )
            raise ValueError(
                f"read_yolo needs the folders or lists of {self.origin}, got none of "
                f"{', '.join(missing)} in {', '.join(map(str, self._bases))}. Correct "
                "`path` in the file, or name the folder with `images`."
            )
        if not self._sources:
            return [image_folder(self._bases[0])]
        if split is None:
            return list(dict.fromkeys(p for ps in self._sources.values() for p in ps))
        if split not in self._sources:
            raise ValueError(
                f"read_yolo needs one of the splits {', '.join(self.splits)} of "
                f"{self.origin}, got {split!r}."
            )
        own = self._sources[split]
        same = [name for name in self.splits if self._sources[name] == own]
        if len(same) > 1:
            problems.add(Problem.SAME_SPLIT, " and ".join(same))
        return own

    def image_folder(self, sources: Sequence[pathlib.Path]) -> ImageFolder:
        """The folder that names of images are relative to.

        Args:
            sources: folders and lists of images.
        """
        base = self._bases[0].resolve()
        folders = [path if path.is_dir() else path.parent for path in sources]
        resolved = [folder.resolve() for folder in folders]
        if all(folder.is_relative_to(base) for folder in resolved):
            return ImageFolder(base)
        # A folder above several may hold anything, so it is not searched.
        return ImageFolder(pathlib.Path(os.path.commonpath(resolved)), deep=False)

    def images(
        self,
        sources: Sequence[pathlib.Path],
        folder: ImageFolder,
        problems: Problems,
    ) -> dict[str, pathlib.Path]:
        """The image files of folders and lists, each once.

        Args:
            sources: the folders, whose images at any depth count, and the lists.
            folder: the folder that may not be left.
            problems: counts images that are listed and not found.

        Returns:
            The files by their names relative to `folder`.

        Raises:
            ValueError: there is no image.
        """
        files: dict[str, pathlib.Path] = {}
        for source in sources:
            listed = _in_folder if source.is_dir() else _in_list
            for name, file in listed(source, folder, problems):
                problems.add(Problem.REPEATED_IMAGE, name, int(name in files))
                files.setdefault(name, file)
        if files:
            return files
        seen = folders_with_images(self._bases[0])
        hint = f" Images were seen in {', '.join(seen)}." if seen else ""
        raise ValueError(
            "read_yolo needs images, got none that exist in "
            f"{', '.join(map(str, sources))}. Correct the paths in {self.origin}, or "
            f"name the folder that they are relative to with `images`.{hint}"
        )

    def _find_bases(
        self, folder: pathlib.Path, problems: Problems
    ) -> list[pathlib.Path]:
        """The folders that paths may be relative to, in the order of preference."""
        if not self.data.path:
            return [folder]
        path = pathlib.Path(self.data.path.replace("\\", "/"))
        # Ultralytics begins at the working directory or at a folder of its own.
        found = next(filter(_exists, (folder / path, path)), None)
        if found is None:
            problems.add(Problem.OTHER_PATH, self.data.path)
            return [folder]
        return list(dict.fromkeys([found, folder]))

    def _named_sources(self, problems: Problems) -> dict[str, list[pathlib.Path]]:
        """The folders and lists that `data.yaml` names, as far as they exist."""
        sources: dict[str, list[pathlib.Path]] = {}
        for split, paths in self.data.splits.items():
            found = [self._find(path, problems) for path in paths]
            existing = [path for path in found if path is not None]
            problems.add(Problem.MISSING_SPLIT, split, len(found) - len(existing))
            if existing:
                sources[split] = existing
        return sources

    def _find(self, text: str, problems: Problems) -> pathlib.Path | None:
        """The folder or list that a path means."""
        text = text.replace("\\", "/")
        as_written = [base / text for base in self._bases]
        if path := next(filter(_exists, as_written), None):
            return path
        # A path of another machine, or `../` too many, may end in the right folders.
        # `images` alone may hold several splits.
        parts = name_parts(text)
        ends = [parts[begin:] for begin in range(len(parts))]
        if parts and is_generic(parts[-1]):
            ends.pop()
        moved = (base.joinpath(*end) for end in ends for base in self._bases)
        path = next(filter(_exists, moved), None)
        if path is not None:
            problems.add(Problem.OTHER_PATH, text)
        return path


def _in_folder(
    source: pathlib.Path, folder: ImageFolder, problems: Problems
) -> Iterator[tuple[str, pathlib.Path]]:
    """The names and the paths of the images at any depth in a folder."""
    root = source.resolve().relative_to(folder.root)
    for path in filter(is_image_name, walk(source)):
        yield (root / path.relative_to(source)).as_posix(), path


def _in_list(
    source: pathlib.Path, folder: ImageFolder, problems: Problems
) -> Iterator[tuple[str, pathlib.Path]]:
    """The names and the paths of the images in a list."""
    if is_lfs_pointer(source):
        raise ValueError(
            f"read_yolo needs a list of images, got a pointer of Git LFS in {source}. "
            "Fetch its content with `git lfs pull`."
        )
    text = source.read_text(encoding="utf-8-sig", errors="surrogateescape")
    for line in filter(None, (line.strip("\0 \t\r") for line in text.splitlines())):
        # A name is relative to the list or to the folder of the data set.
        beside = source.parent / line.replace("\\", "/")
        name = beside.resolve().as_posix() if _exists(beside) else line
        path, problem = folder.find(name)
        if problem is not None:
            problems.add(problem, line)
        if path is not None:
            path = path if path.is_relative_to(folder.root) else path.resolve()
            yield path.relative_to(folder.root).as_posix(), path


def _exists(path: pathlib.Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # no file can have this name
        return False
