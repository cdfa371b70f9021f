"""The lines and files of labels in YOLO sets that are valid, odd and damaged."""

import numpy as np
import pytest
from support import data_files
from support.data_files import yolo_set

from rpn_jax.data import Problem, open_source, read_coco, read_yolo

OTHER = "0 0.5 0.5 0.5 0.5"  # a line whose box is `KEPT` in an image of 40 x 60
KEPT = [15.0, 10.0, 45.0, 30.0]
LINE = "0 0.25 0.5 0.1 0.2"
BOX = [12.0, 16.0, 18.0, 24.0]


def opened(folder, text, **options):
    """The boxes of an image with these lines and another one, and the problems."""
    source = read_yolo(yolo_set(folder, {"a.png": text, "b.png": OTHER}, **options))
    assert source.truth(len(source) - 1).boxes.tolist() == [KEPT]
    boxes = source.truth(0).boxes.tolist() if len(source) == 2 else []
    return boxes, source.problems


def test_numbers_are_centre_and_sides_in_fractions_of_the_image(tmp_path):
    rng = np.random.default_rng(0)
    rows = rng.uniform((0.3, 0.3, 0.1, 0.1), (0.7, 0.7, 0.6, 0.6), (20, 4)).round(6)
    text = "".join(f"{i % 3} {x} {y} {w} {h}\n" for i, (x, y, w, h) in enumerate(rows))
    source = read_yolo(yolo_set(tmp_path, {"a.png": text}))
    truth = source.truth(0)
    for box, area, (x, y, w, h) in zip(truth.boxes, truth.areas, rows, strict=True):
        corners = (60 * (x - w / 2), 40 * (y - h / 2), 60 * (x + w / 2))
        np.testing.assert_allclose(box, [*corners, 40 * (y + h / 2)], rtol=1e-5)
        assert area == pytest.approx(60 * 40 * w * h, rel=1e-5)
    assert (truth.image_id, truth.size, truth.name) == (1, (40, 60), "images/a.png")
    assert not truth.is_ignored.any()
    assert not source.problems.counts


@pytest.mark.parametrize(
    ("line", "box", "problem"),
    [
        ("0.0 0.25 0.5 0.1 0.2", BOX, None),
        ("0\t0.25\t0.5\t0.1\t0.2\t", BOX, None),
        ("  0  .25 5e-1 +0.1 0.20", BOX, None),
        ("0,0.25,0.5,0.1,0.2", BOX, Problem.COMMAS),
        ("0, 0.25, 0.5, 0.1, 0.2", BOX, Problem.COMMAS),
        ("0 0,25 0,5 0,1 0,2", BOX, Problem.COMMAS),
        ("0;0,25;0,5;0,1;0,2", BOX, Problem.COMMAS),
        ("0 0.25 0.5 0.1 0.2 0.87", BOX, Problem.MORE_COLUMNS),
        ("0 0.25 0.5 0.1 0.2 17", BOX, Problem.MORE_COLUMNS),
        ("0 0.25 0.5 0.1 0.2 0.87 17", BOX, Problem.MORE_COLUMNS),
        ("0 0.2 0.4 0.3 0.4 0.3 0.6", BOX, Problem.POLYGON),
        ("0 0.2 0.4 0.3 0.4 0.3 0.6 0.2 0.6", BOX, Problem.POLYGON),
        ("0 0.25 0.5 -0.1 0.2", BOX, Problem.INVERTED_BOX),
        ("0 0.25 0.5 0.1 -0.2", BOX, Problem.INVERTED_BOX),
        ("7 0.25 0.5 0.1 0.2", BOX, Problem.UNKNOWN_CLASS),
        ("-1 0.25 0.5 0.1 0.2", BOX, Problem.UNKNOWN_CLASS),
        ("dog 0.25 0.5 0.1 0.2", BOX, Problem.UNKNOWN_CLASS),
        ("cat 0.25 0.5 0.1 0.2", BOX, None),
        ("0.5 0.25 0.5 0.1 0.2", None, Problem.BAD_CLASS),
        ("nan 0.25 0.5 0.1 0.2", None, Problem.BAD_CLASS),
        ("0 nan 0.5 0.1 0.2", None, Problem.BAD_BOX),
        ("0 0.25 0.5 inf 0.2", None, Problem.BAD_BOX),
        ("0 0.25 x 0.1 0.2", None, Problem.BAD_BOX),
        ("0 0.25 0.5 0.1", None, Problem.BAD_BOX),
        ("0", None, Problem.BAD_BOX),
        ("0 0.2 0.4 0.3 0.4 0.3 0.6 0.2", None, Problem.BAD_BOX),
        ("0 0.25 0.5 0.01 0.2", None, Problem.THIN_BOX),
        ("0 0.25 0.5 0 0", None, Problem.THIN_BOX),
        ("0 1.5 0.5 0.2 0.2", None, Problem.THIN_BOX),
        ("0 0 0.5 0.2 0.2", [0, 16, 6, 24], Problem.CLIPPED_BOX),
        ("0 0.05 0.5 0.100003 0.2", [0, 16, 6, 24], None),
        ("0 250 200 30 40", None, Problem.NO_FRACTION),
    ],
)
def test_a_line_is_read_repaired_or_left_out(tmp_path, line, box, problem):
    content = "{train: images, names: [cat], nc: 1}"
    boxes, problems = opened(tmp_path, f"{line}\n{OTHER}\n{OTHER}", content=content)
    np.testing.assert_allclose(boxes, [KEPT] if box is None else [box, KEPT], atol=1e-3)
    expected = {Problem.REPEATED_BOX} | ({problem} if problem else set())
    if problem in (Problem.THIN_BOX,) and "1.5" in line:
        expected.add(Problem.CLIPPED_BOX)
    assert set(problems.counts) == expected
    assert problems.lost_boxes.total() == 1 + (box is None)


