"""COCO files that are valid, odd and damaged."""

import json
import os
import pathlib

import numpy as np
import pytest
from PIL import Image
from support import data_files
from support.data_files import coco_record, coco_set

from rpn_jax.data import Problem, read_coco


def read(*arguments, **options):
    """The source, and the boxes of its first image as lists."""
    source = read_coco(coco_set(*arguments, **options))
    return source, source.truth(0).boxes.tolist()


def test_a_box_becomes_its_corners_and_keeps_its_fractions(tmp_path):
    record = coco_record(1, [1.25, 2.5, 10.5, 20.25], area=77.0)
    source, boxes = read(tmp_path, [record])
    truth = source.truth(0)
    assert boxes == [[1.25, 2.5, 11.75, 22.75]]
    assert (truth.image_id, truth.size, truth.name) == (1, (40, 60), "a.png")
    assert truth.areas.tolist() == [77.0]
    assert truth.is_ignored.tolist() == [False]
    assert [column.dtype for column in truth[2:5]] == [np.float32, bool, np.float32]
    assert not source.problems.counts
    np.testing.assert_array_equal(source.pixels(0), data_files.noise(40, 60))


def test_sizes_and_numbers_of_boxes_are_known_without_decoding(tmp_path):
    records = [coco_record(2, [0, 0, 9, 9]), coco_record(2, [9, 9, 9, 9])]
    source, _ = read(tmp_path, records, names=("a.png", "b c.png", "ü.png"))
    assert source.image_sizes.tolist() == [[40, 60]] * 3
    assert source.num_boxes.tolist() == [0, 2, 0]
    assert source.problems.counts == {Problem.NO_BOX: 2}


def test_crowds_become_ignored_regions_by_their_box(tmp_path):
    mask = {"counts": [5, 2393], "size": [40, 60]}
    crowd = coco_record(1, [0, 0, 30, 30], iscrowd=1, segmentation=mask)
    source, _ = read(tmp_path, [crowd, coco_record(1, [3, 3, 9, 9], iscrowd=0)])
    assert source.truth(0).is_ignored.tolist() == [True, False]


@pytest.mark.parametrize(
    ("bbox", "expected", "problem"),
    [
        ([10, 10, -5, -4], [5, 6, 10, 10], Problem.INVERTED_BOX),
        ([50, -3, 20, 10], [50, 0, 60, 7], Problem.CLIPPED_BOX),
        ([10, 10, 1, 20], None, Problem.THIN_BOX),
        ([10, 10, 20, 0], None, Problem.THIN_BOX),
        ([70, 10, 20, 20], None, Problem.THIN_BOX),  # beyond the image
        ([float("nan"), 0, 5, 5], None, Problem.BAD_BOX),
        ([0, 0, float("inf"), 5], None, Problem.BAD_BOX),
        ([0, 0, 10**400, 5], None, Problem.BAD_BOX),
        ([0, 0, 5], None, Problem.BAD_BOX),
        ([0, 0, 5, 5, 5], None, Problem.BAD_BOX),
        ([0, 0, None, 5], None, Problem.BAD_BOX),
        ([0, 0, [5], 5], None, Problem.BAD_BOX),
        ([], None, Problem.BAD_BOX),
        (None, None, Problem.BAD_BOX),
        ("0 0 5 5", None, Problem.BAD_BOX),
        (["1", "2.5", "5", "5"], [1, 2.5, 6, 7.5], None),
        ([1e-4, -1e-4, 5, 5], [1e-4, 0, 5.0001, 4.9999], None),  # a rounding error
    ],
)
def test_a_strange_box_is_repaired_or_left_out(tmp_path, bbox, expected, problem):
    source, boxes = read(
        tmp_path, [coco_record(1, bbox), coco_record(1, [30, 30, 9, 9])]
    )
    expected = [[30, 30, 39, 39]] if expected is None else [expected, [30, 30, 39, 39]]
    np.testing.assert_allclose(boxes, expected, rtol=1e-6)
    clipped = {Problem.CLIPPED_BOX} if bbox and bbox[0] == 70 else set()
    assert set(source.problems.counts) == {problem} - {None} | clipped


def test_a_repeated_box_counts_once_but_not_in_another_category(tmp_path):
    same = coco_record(1, [1, 1, 9, 9])
    other = coco_record(1, [1, 1, 9, 9], category_id=90)
    crowd = coco_record(1, [1, 1, 9, 9], iscrowd=1)
    source, boxes = read(tmp_path, [same, other, same, crowd])
    assert len(boxes) == 3
    assert source.truth(0).is_ignored.tolist() == [False, False, True]
    assert source.problems.counts == {Problem.REPEATED_BOX: 1}


