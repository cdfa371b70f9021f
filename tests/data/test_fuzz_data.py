"""Damaged annotations and images end in a clear error, or every loss is counted."""

import contextlib
import json
import re
import time
import xml.etree.ElementTree as ElementTree
import zlib

import numpy as np
import pytest
from PIL import Image
from support import data_files
from support.data_files import coco_record, coco_set, voc_xml
from support.mutations import (
    json_bytes,
    mutate_bytes,
    mutate_json,
    mutate_lines,
    mutate_xml,
)

from rpn_jax.data import ImageError, Problem, open_source, read_coco, read_voc
from rpn_jax.data.image_files import Header, decode_image, read_headers

MUTATIONS = 400
MOST_SECONDS = 10.0  # for one mutation

BOXES = ([1, 1, 9, 9], [2.5, 3.25, 20, 30], [1, 1, 9, 9], [50, 20, 30, 9], [5, 5, 1, 9])


def check_truths(source):
    """The number of boxes in a source, all of which lie in their images."""
    truths = [source.truth(row) for row in range(len(source))]
    for truth in truths:
        height, width = truth.size
        assert np.isfinite(truth.boxes).all()
        assert (truth.boxes >= 0).all()
        assert (truth.boxes <= (width, height, width, height)).all()
        assert np.isfinite(truth.areas).all()
        assert (truth.areas > 0).all()
    numbers = [truth.image_id for truth in truths]
    assert len(set(numbers)) == len(numbers)
    return sum(len(truth.boxes) for truth in truths)


def is_counted(read, number_in_file):
    """Reads a set, and returns whether it could be read, with every box counted."""
    begin = time.monotonic()
    try:
        source, message = read(), ""
    except (ValueError, OSError) as error:
        source, message = None, str(error)
    assert time.monotonic() - begin < MOST_SECONDS
    if source is None:
        # An error begins with a reader, or with a path that needs boxes.
        assert message.startswith(("read_coco needs", "read_yolo needs", "/"))
        return False
    kept, lost = check_truths(source), sum(source.problems.lost_boxes.values())
    if number_in_file is not None:
        assert kept + lost == number_in_file, source.problems.summary()
    return True


def boxes_in_json(content):
    """The number of annotations, or None if the content cannot be parsed."""
    try:
        parsed = json.loads(content.decode("utf-8-sig"))
    except ValueError:
        return None
    annotations = parsed.get("annotations") if isinstance(parsed, dict) else None
    return len(annotations) if isinstance(annotations, list) else 0


def test_a_damaged_coco_file_is_an_error_or_every_lost_box_is_counted(tmp_path):
    rng = np.random.default_rng(1)
    records = [coco_record(1 + i % 3, list(box)) for i, box in enumerate(2 * BOXES)]
    records[3]["iscrowd"] = 1
    path = coco_set(tmp_path, records, names=("a.png", "sub/b.png", "ü.png"))
    original = json.loads(path.read_text())
    read = 0
    for number in range(MUTATIONS):
        if number % 2:
            content = mutate_bytes(json_bytes(original), rng)
        else:
            content = json_bytes(mutate_json(original, rng))
        path.write_bytes(content)
        read += is_counted(lambda: read_coco(path), boxes_in_json(content))
    assert read > MUTATIONS // 4


def boxes_in_xml(folder):
    """The number of objects, or None if a file cannot be parsed or is not VOC's."""
    number = 0
    for path in folder.iterdir():
        try:
            root = ElementTree.fromstring(path.read_bytes())
        except (ElementTree.ParseError, ValueError, LookupError):
            return None
        number += sum(1 for element in root.iter() if element.tag.lower() == "object")
    return number


def test_a_damaged_voc_file_is_an_error_or_every_lost_box_is_counted(tmp_path):
    rng = np.random.default_rng(2)
    corners = [(x + 1, y + 1, x + width, y + height) for x, y, width, height in BOXES]
    xml = voc_xml(*corners, extra="<difficult>0</difficult>")
    folder = data_files.voc_set(tmp_path, {"a.png": xml, "b.png": voc_xml(*corners)})
    path = folder / "Annotations/a.xml"
    read = 0
    for number in range(MUTATIONS):
        mutate = mutate_bytes if number % 2 else mutate_xml
        path.write_bytes(mutate(xml.encode(), rng))
        read += is_counted(lambda: read_voc(folder), boxes_in_xml(path.parent))
    assert read > MUTATIONS // 2