@pytest.mark.parametrize(
    "text",
    [
        f"{LINE}\r\n{OTHER}\r\n",
        f"{LINE}\r{OTHER}",
        f"\n\n{LINE}\n\n   \n{OTHER}\n\n",
        f"\ufeff{LINE}\n{OTHER}",
        f"{LINE}\n{OTHER}".encode("utf-16"),
        f"{LINE}\n{OTHER}".encode() + b"\n\0\n\x1a\n",
    ],
)
def test_line_ends_and_byte_order_marks_do_not_matter(tmp_path, text):
    boxes, problems = opened(tmp_path, text)
    np.testing.assert_allclose(boxes, [BOX, KEPT], atol=1e-5)
    assert set(problems.counts) <= {Problem.BAD_BOX}


def test_an_image_without_labels_is_background_and_both_kinds_are_counted(tmp_path):
    labels = {"a.png": OTHER, "b.png": "", "c.png": " \r\n", "d.png": None}
    source = read_yolo(yolo_set(tmp_path, labels))
    assert source.num_boxes.tolist() == [1, 0, 0, 0]
    assert source.problems.counts == {Problem.NO_LABEL: 1, Problem.NO_BOX: 3}


def test_a_set_in_pixels_is_recognized_and_said(tmp_path):
    labels = {"a.png": "0 15 20 6 8\n1 1 1 1 1", "b.png": "0 30 20 30 20\n"}
    source = read_yolo(yolo_set(tmp_path, labels))
    assert source.truth(0).boxes.tolist() == [BOX]
    assert source.truth(1).boxes.tolist() == [KEPT]
    counts = {Problem.PIXELS: 3, Problem.THIN_BOX: 1}
    assert source.problems.counts == counts


def test_the_area_of_a_polygon_is_that_of_the_object(tmp_path):
    triangle = "0 0.2 0.4 0.3 0.4 0.3 0.6"
    empty = "0 0.5 0.5 0.7 0.7 0.5 0.5"
    source = read_yolo(yolo_set(tmp_path, {"a.png": f"{triangle}\n{empty}"}))
    np.testing.assert_allclose(source.truth(0).areas, [24.0, 12 * 8], rtol=1e-5)


def test_seven_columns_are_tracks_only_if_most_of_them_can_be(tmp_path):
    tracks = "0 0.25 0.5 0.1 0.2 0.9 1\n0 0.5 0.5 0.5 0.5 0.8 2"
    boxes, problems = opened(tmp_path / "tracks", tracks)
    np.testing.assert_allclose(boxes, [BOX, KEPT], atol=1e-5)
    assert problems.counts == {Problem.MORE_COLUMNS: 2}
    points = "0 0.2 0.4 0.3 0.4 0.3 1"  # ends on the lower edge of the image
    boxes, problems = opened(tmp_path / "points", points)
    np.testing.assert_allclose(boxes, [[12, 16, 18, 40]], atol=1e-5)
    assert problems.counts == {Problem.POLYGON: 1}


def test_keypoints_behind_a_box_are_no_polygon(tmp_path):
    content = "{train: images, kpt_shape: [2, 3]}"
    text = f"{LINE} 0.9 0.9 2 0.1 0.1 0"
    boxes, problems = opened(tmp_path, text, content=content)
    np.testing.assert_allclose(boxes, [BOX], atol=1e-5)
    assert problems.counts == {Problem.MORE_COLUMNS: 1}


