"""Writes small data sets to disk, for the tests of the readers."""

import json

import numpy as np
from PIL import Image


def noise(height, width, seed=0, channels=3):
    """An image in which every pixel differs from its neighbours."""
    shape = (height, width, channels)[: 2 + (channels > 1)]
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def smooth(height, width):
    """An image that JPEG hardly changes."""
    y, x = np.mgrid[:height, :width]
    return np.stack([50 + y, 200 - x, 30 + x + y], axis=-1).astype(np.uint8)


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def save_turned(path, upright, orientation):
    """Saves the image turned, with the orientation in EXIF, as a camera does."""
    stored = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a),
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: np.rot90(a, -1),
    }[orientation](upright)
    exif = Image.Exif()
    exif[0x0112] = orientation
    return save(path, np.ascontiguousarray(stored), exif=exif.tobytes())


def write_json(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def coco_record(image_id, bbox, **others):
    """An annotation; its area is 9 by default."""
    return {"image_id": image_id, "bbox": bbox, "category_id": 1, "area": 9.0} | others


def coco_set(folder, annotations, *, size=(40, 60), names=("a.png",), **images):
    """Writes a COCO file with images of noise, numbered from 1."""
    for seed, name in enumerate(names):
        save(folder / "images" / name, noise(size[0], size[1], seed))
    listed = [
        {"id": i, "file_name": name, "height": size[0], "width": size[1], **images}
        for i, name in enumerate(names, start=1)
    ]
    content = {"images": listed, "annotations": annotations}
    return write_json(folder / "set.json", content)


def voc_xml(*boxes, filename="a.png", size=(40, 60), extra=""):
    """The XML of one image; a box is `(xmin, ymin, xmax, ymax)` in any form."""
    objects = "".join(
        f"<object><name>thing</name>{extra}<bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin>"
        f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
        for x0, y0, x1, y1 in boxes
    )
    height, width = size or (0, 0)
    sides = f"<size><width>{width}</width><height>{height}</height></size>"
    return (
        f"<annotation><filename>{filename}</filename>{sides if size else ''}"
        f"{objects}</annotation>"
    )


def yolo_set(folder, labels, content="train: images", size=(40, 60)):
    """Writes a YOLO set from a dictionary of image names and their labels.

    Args:
        folder: the folder.
        labels: text of the label files, by names such as `train/a.png`; None writes no
            file.
        content: the text of `data.yaml`; an empty one writes no file.
        size: height and width of the images.
    """
    for seed, (name, text) in enumerate(labels.items()):
        save(folder / "images" / name, noise(size[0], size[1], seed))
        if text is not None:
            path = (folder / "labels" / name).with_suffix(".txt")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
    if content:
        (folder / "data.yaml").write_text(content)
    return folder


def voc_set(folder, files, split=None):
    """Writes a VOC folder from a dictionary of image names and their XML."""
    (folder / "Annotations").mkdir(parents=True, exist_ok=True)
    for seed, (name, xml) in enumerate(files.items()):
        save(folder / "JPEGImages" / name, noise(40, 60, seed))
        stem = name.rpartition(".")[0]
        (folder / "Annotations" / f"{stem}.xml").write_text(xml)
    if split is not None:
        lists = folder / "ImageSets" / "Main"
        lists.mkdir(parents=True, exist_ok=True)
        (lists / "train.txt").write_text(split)
    return folder