LINES = """0 0.5 0.5 0.2 0.3
1 0.25 0.25 0.1 0.1 0.87
0 0.1 0.1 0.5 0.1 0.3 0.4 0.2 0.2
0 0.5 0.5 0.2 0.3
2.0 0.9 0.9 0.3 -0.3
cat 0.3 0.3 0.2 0.2
"""
DATA_YAML = {
    "path": ".",
    "train": "images/train",
    "val": ["../images/val"],
    "test": "lists/test.txt",
    "nc": 2,
    "names": {"0": "cat", "1": "dog"},
    "kpt_shape": [17, 3],
}


def lines_in_labels(folder):
    """The number of lines that are not blank, or None if a file is in UTF-16."""
    number = 0
    for path in folder.glob("labels/*/*.txt"):
        content = path.read_bytes()
        if content.startswith((b"\xff\xfe", b"\xfe\xff")):
            return None
        text = content.removeprefix(b"\xef\xbb\xbf").decode("latin-1")
        number += sum(1 for line in re.split("[\r\n]", text) if line.strip())
    return number


def test_a_damaged_yolo_file_is_an_error_or_every_lost_box_is_counted(tmp_path):
    rng = np.random.default_rng(4)
    labels = {"train/a.png": LINES, "val/b.png": LINES}
    folder = data_files.yolo_set(tmp_path, labels, content=json.dumps(DATA_YAML))
    label, content = folder / "labels/train/a.txt", folder / "data.yaml"
    (folder / "lists").mkdir()
    (folder / "lists/test.txt").write_text("images/val/b.png\n")
    read = 0
    for number in range(MUTATIONS // 2):
        mutated = mutate_lines(LINES, rng).encode()
        label.write_bytes(mutate_bytes(LINES.encode(), rng) if number % 2 else mutated)
        read += is_counted(lambda: open_source(folder), lines_in_labels(folder))
    label.write_text(LINES)
    # Damage in the YAML may hide splits, whose boxes then do not count.
    for number in range(MUTATIONS // 2):
        mutated = json_bytes(mutate_json(DATA_YAML, rng))
        whole = json_bytes(DATA_YAML)
        content.write_bytes(mutate_bytes(whole, rng) if number % 2 else mutated)
        read += is_counted(lambda: open_source(folder), None)
    assert read > MUTATIONS // 2


def encoded(folder, extension):
    """The bytes of a small image, with an orientation."""
    path = folder / f"whole.{extension}"
    data_files.save_turned(path, data_files.noise(24, 16), 6)
    return path.read_bytes()


@pytest.mark.parametrize("extension", ["png", "jpg", "tiff"])
def test_a_damaged_image_is_decoded_to_its_size_or_refused(tmp_path, extension):
    rng = np.random.default_rng(3)
    content, path = encoded(tmp_path, extension), tmp_path / f"a.{extension}"
    decoded = 0
    for _ in range(MUTATIONS):
        path.write_bytes(mutate_bytes(content, rng))
        begin = time.monotonic()
        (header,) = read_headers([path])
        if isinstance(header, Header):
            with contextlib.suppress(ImageError):
                pixels = decode_image(path, header).pixels
                assert pixels.shape == (*header.size, 3)
                decoded += 1
        else:
            assert header in (Problem.BAD_FILE, Problem.TOO_LARGE)
        assert time.monotonic() - begin < MOST_SECONDS
    assert decoded > MUTATIONS // 20


@pytest.mark.parametrize("side", [9_000, 60_000, 2**31 - 1])
def test_an_image_that_only_claims_to_be_huge_is_refused(tmp_path, side):
    path = tmp_path / "a.png"
    Image.fromarray(data_files.noise(8, 8)).save(path)
    content = path.read_bytes()
    begin = content.index(b"IHDR")
    chunk = b"IHDR" + 2 * side.to_bytes(4, "big") + content[begin + 12 : begin + 17]
    checksum = zlib.crc32(chunk).to_bytes(4, "big")
    path.write_bytes(content[:begin] + chunk + checksum + content[begin + 21 :])
    (header,) = read_headers([path])
    if isinstance(header, Header):
        assert side < 10_000
        with pytest.raises(ImageError, match="cannot be decoded"):
            decode_image(path, header)
    else:
        assert header in (Problem.BAD_FILE, Problem.TOO_LARGE)
