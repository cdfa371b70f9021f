"""Reads annotations in PASCAL VOC's XML format.

Coordinates in the files name 1-based pixels, and a box includes its last pixel. So 1 is
subtracted from `xmin` and `ymin`. An object with `difficult` 1 becomes an ignored
region. XML entities are not expanded. `Problem` lists the other rules.
"""

import math
import pathlib
import xml.etree.ElementTree as ElementTree

import defusedxml.ElementTree
import numpy as np

from .box_rules import Boxes, drop_unreadable, order_corners
from .file_source import Annotated, FileSource, open_annotated
from .image_files import ImageFolder
from .problems import Problem, Problems


def read_voc(
    folder: str | pathlib.Path,
    split: str | None = None,
    images: str | pathlib.Path | None = None,
) -> FileSource:
    """Opens a data set in PASCAL VOC's format.

    Args:
        folder: the folder that holds the XML files, or their folder `Annotations`.
        split: selects the images listed in `ImageSets/Main/<split>.txt`. None selects
            all images, and so does a folder without such lists.
        images: the folder of the images. None looks for `JPEGImages` and `images` in
            the folder and beside it, and in the folders of XML files, and uses the one
            that has the images.

    Returns:
        The images in the order of the list, or sorted by name, numbered from 1.

    Raises:
        ValueError: there is no XML file or no such split, or no image or no object is
            found.
    """
    root = pathlib.Path(folder)
    problems = Problems()
    files = _list_files(root, split, problems)
    parsed = [(file, _parse(file, problems)) for file in files]
    # Damaged files count too, so that repairing one does not change the numbers of
    # other images.
    annotated = [
        _read_image(number, file, tree, problems)
        for number, (file, tree) in enumerate(parsed, start=1)
        if tree is not None
    ]
    # The first candidate wins a tie, so the layout of VOC comes before other layouts.
    candidates = [
        root / "JPEGImages",
        root / "images",
        root.parent / "JPEGImages",
        root.parent / "images",
        root,
        _annotation_folder(root),
    ]
    folders = candidates if images is None else [pathlib.Path(images)]
    return open_annotated(annotated, folders, root, problems)


def voc_splits(folder: str | pathlib.Path) -> tuple[str, ...]:
    """Lists the possible values of `split` in `read_voc`; there may be none.

    Args:
        folder: the folder of the data set.
    """
    lists = pathlib.Path(folder).glob("ImageSets/Main/*.txt")
    return tuple(sorted(path.stem for path in lists))


def _annotation_folder(root: pathlib.Path) -> pathlib.Path:
    """The folder that holds the XML files: `Annotations` if it exists, else `root`."""
    names = ("Annotations", "annotations")
    return next((root / name for name in names if (root / name).is_dir()), root)


def _list_files(
    root: pathlib.Path, split: str | None, problems: Problems
) -> list[pathlib.Path]:
    """The annotation files of a split, or all of them."""
    folder = _annotation_folder(root)
    splits = voc_splits(root)
    if split is None or not splits:
        files = sorted(folder.glob("*.xml"))
        if not files:
            raise ValueError(
                f"read_voc needs XML files in {folder}, got none. Name the folder that "
                "holds them or their folder `Annotations`."
            )
        return files
    if split not in splits:
        raise ValueError(
            f"read_voc needs one of the splits {', '.join(splits)} of {root}, got "
            f"{split!r}."
        )
    text = (root / f"ImageSets/Main/{split}.txt").read_text(
        encoding="utf-8-sig", errors="replace"
    )
    return _listed_files(text, ImageFolder(folder), problems)


def _listed_files(
    text: str, folder: ImageFolder, problems: Problems
) -> list[pathlib.Path]:
    """The annotation files whose names are in a list, each once."""
    files: dict[pathlib.Path, None] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        # The list of a class has a number after the name of the image. But a name may
        # hold spaces itself, so the whole line comes first.
        names = [line, line.rsplit(maxsplit=1)[0]]
        found = [folder.find(f"{name}.xml") for name in names]
        path, problem = next((f for f in found if f[0] is not None), found[0])
        if path is None:
            outside = problem is Problem.OUTSIDE_FOLDER
            problems.add(problem if outside else Problem.MISSING_XML, line)
        elif path in files:
            problems.add(Problem.REPEATED_IMAGE, line)
        else:
            files[path] = None
    return list(files)


def _parse(file: pathlib.Path, problems: Problems) -> ElementTree.Element | None:
    """The root element of an annotation file, or None if it is not usable."""
    try:
        root = defusedxml.ElementTree.parse(file).getroot()
    except (ElementTree.ParseError, ValueError, LookupError, OSError):
        root = None
    if root is None or root.tag != "annotation":
        problems.add(Problem.BAD_XML, file.name)
        return None
    return root


def _read_image(
    number: int, file: pathlib.Path, root: ElementTree.Element, problems: Problems
) -> Annotated:
    """Reads the annotations of one image.

    An annotation file has the name of its image. That name comes before the element
    `filename`, which is often outdated.
    """
    filename = (root.findtext("filename") or "").strip()
    extension = pathlib.PurePath(filename).suffix or ".jpg"
    own_name = file.stem + extension
    height, width = (_to_float(root, f"size/{side}") for side in ("height", "width"))
    known = math.isfinite(height + width)
    return Annotated(
        image_id=number,
        names=(own_name, filename) if filename else (own_name,),
        size=(int(height), int(width)) if known else None,
        boxes=_read_boxes(root.findall("object"), own_name, problems),
    )


def _read_boxes(
    objects: list[ElementTree.Element], where: str, problems: Problems
) -> Boxes:
    """Reads the boxes of one image, and applies the rules that need no image file."""
    sides = ("xmin", "ymin", "xmax", "ymax")
    names = [item.findtext("name") for item in objects]
    corners = [[_to_float(i, f"bndbox/{side}") for side in sides] for i in objects]
    boxes = Boxes(
        corners=np.array(corners).reshape(-1, 4),
        is_ignored=np.array([_to_float(i, "difficult") == 1.0 for i in objects], bool),
        areas=np.zeros(len(objects)),
        categories=np.array([names.index(name) for name in names], float),
    )
    # Corners are ordered before the shift, because only the upper left corner moves.
    boxes = order_corners(drop_unreadable(boxes, where, problems), where, problems)
    return boxes._replace(corners=boxes.corners - (1.0, 1.0, 0.0, 0.0))


def _to_float(element: ElementTree.Element, path: str) -> float:
    """The number in a child element, or NaN."""
    try:
        return float(element.findtext(path) or "nan")
    except ValueError:
        return math.nan
