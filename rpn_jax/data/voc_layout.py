"""Finds the annotation files and the image folders of a VOC data set.

Real sets have many layouts: `Annotations` beside `JPEGImages`, XML and images side by
side, a folder per split, or any of these in the only folder of an archive.
"""

import pathlib
from collections.abc import Iterator

from .file_names import EndIndex, entries, subfolders, walk
from .image_folder import ImageFolder, is_image_name
from .lfs import is_lfs_pointer
from .open_errors import folders_with_images
from .problems import Problem, Problems

_ANNOTATION_FOLDERS = ("annotations", "annots", "annotation", "xml", "xmls", "labels")
_IMAGE_FOLDERS = ("JPEGImages", "images", "image", "imgs", "img")
# Names of folders that hold a split, if there are no lists.
_SPLIT_FOLDERS = ("train", "training", "val", "valid", "validation", "test", "trainval")


class VocLayout:
    """Where the files of a data set are.

    Args:
        folder: the folder of the data set, or its folder of XML files.

    Attributes:
        root: the folder of the data set: `folder`, or the only folder in it.
        annotations: the folder that holds all XML files, at any depth.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self.root = _innermost(folder)
        self.annotations = _annotation_folder(self.root)
        self._lists = _lists(self.root)

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the lists, or of the folders of splits; there may be none."""
        return tuple(sorted(self._lists)) or tuple(sorted(self._split_folders()))

    def all_files(self) -> list[pathlib.Path]:
        """All annotation files, sorted by path."""
        return _xml_files(self.annotations)

    def files(self, split: str | None, problems: Problems) -> list[pathlib.Path]:
        """The annotation files of a split, or all of them.

        Args:
            split: a name in `splits`; None selects all files.
            problems: counts names in a list that have no annotation file.

        Raises:
            ValueError: there is no such split, or it is empty, or there is no XML.
        """
        files = self.all_files()
        if not files:
            raise ValueError(_no_xml(self.annotations))
        splits = self.splits
        if split is None or not splits:
            return files
        if split not in splits:
            raise ValueError(
                f"read_voc needs one of the splits {', '.join(splits)} of {self.root}, "
                f"got {split!r}."
            )
        if split not in self._lists:
            return _xml_files(self._split_folders()[split])
        names = _read_list(self._lists[split], splits)
        return _listed_files(names, EndIndex(self.annotations, files), problems)

    def image_folders(self) -> list[ImageFolder]:
        """The folders where the images may be, in the order of preference."""
        # The first candidate wins a tie, so VOC's layout comes before other layouts.
        usual, others = _IMAGE_FOLDERS[:2], _IMAGE_FOLDERS[2:]
        parent = self.root.parent
        folders = [
            *(self.root / name for name in usual),
            *(parent / name for name in usual),
            self.root,
            self.annotations,
            *(place / name for place in (self.root, parent) for name in others),
        ]
        # The parent may hold anything, so only images directly in it count.
        return [*map(ImageFolder, folders), ImageFolder(parent, deep=False)]

    def image_names(self, file: pathlib.Path, extension: str) -> list[str]:
        """Names that the image of an annotation file may have, the likeliest first.

        Args:
            file: the annotation file.
            extension: the extension of the image.
        """
        *folders, _ = file.relative_to(self.annotations).parts
        own = file.stem + extension
        variants = list(_image_paths(tuple(folders)))
        names = [pathlib.PurePath(*parts, own).as_posix() for parts in variants]
        return list(dict.fromkeys([*names, own]))

    def _split_folders(self) -> dict[str, pathlib.Path]:
        """The folders with XML files that are named like a split."""
        return {
            folder.name: folder
            for folder in subfolders(self.annotations)
            if folder.name.lower() in _SPLIT_FOLDERS and _has_xml(folder)
        }


