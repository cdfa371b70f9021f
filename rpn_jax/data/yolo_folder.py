"""Recognizes the folder of a YOLO data set, and what lies in it.

Archives are unpacked in many ways, so the only folder in a folder stands for it.
"""

import pathlib

from .file_names import entries, fold, subfolders, walk
from .image_folder import is_image_name
from .yolo_labels import IMAGE_FOLDERS, image_folders, is_label_name
from .yolo_yaml import SPLIT_NAMES, describes_data_set

_YAML = (".yaml", ".yml")
_USUAL_FILES = tuple(n + e for n in ("data", "dataset") for e in _YAML)
_USUAL_FOLDERS = (*IMAGE_FOLDERS, "labels", *SPLIT_NAMES)
# Files of labelImg, Label Studio and darknet with a name of a class in every line.
_NAMES_FILES = ("classes.txt", "labels/classes.txt", "obj.names", "classes.names")


def is_yolo(path: pathlib.Path) -> bool:
    """Whether a file or folder holds a YOLO data set, by its content.

    A file does if it is YAML that describes a data set, or has the extension of YAML.
    A folder does if it has such a file, or text files that are labels by their names
    and no XML.

    Args:
        path: the file or folder.
    """
    if path.is_file():
        return path.suffix.lower() in _YAML or _is_other_yaml(path)
    root = innermost(path)
    return bool(_yaml_files(root)) or _has_labels(root)


def folder_sources(root: pathlib.Path) -> dict[str, list[pathlib.Path]]:
    """The lists, or the folders, that are named like a split.

    Args:
        root: the folder of the data set.
    """
    lists = {
        path.stem: [path]
        for path in entries(root)
        if path.suffix.lower() == ".txt" and path.stem.lower() in SPLIT_NAMES
    }
    if lists:
        return lists
    for place in (image_folder(root), root):
        folders = {
            path.name: [path]
            for path in subfolders(place)
            if path.name.lower() in SPLIT_NAMES and any(map(is_image_name, walk(path)))
        }
        if folders:
            return folders
    return {}


def image_folder(root: pathlib.Path) -> pathlib.Path:
    """The folder with a usual name that holds images, or else the root.

    Args:
        root: the folder of the data set.
    """
    named = (path for path in subfolders(root) if path.name.lower() in IMAGE_FOLDERS)
    return next(named, root)


def innermost(folder: pathlib.Path) -> pathlib.Path:
    """The folder, or the only folder in it, as archives are often unpacked.

    Args:
        folder: the folder.
    """
    while True:
        inside = subfolders(folder)
        if len(inside) != 1 or inside[0].name.lower() in _USUAL_FOLDERS:
            return folder
        own = entries(folder)
        if any(is_image_name(x) or x.suffix.lower() in _YAML for x in own):
            return folder
        folder = inside[0]


def find_yaml(folder: pathlib.Path) -> pathlib.Path | None:
    """The file that describes the data set, or None.

    Args:
        folder: the folder of the data set.

    Raises:
        ValueError: several files do, and none has the usual name.
    """
    files = _yaml_files(folder)
    usual = [path for path in files if path.name.lower() in _USUAL_FILES]
    files = usual or files
    if len(files) > 1:
        raise ValueError(
            f"read_yolo needs one file that describes the data set in {folder}, got "
            f"{', '.join(path.name for path in files)}. Name one of them."
        )
    return files[0] if files else None


def _yaml_files(folder: pathlib.Path) -> list[pathlib.Path]:
    """The YAML files that have the usual name or describe a data set."""
    found = [path for path in entries(folder) if path.suffix.lower() in _YAML]
    return [p for p in found if p.name.lower() in _USUAL_FILES or describes_data_set(p)]


def _is_other_yaml(path: pathlib.Path) -> bool:
    """Whether a file that is not JSON describes a data set."""
    with path.open("rb") as file:
        begin = file.read(64).lstrip(b"\xef\xbb\xbf\xff\xfe\0 \r\n\t")
    return not begin.startswith((b"{", b"[", b"<")) and describes_data_set(path)


def _has_labels(root: pathlib.Path) -> bool:
    """Whether a folder has a text file named like an image, and no XML."""
    images, labels = set(), []
    for path in walk(root):
        if path.suffix.lower() == ".xml":
            return False
        if is_image_name(path):
            images.add((path.parent, fold(path.stem)))
        elif is_label_name(path):
            labels.append(path)
    return any(
        (folder, fold(label.stem)) in images
        for label in labels
        for folder in image_folders(label.parent)
    )


def is_generic(name: str) -> bool:
    """Whether a folder of this name may hold the images of all splits.

    Args:
        name: the name.
    """
    return name.lower() in IMAGE_FOLDERS


def is_names_file(path: pathlib.PurePath) -> bool:
    """Whether a text file lists the names of classes, and is no label file.

    Args:
        path: the name or path of the file.
    """
    return path.name in _NAMES_FILES


def read_names(folder: pathlib.Path) -> dict[int, str]:
    """The names of classes in a file that labelling tools write, if there is one.

    Args:
        folder: the folder of the data set.
    """
    path = next(filter(pathlib.Path.is_file, (folder / n for n in _NAMES_FILES)), None)
    if path is None:
        return {}
    lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    return {i: line.strip() for i, line in enumerate(lines) if line.strip()}
