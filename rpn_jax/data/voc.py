"""Reads annotations in PASCAL VOC's XML format.

Coordinates in the files name 1-based pixels, and a box includes its last pixel. So 1 is
subtracted from `xmin` and `ymin`, unless the boxes of the set begin at 0. An object
with `difficult` 1 becomes an ignored region. XML entities are not expanded. `Problem`
lists the other rules.
"""

import math
import pathlib
import xml.etree.ElementTree as ElementTree
import zlib
from collections.abc import Sequence

import numpy as np

from .annotated import Annotated
from .box_rules import Boxes, drop_unreadable, order_corners
from .file_source import FileSource, open_annotated
from .image_folder import ImageFolder, is_image_name
from .image_source import NO_CATEGORY
from .loose_values import is_true, to_corners, to_float
from .problems import Problem, Problems
from .voc_layout import VocLayout
from .voc_origin import counts_from_zero
from .xml_files import parse_xml


def read_voc(
    folder: str | pathlib.Path,
    split: str | None = None,
    images: str | pathlib.Path | None = None,
) -> FileSource:
    """Opens a data set in PASCAL VOC's format.

    Args:
        folder: the folder that holds the XML files at any depth, or their folder
            `Annotations`.
        split: selects the images listed in `ImageSets/Main/<split>.txt`, or without
            lists those in a folder of this name, such as `train`. None selects all
            images, and so does a folder without lists and such folders.
        images: the folder of the images. None looks for `JPEGImages`, `images` and the
            like in the folder and beside it, and in the folders of XML files, and uses
            the one that has the images.

    Returns:
        The images in the order of the list, or sorted by name, numbered from 1.

    Raises:
        ValueError: there is no XML file or no such split, or no image or no object is
            found.

    >>> import tempfile
    >>> from PIL import Image
    >>> box = "<xmin>1</xmin><ymin>1</ymin><xmax>20</xmax><ymax>30</ymax>"
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder)
    ...     Image.new("RGB", (60, 40)).save(path / "cat.png")
    ...     _ = (path / "cat.xml").write_text(
    ...         "<annotation><filename>cat.png</filename><object><name>cat</name>"
    ...         f"<bndbox>{box}</bndbox></object></annotation>"
    ...     )
    ...     read_voc(path).truth(0).boxes.tolist()
    [[0.0, 0.0, 20.0, 30.0]]
    """
    layout, problems = VocLayout(pathlib.Path(folder)), Problems()
    files = layout.files(split, problems)
    names: dict[int, str] = {}
    annotated = _read_images(layout, files, names, problems)
    # Files of other splits are only read if this one does not show where pixels begin.
    listed = set(files)
    others = (file for file in layout.all_files() if file not in listed)
    unread = (_read_image(layout, 0, file, {}, Problems()) for file in others)
    if counts_from_zero(annotated, (image for image in unread if image is not None)):
        number = sum(len(image.boxes.corners) for image in annotated)
        problems.add(Problem.ZERO_BASED, str(layout.root), number)
    else:
        annotated = [_shifted(image) for image in annotated]
    folders = layout.image_folders()
    if images is not None:
        folders = [ImageFolder(pathlib.Path(images))]
    return open_annotated(annotated, folders, layout.root, problems, names)


def voc_splits(folder: str | pathlib.Path) -> tuple[str, ...]:
    """Lists the possible values of `split` in `read_voc`; there may be none.

    Args:
        folder: the folder of the data set.

    >>> voc_splits("no/such/folder")
    ()
    """
    return VocLayout(pathlib.Path(folder)).splits


def _read_images(
    layout: VocLayout,
    files: Sequence[pathlib.Path],
    names: dict[int, str],
    problems: Problems,
) -> list[Annotated]:
    """The images of annotation files, with boxes as they are in the files.

    Damaged files count too, so that repairing one does not change the numbers of other
    images.
    """
    read = (
        _read_image(layout, number, file, names, problems)
        for number, file in enumerate(files, start=1)
    )
    return [image for image in read if image is not None]


def _read_image(
    layout: VocLayout,
    number: int,
    file: pathlib.Path,
    categories: dict[int, str],
    problems: Problems,
) -> Annotated | None:
    """Reads the annotations of one image, or returns None if the file is not usable.

    An annotation file has the name of its image. That name comes before the element
    `filename`, which is often outdated. The names of categories are added to
    `categories`.
    """
    root = _parse(file, problems)
    if root is None:
        return None
    filename = (root.findtext("filename") or "").strip()
    path = pathlib.PurePosixPath(filename.replace("\\", "/"))
    names = layout.image_names(file, path.suffix if is_image_name(path) else ".jpg")
    objects = list(root.iter("object"))
    kinds = [(item.findtext("name") or "").strip() for item in objects]
    categories |= {_number(kind): kind for kind in kinds if kind}
    height, width = (to_float(root.findtext(f"size/{s}")) for s in ("height", "width"))
    known = math.isfinite(height + width)
    return Annotated(
        image_id=number,
        names=(*names, filename) if filename else tuple(names),
        size=(int(height), int(width)) if known else None,
        boxes=_read_boxes(objects, kinds, names[0], problems),
    )


def _parse(file: pathlib.Path, problems: Problems) -> ElementTree.Element | None:
    """The element `annotation` of a file, or None if it has not exactly one."""
    root, problem = parse_xml(file)
    found = [] if root is None else list(root.iter("annotation"))
    if root is not None and len(found) != 1:
        # The XML of CVAT, dlib and others lists images with boxes.
        tags = [element.tag for element in root.iter()]
        many = len(found) > 1 or {"image", "track"} & set(tags)
        problem = Problem.MANY_IMAGES if many else Problem.BAD_XML
        lost = tags.count("object") + tags.count("box")
        problems.add(problem, file.name, boxes=lost)
        return None
    if problem is not None:
        problems.add(problem, file.name)
    return found[0] if found else None


def _read_boxes(
    objects: list[ElementTree.Element],
    kinds: list[str],
    where: str,
    problems: Problems,
) -> Boxes:
    """Reads the boxes of one image, and applies the rules that need no image file."""
    sides = ("xmin", "ymin", "xmax", "ymax")
    corners = [to_corners([i.findtext(f"bndbox/{s}") for s in sides]) for i in objects]
    boxes = Boxes(
        corners=np.array(corners).reshape(-1, 4),
        is_ignored=np.array([is_true(i.findtext("difficult")) for i in objects], bool),
        areas=np.zeros(len(objects)),
        categories=np.array([_number(kind) for kind in kinds], float),
    )
    # Corners are ordered before the shift, because only the upper left corner moves.
    return order_corners(drop_unreadable(boxes, where, problems), where, problems)


def _number(name: str) -> int:
    """A number for a category, which VOC gives none: equal in all files and splits."""
    return zlib.crc32(name.encode(errors="surrogatepass")) if name else NO_CATEGORY


def _shifted(image: Annotated) -> Annotated:
    """The image with boxes from the left edge of their first pixels, which is 0."""
    boxes = image.boxes
    return image._replace(
        boxes=boxes._replace(corners=boxes.corners - (1.0, 1.0, 0.0, 0.0))
    )