def test_equal_lines_count_once_and_equal_boxes_of_two_classes_twice(tmp_path):
    boxes, problems = opened(
        tmp_path, f"{OTHER}\n{OTHER}\n1{OTHER[1:]}\ncat{OTHER[1:]}"
    )
    assert boxes == [KEPT] * 3
    assert problems.counts[Problem.REPEATED_BOX] == 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_fractions_are_of_the_upright_image(tmp_path, orientation):
    upright = data_files.noise(40, 60)
    folder = yolo_set(tmp_path, {"a.png": LINE})
    data_files.save_turned(folder / "images/a.png", upright, orientation)
    source = read_yolo(folder)
    assert source.truth(0).size == (40, 60)
    np.testing.assert_allclose(source.truth(0).boxes, [BOX], atol=1e-5)
    np.testing.assert_array_equal(source.pixels(0), upright)
    assert not source.problems.counts


@pytest.mark.parametrize(
    ("moved", "problem"),
    [
        ("labels/a.TXT", Problem.OTHER_LABEL),
        ("labels/A.txt", Problem.OTHER_LABEL),
        ("images/a.txt", Problem.OTHER_LABEL),
        ("labels/sub/a.txt", Problem.NO_LABEL),
    ],
)
def test_a_label_file_of_another_case_or_place_is_found(tmp_path, moved, problem):
    folder = yolo_set(tmp_path, {"a.png": LINE, "b.png": OTHER})
    (tmp_path / moved).parent.mkdir(exist_ok=True)
    (tmp_path / "labels/a.txt").rename(tmp_path / moved)
    source = read_yolo(folder)
    assert source.num_boxes.tolist() == [int(problem is Problem.OTHER_LABEL), 1]
    assert source.problems.counts[problem] == 1


def test_a_label_file_without_an_image_is_counted_with_its_boxes(tmp_path):
    folder = yolo_set(tmp_path, {"a.png": LINE, "b.png": f"{OTHER}\n{LINE}\n"})
    (folder / "images/b.png").unlink()
    (folder / "labels/classes.txt").write_text("cat\ndog\n")
    (folder / "labels/notes.txt").write_text("two images are missing\n")
    source = read_yolo(folder)
    assert len(source) == 1
    assert source.problems.counts == {Problem.UNUSED_LABEL: 1}
    assert source.problems.lost_boxes == {Problem.UNUSED_LABEL: 2}


def test_two_images_of_one_label_file_are_left_out(tmp_path):
    folder = yolo_set(tmp_path, {"a.png": LINE, "a.bmp": LINE, "b.png": OTHER})
    source = read_yolo(folder)
    assert [source.truth(0).name, len(source)] == ["images/b.png", 1]
    assert source.problems.counts == {Problem.SHARED_LABEL: 2}
    assert source.problems.lost_boxes == {Problem.SHARED_LABEL: 1}


def test_pointers_of_git_lfs_are_no_background(tmp_path):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4\n"
    boxes, problems = opened(tmp_path, pointer)
    assert boxes == []
    assert problems.counts == {Problem.LFS_POINTER: 1}


def test_a_set_without_a_box_says_where_labels_were_looked_for(tmp_path):
    folder = yolo_set(tmp_path, {"a.png": None})
    with pytest.raises(ValueError, match=r"none in 1 images\. 1 have no label file"):
        read_yolo(folder)


def test_a_set_has_the_same_boxes_as_in_the_form_of_coco(tmp_path):
    rng = np.random.default_rng(5)
    low = rng.uniform(0, 20, (8, 2)).round(2)
    sides = rng.uniform(4, 20, (8, 2)).round(2)
    records = [
        data_files.coco_record(1 + i % 2, [*low[i], *sides[i]], area=0)
        for i in range(8)
    ]
    names = ("a.png", "b.png")
    coco = read_coco(data_files.coco_set(tmp_path / "coco", records, names=names))
    texts = ["", ""]
    for i in range(8):
        (x, y), (w, h) = (low[i] + sides[i] / 2) / (60, 40), sides[i] / (60, 40)
        texts[i % 2] += f"0 {x} {y} {w} {h}\n"
    folder = yolo_set(tmp_path / "yolo", dict(zip(names, texts, strict=True)))
    yolo = open_source(folder)
    for row in range(2):
        np.testing.assert_allclose(
            yolo.truth(row).boxes, coco.truth(row).boxes, rtol=1e-6
        )
        np.testing.assert_allclose(
            yolo.truth(row).areas, coco.truth(row).areas, rtol=1e-5
        )