@pytest.mark.parametrize("area", [0, -1, None, "x", float("nan"), float("inf")])
def test_the_area_of_the_box_replaces_a_missing_or_invalid_area(tmp_path, area):
    source, _ = read(tmp_path, [coco_record(1, [50, 0, 20, 8], area=area)])
    assert source.truth(0).areas.tolist() == [80.0]  # clipped to a width of 10
    assert source.problems.counts[Problem.OTHER_AREA] == 1


def test_annotations_of_unknown_images_are_left_out(tmp_path):
    strangers = [coco_record(key, [1, 1, 9, 9]) for key in (7, None, [1], "one")]
    source, boxes = read(tmp_path, [*strangers, "text", coco_record(1, [2, 2, 9, 9])])
    assert boxes == [[2, 2, 11, 11]]
    assert source.problems.counts == {Problem.UNLISTED_IMAGE: 5}


def test_records_of_images_that_say_too_little_are_left_out(tmp_path):
    path = coco_set(tmp_path, [coco_record(1, [1, 1, 9, 9])])
    content = json.loads(path.read_text())
    content["images"] += [
        {"id": 2},
        {"id": None, "file_name": "a.png"},
        {"id": [2], "file_name": "a.png"},
        {"id": 3, "file_name": 5},
        "a.png",
        {"id": 1, "file_name": "a.png"},
        {"id": 4, "file_name": "gone.png"},
        {"id": 5, "file_name": "../set.json"},
    ]
    source = read_coco(data_files.write_json(path, content))
    assert len(source) == 1
    assert source.problems.counts == {
        Problem.NO_NAME: 5,
        Problem.REPEATED_IMAGE: 1,
        Problem.MISSING_FILE: 1,
        Problem.OUTSIDE_FOLDER: 1,
    }


def test_ids_with_gaps_stay_and_others_get_a_number_that_is_free(tmp_path):
    path = coco_set(tmp_path, [], names=("a.png", "b.png", "c.png", "d.png"))
    content = json.loads(path.read_text())
    keys = [900, "first", 1, 2**70]
    for record, key in zip(content["images"], keys, strict=True):
        record["id"] = key
    content["annotations"] = [coco_record(key, [1, 1, 9, 9]) for key in keys]
    source = read_coco(data_files.write_json(path, content))
    assert [source.truth(row).image_id for row in range(4)] == [900, 2, 1, 3]
    assert source.num_boxes.tolist() == [1, 1, 1, 1]
    assert source.problems.counts == {Problem.OTHER_ID: 2}


@pytest.mark.parametrize("size", [(4, 6), (0, 0), (None, 60), ("x", "y"), (60, 40)])
def test_the_size_of_the_file_is_right_if_the_record_has_another(tmp_path, size):
    path = coco_set(tmp_path, [coco_record(1, [1, 1, 50, 30])])
    content = json.loads(path.read_text())
    content["images"][0] |= {"height": size[0], "width": size[1]}
    source = read_coco(data_files.write_json(path, content))
    assert source.truth(0).size == (40, 60)
    assert source.truth(0).boxes.tolist() == [[1, 1, 51, 31]]
    assert source.problems.counts[Problem.OTHER_SIZE] == int(isinstance(size[0], int))


@pytest.mark.parametrize(
    ("orientation", "before_turning"),
    [(orientation, False) for orientation in range(1, 9)]
    # Only an image that is stored on its side has another size before it is turned.
    + [(orientation, True) for orientation in range(5, 9)],
)
def test_boxes_stay_on_their_object_when_exif_turns_the_image(
    tmp_path, orientation, before_turning
):
    upright = np.zeros((40, 60, 3), np.uint8)
    upright[5:12, 20:50] = 255
    data_files.save_turned(tmp_path / "images/a.png", upright, orientation)
    bbox, size = [20, 5, 30, 7], (40, 60)
    if before_turning:
        with Image.open(tmp_path / "images/a.png") as image:
            rows, columns = np.nonzero(np.asarray(image)[..., 0])
        x, y = int(columns.min()), int(rows.min())
        bbox, size = [x, y, 7, 30], (60, 40)
    image = {"id": 1, "file_name": "a.png", "height": size[0], "width": size[1]}
    content = {"images": [image], "annotations": [coco_record(1, bbox)]}
    source = read_coco(data_files.write_json(tmp_path / "set.json", content))
    assert source.truth(0).boxes.tolist() == [[20, 5, 50, 12]]
    assert source.problems.counts[Problem.TURNED] == int(before_turning)
    np.testing.assert_array_equal(source.pixels(0), upright)


