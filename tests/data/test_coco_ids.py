"""Ids in COCO files: texts, floats, ids of several files, files that are repeated."""

import json

import pytest
from support import data_files
from support.data_files import coco_record, coco_set

from rpn_jax.data import Problem, read_coco

BOX, OTHER = [1, 1, 9, 9], [20, 10, 9, 9]
CORNERS, OTHER_CORNERS = [1, 1, 10, 10], [20, 10, 29, 19]


def coco_images(folder, ids_and_names, annotations):
    """A set whose records of images are given; the size of every image is 40 x 60."""
    names = sorted({name for _, name in ids_and_names})
    path = coco_set(folder, annotations, names=names)
    content = json.loads(path.read_text())
    content["images"] = [
        {"id": key, "file_name": name, "height": 40, "width": 60}
        for key, name in ids_and_names
    ]
    return read_coco(data_files.write_json(path, content))


def boxes_of(source):
    """The boxes of every image, by the name of its file."""
    truths = [source.truth(row) for row in range(len(source))]
    return {truth.name: truth.boxes.tolist() for truth in truths}


def ids_of(source):
    return [source.truth(row).image_id for row in range(len(source))]


@pytest.mark.parametrize("in_image", [7, "7", 7.0, "007", " 7 ", "7.0"])
@pytest.mark.parametrize("in_annotation", [7, "7", 7.0, "007", "7."])
def test_a_text_or_float_id_that_is_a_whole_number_is_that_number(
    tmp_path, in_image, in_annotation
):
    source = coco_images(
        tmp_path, [(in_image, "a.png")], [coco_record(in_annotation, BOX)]
    )
    assert ids_of(source) == [7]
    assert boxes_of(source) == {"a.png": [CORNERS]}
    assert not source.problems.counts


@pytest.mark.parametrize("key", ["seven", 7.5, "7.5", "7e0", "", 2**70, "9" * 50])
def test_another_id_gets_a_free_number_and_keeps_its_boxes(tmp_path, key):
    images = [(key, "a.png"), (1, "b.png")]
    source = coco_images(tmp_path, images, [coco_record(key, BOX)])
    assert ids_of(source) == [2, 1]
    assert boxes_of(source) == {"a.png": [CORNERS], "b.png": []}
    assert source.problems.counts[Problem.OTHER_ID] == 1


@pytest.mark.parametrize("key", [True, None, [1], float("nan"), float("inf")])
def test_a_value_that_is_no_id_finds_no_image(tmp_path, key):
    annotations = [coco_record(key, BOX), coco_record(1, OTHER)]
    source = coco_images(tmp_path, [(1, "a.png"), (key, "b.png")], annotations)
    assert boxes_of(source) == {"a.png": [OTHER_CORNERS]}
    assert source.problems.counts == {Problem.NO_NAME: 1, Problem.UNLISTED_IMAGE: 1}


def test_texts_that_mean_one_number_stay_apart_as_texts(tmp_path):
    images = [("1", "a.png"), ("01", "b.png"), (2, "c.png")]
    records = [coco_record("1", BOX), coco_record("01", OTHER), coco_record(1, BOX)]
    source = coco_images(tmp_path, images, records)
    found = {"a.png": [CORNERS], "b.png": [OTHER_CORNERS], "c.png": []}
    assert boxes_of(source) == found
    assert source.problems.counts[Problem.UNLISTED_IMAGE] == 1


@pytest.mark.parametrize("second", [1, "1", 1.0])
def test_no_box_goes_to_a_picture_of_several_with_its_id(tmp_path, second):
    images = [(1, "a.png"), (second, "b.png"), (2, "c.png")]
    records = [coco_record(1, BOX), coco_record(second, BOX), coco_record(2, OTHER)]
    source = coco_images(tmp_path, images, records)
    assert boxes_of(source) == {"c.png": [OTHER_CORNERS]}
    assert source.problems.counts == {Problem.SHARED_ID: 2}
    assert source.problems.lost_boxes == {Problem.SHARED_ID: 2}
    (line,) = source.problems.summary()
    assert "with 2 boxes (first in a.png)" in line


@pytest.mark.parametrize("again", ["a.png", "./a.png", ".\\a.png"])
def test_a_file_that_is_listed_twice_under_its_id_keeps_its_boxes(tmp_path, again):
    path = coco_set(tmp_path, [coco_record(1, BOX)])
    content = json.loads(path.read_text())
    content["images"].append({"id": "1", "file_name": again})
    source = read_coco(data_files.write_json(path, content))
    assert boxes_of(source) == {"a.png": [CORNERS]}
    assert source.problems.counts == {Problem.REPEATED_IMAGE: 1}


def test_a_file_that_is_listed_under_two_ids_has_the_boxes_of_both(tmp_path):
    images = [(1, "a.png"), (2, "a.png")]
    records = [coco_record(1, BOX), coco_record(2, OTHER), coco_record(2, BOX)]
    source = coco_images(tmp_path, images, records)
    assert ids_of(source) == [1]
    assert boxes_of(source) == {"a.png": [CORNERS, OTHER_CORNERS]}
    counts = {Problem.REPEATED_FILE: 1, Problem.REPEATED_BOX: 1}
    assert source.problems.counts == counts


def test_the_image_that_names_a_file_exactly_gets_it_and_the_other_has_none(tmp_path):
    images = [(1, "a.jpg"), (2, "a.png")]
    path = coco_set(tmp_path, [coco_record(1, BOX), coco_record(2, OTHER)])
    content = json.loads(path.read_text())
    content["images"] = [{"id": key, "file_name": name} for key, name in images]
    source = read_coco(data_files.write_json(path, content))
    assert boxes_of(source) == {"a.png": [OTHER_CORNERS]}
    assert source.problems.lost_boxes == {Problem.MISSING_FILE: 1}


def test_two_images_that_only_nearly_name_a_file_do_not_get_it(tmp_path):
    path = coco_set(tmp_path, [coco_record(3, OTHER)], names=("a.png", "b.png"))
    content = json.loads(path.read_text())
    names = ["a.jpg", "a.gif", "b.png"]
    content["images"] = [
        {"id": number, "file_name": name} for number, name in enumerate(names, start=1)
    ]
    content["annotations"].append(coco_record(1, BOX))
    source = read_coco(data_files.write_json(path, content))
    assert boxes_of(source) == {"b.png": [OTHER_CORNERS]}
    assert source.problems.counts == {Problem.SHARED_FILE: 2}
    assert source.problems.lost_boxes == {Problem.SHARED_FILE: 1}


def test_floats_too_large_to_be_exact_are_no_numbers(tmp_path):
    images = [(2**60, "a.png"), (float(2**61), "b.png")]
    records = [coco_record(float(2**60), BOX), coco_record(float(2**61), OTHER)]
    source = coco_images(tmp_path, images, records)
    assert boxes_of(source) == {"a.png": [], "b.png": [OTHER_CORNERS]}
    assert ids_of(source) == [2**60, 1]


def test_the_boxes_of_images_that_are_left_out_are_counted(tmp_path):
    records = [coco_record(1, BOX), coco_record(1, OTHER), coco_record(2, BOX)]
    path = coco_set(tmp_path, records, names=("a.png", "b.png"))
    (tmp_path / "images/a.png").unlink()
    source = read_coco(path)
    assert source.problems.lost_boxes == {Problem.MISSING_FILE: 2}
    assert source.problems.summary() == [
        "1 x image file not found: image is left out, with 2 boxes (first in a.png)"
    ]