def _image_paths(folders: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The folders of an XML file, and those with folders of images in their place."""
    yield folders
    for place, name in enumerate(folders):
        if name.lower() in _ANNOTATION_FOLDERS:
            before, after = folders[:place], folders[place + 1 :]
            yield from ((*before, images, *after) for images in _IMAGE_FOLDERS)
            yield (*before, *after)


def _innermost(folder: pathlib.Path) -> pathlib.Path:
    """The folder, or the only folder in it, as archives are often unpacked."""
    usual = (*_ANNOTATION_FOLDERS, *_SPLIT_FOLDERS)
    while True:
        inside = subfolders(folder)
        if len(inside) != 1 or inside[0].name.lower() in usual:
            return folder
        if any(map(_is_xml, entries(folder))) or not _has_xml(inside[0]):
            return folder
        folder = inside[0]


def _annotation_folder(root: pathlib.Path) -> pathlib.Path:
    """The folder with the usual name that holds XML files, else the root."""
    by_name = {folder.name.lower(): folder for folder in reversed(subfolders(root))}
    named = (by_name[name] for name in _ANNOTATION_FOLDERS if name in by_name)
    return next(filter(_has_xml, named), root)


def _lists(root: pathlib.Path) -> dict[str, pathlib.Path]:
    """The lists of images, by the names of their splits."""
    for place in ("ImageSets/Main", "ImageSets"):
        if found := {path.stem: path for path in (root / place).glob("*.txt")}:
            return found
    return {}


def _read_list(path: pathlib.Path, splits: tuple[str, ...]) -> list[str]:
    """The lines of a list that are not empty; a name that is not UTF-8 is kept."""
    if is_lfs_pointer(path):
        raise ValueError(
            f"read_voc needs a list of images, got a pointer of Git LFS in {path}. "
            "Fetch its content with `git lfs pull`."
        )
    text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
    lines = (line.strip("\0 \t\r") for line in text.splitlines())
    names = list(filter(str.strip, lines))  # a line may hold other blanks alone
    if not names:
        raise ValueError(
            f"read_voc needs the names of images in {path}, got an empty list. Fill "
            f"it, or choose another of the splits {', '.join(splits)}."
        )
    return names


def _listed_files(
    lines: list[str], index: EndIndex, problems: Problems
) -> list[pathlib.Path]:
    """The annotation files whose names are in a list, each once."""
    files: dict[pathlib.Path, None] = {}
    for line in lines:
        # The list of a class has a number after the name of the image. But a name may
        # hold spaces itself, so the whole line comes first. Some lists hold the names
        # of images or whole paths.
        names = list(_without_extension(line, line.rsplit(maxsplit=1)[0]))
        found = (index.find(f"{name}.xml") for name in names)
        path = next((path for path in found if path is not None), None)
        if path is None:
            leads_out = ".." in pathlib.PurePosixPath(line.replace("\\", "/")).parts
            problem = Problem.OUTSIDE_FOLDER if leads_out else Problem.MISSING_XML
            problems.add(problem, line)
        elif path in files:
            problems.add(Problem.REPEATED_IMAGE, line)
        else:
            files[path] = None
    return list(files)


def _without_extension(*names: str) -> Iterator[str]:
    """Every name, and then it without the extension of an image or of XML."""
    for name in names:
        yield name
        path = pathlib.PurePosixPath(name)
        if is_image_name(path) or _is_xml(path):
            yield name.removesuffix(path.suffix)


def _no_xml(folder: pathlib.Path) -> str:
    """The message that a folder has no XML, and what it has instead."""
    files = list(walk(folder))
    message = f"read_voc needs XML files in {folder}, got none"
    json_files = [str(path) for path in files if path.suffix.lower() == ".json"]
    if json_files:
        return (
            f"{message}, but {len(json_files)} JSON files. If one is a COCO file, name "
            f"it instead of the folder: {', '.join(json_files[:3])}."
        )
    images = folders_with_images(folder)
    if images:
        message += f", but images in {', '.join(images)}"
    return (
        f"{message}. Name the folder that holds them or their folder `Annotations`, "
        "and name the folder of the images with `images` if it is another."
    )


def _xml_files(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(filter(_is_xml, walk(folder)))


def _has_xml(folder: pathlib.Path) -> bool:
    return any(map(_is_xml, walk(folder)))


def _is_xml(path: pathlib.PurePath) -> bool:
    return path.suffix.lower() == ".xml"