def test_unreadable_files_are_left_out_and_counted(tmp_path):
    path = coco_set(tmp_path, [coco_record(2, [1, 1, 9, 9])], names=("a.png", "b.png"))
    (tmp_path / "images/a.png").write_bytes(b"nothing")
    source = read_coco(path)
    assert [source.truth(row).name for row in range(len(source))] == ["b.png"]
    assert [truth.name for truth in source.left_out] == ["a.png"]
    assert source.problems.counts == {Problem.BAD_FILE: 1}
    assert source.problems.summary() == [
        "1 x image file cannot be read: image is left out (first in a.png)"
    ]


def test_a_byte_order_mark_and_missing_info_are_no_problem(tmp_path):
    path = coco_set(tmp_path, [coco_record(1, [1, 1, 9, 9])])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(read_coco(path)) == 1


@pytest.mark.parametrize("layout", ["images/a.png", "a.png", "../images/a.png"])
def test_the_images_are_found_in_the_usual_places(tmp_path, layout):
    path = coco_set(tmp_path / "annotations", [coco_record(1, [1, 1, 9, 9])])
    image = (tmp_path / "annotations/images/a.png").read_bytes()
    (tmp_path / "annotations/images/a.png").unlink()
    (tmp_path / "images").mkdir()
    (tmp_path / "annotations" / layout).write_bytes(image)
    assert len(read_coco(path)) == 1


def test_a_whole_path_counts_if_it_leads_into_the_folder(tmp_path):
    path = coco_set(tmp_path / "set", [coco_record(1, [1, 1, 9, 9])])
    (tmp_path / "link").symlink_to(tmp_path / "set")
    content = json.loads(path.read_text())
    content["images"][0]["file_name"] = str(tmp_path / "link/images/a.png")
    source = read_coco(data_files.write_json(path, content))
    assert source.truth(0).name == "a.png"


def test_another_folder_of_images_can_be_named(tmp_path):
    path = coco_set(tmp_path, [coco_record(1, [1, 1, 9, 9])])
    (tmp_path / "images").rename(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=r"none of 1 .*images.* Name their folder"):
        read_coco(path)
    assert len(read_coco(path, tmp_path / "elsewhere")) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "needs a JSON file"),
        ("{", "needs a JSON file"),
        ("[" * 100_000, "needs a JSON file"),
        ("[]", "got list"),
        ("3", "got int"),
        ("{}", "a list `images`"),
        ('{"images": {}}', "a list `images`"),
        ('{"images": []}', "none of 0"),
        ('{"images": [1, null, []]}', "none of 0"),
    ],
)
def test_a_file_of_another_kind_is_named_in_the_error(tmp_path, content, message):
    path = data_files.write_json(tmp_path / "odd.json", content)
    with pytest.raises(ValueError, match=message) as error:
        read_coco(path)
    assert "odd.json" in str(error.value)


@pytest.mark.parametrize("content", [b"\xff\xfe{\0}\0", b'{"images": ["\xff"]}'])
def test_a_file_in_another_encoding_is_refused(tmp_path, content):
    (tmp_path / "odd.json").write_bytes(content)
    with pytest.raises(ValueError, match="in UTF-8"):
        read_coco(tmp_path / "odd.json")


@pytest.mark.parametrize(
    "annotations", [[], None, {}, [coco_record(1, [1, 1, 9, 9], iscrowd=1)]]
)
def test_a_set_without_one_object_is_refused(tmp_path, annotations):
    path = coco_set(tmp_path, annotations)
    with pytest.raises(ValueError, match="boxes of objects, got none in 1 images"):
        read_coco(path)


def test_the_errors_list_what_was_left_out(tmp_path):
    path = coco_set(tmp_path, [coco_record(1, [1, 1, 0, 0])])
    with pytest.raises(ValueError, match="1 x box is at most one pixel wide"):
        read_coco(path)


@pytest.mark.parametrize(
    ("name", "images", "boxes", "crowds"),
    [("train", 94, 769, 10), ("val", 32, 293, 3), ("test", 32, 327, 4)],
)
def test_a_part_of_coco_is_read_completely(name, images, boxes, crowds):
    if "RPN_JAX_DATA" not in os.environ:
        pytest.skip("RPN_JAX_DATA does not name the folder with the data sets")
    path = pathlib.Path(os.environ["RPN_JAX_DATA"]) / "coco_cc" / f"{name}.json"
    source = read_coco(path)
    truths = [source.truth(row) for row in range(len(source))]
    assert len(source) == images
    assert sum(len(truth.boxes) for truth in truths) == boxes
    assert sum(int(truth.is_ignored.sum()) for truth in truths) == crowds
    assert set(source.problems.counts) <= {Problem.NO_BOX}
    listed = {image["id"]: image for image in json.loads(path.read_text())["images"]}
    for row, truth in enumerate(truths):
        image = listed[truth.image_id]
        assert truth.size == (image["height"], image["width"])
        assert source.pixels(row).shape == (*truth.size, 3)
