"""VOC folders that are valid, odd and damaged."""

import os
import pathlib

import numpy as np
import pytest
from support import data_files
from support.data_files import voc_set, voc_xml

from rpn_jax.data import Problem, read_coco, read_voc, voc_splits

BOX = (11, 6, 20, 30)  # `KEPT` in VOC's convention
KEPT = [10.0, 5.0, 20.0, 30.0]


def first_boxes(source):
    return source.truth(0).boxes.tolist()


def test_coordinates_count_from_one_and_include_both_ends(tmp_path):
    source = read_voc(voc_set(tmp_path, {"a.png": voc_xml(BOX)}))
    truth = source.truth(0)
    assert truth.boxes.tolist() == [KEPT]
    assert truth.areas.tolist() == [250.0]
    assert (truth.image_id, truth.size, truth.name) == (1, (40, 60), "a.png")
    assert not source.problems.counts
    np.testing.assert_array_equal(source.pixels(0), data_files.noise(40, 60))


@pytest.mark.parametrize(
    ("box", "expected", "problem"),
    [
        ((20, 30, 11, 6), KEPT, Problem.INVERTED_BOX),
        (("11.5", 6, "20.25", 30), [10.5, 5, 20.25, 30], None),
        ((1, 1, 60, 40), [0, 0, 60, 40], None),
        ((0, 0, 70, 41), [0, 0, 60, 40], Problem.CLIPPED_BOX),
        ((7, 7, 7, 20), None, Problem.THIN_BOX),
        (("", 7, 7, 20), None, Problem.BAD_BOX),
        (("x", 7, 7, 20), None, Problem.BAD_BOX),
        (("nan", 7, 7, 20), None, Problem.BAD_BOX),
        (("1e999", 7, 7, 20), None, Problem.BAD_BOX),
    ],
)
def test_a_strange_box_is_repaired_or_left_out(tmp_path, box, expected, problem):
    xml = voc_xml(box, (31, 31, 39, 39))
    source = read_voc(voc_set(tmp_path, {"a.png": xml}))
    others = [] if expected is None else [list(expected)]
    assert first_boxes(source) == [*others, [30.0, 30.0, 39.0, 39.0]]
    assert set(source.problems.counts) == {problem} - {None}


def test_objects_without_a_box_are_left_out_and_parts_are_not_looked_at(tmp_path):
    part = "<part><bndbox><xmin>1</xmin></bndbox></part>"
    xml = voc_xml(BOX, extra=part).replace(
        "</annotation>", "<object><name>x</name></object></annotation>"
    )
    source = read_voc(voc_set(tmp_path, {"a.png": xml}))
    assert first_boxes(source) == [KEPT]
    assert source.problems.counts == {Problem.BAD_BOX: 1}


def test_difficult_objects_become_regions_to_ignore(tmp_path):
    files = {
        "a.png": voc_xml(BOX, extra="<difficult>1</difficult>"),
        "b.png": voc_xml(BOX, filename="b.png", extra="<difficult>0</difficult>"),
    }
    source = read_voc(voc_set(tmp_path, files))
    assert [source.truth(row).is_ignored.tolist() for row in (0, 1)] == [
        [True],
        [False],
    ]


@pytest.mark.parametrize("size", [(0, 0), (400, 600), None])
def test_the_size_of_the_file_is_right_if_the_xml_has_another_or_none(tmp_path, size):
    xml = voc_xml(BOX, size=size)
    source = read_voc(voc_set(tmp_path, {"a.png": xml}))
    assert source.truth(0).size == (40, 60)
    assert first_boxes(source) == [KEPT]
    assert source.problems.counts[Problem.OTHER_SIZE] == int(size is not None)


def test_the_image_is_the_one_with_the_name_of_the_xml(tmp_path):
    files = {
        "a.png": voc_xml(BOX, filename="b.png"),  # outdated: the files were renamed
        "b.png": voc_xml(BOX, filename="gone.png"),
        "c d.png": voc_xml(BOX, filename=""),
    }
    source = read_voc(voc_set(tmp_path, files))
    assert [source.truth(row).name for row in range(3)] == ["a.png", "b.png", "c d.png"]
    # Without a name in the XML, the extension is assumed to be `jpg`.
    assert source.problems.counts == {Problem.RENAMED_FILE: 1}


def test_the_name_in_the_xml_counts_if_no_image_has_the_name_of_the_file(tmp_path):
    folder = voc_set(tmp_path, {"a.png": voc_xml(BOX, filename="photo.png")})
    (tmp_path / "JPEGImages/a.png").rename(tmp_path / "JPEGImages/photo.png")
    source = read_voc(folder)
    assert source.truth(0).name == "photo.png"
    assert not source.problems.counts


def test_names_in_xml_and_lists_cannot_lead_out_of_the_folders(tmp_path):
    files = {"a.png": voc_xml(BOX), "b.png": voc_xml(BOX, filename="../../x.png")}
    folder = voc_set(tmp_path / "set", files, split="a\nb\n../../y\n")
    (folder / "JPEGImages/b.png").rename(tmp_path / "x.png")
    (tmp_path / "y.xml").write_text(voc_xml(BOX))
    source = read_voc(folder, "train")
    assert [source.truth(row).name for row in range(len(source))] == ["a.png"]
    assert source.problems.counts == {
        Problem.MISSING_FILE: 1,
        Problem.OUTSIDE_FOLDER: 1,
    }


@pytest.mark.parametrize(
    "xml",
    [
        "",
        "<annotation>",
        "not xml",
        "<html></html>",
        '<?xml version="1.0" encoding="no-such"?><annotation></annotation>',
        '<!DOCTYPE a [<!ENTITY lol "lol"><!ENTITY l2 "&lol;&lol;">]>'
        "<annotation><filename>&l2;</filename></annotation>",
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
        "<annotation><filename>&x;</filename></annotation>",
    ],
)
def test_damaged_xml_and_xml_with_entities_is_left_out(tmp_path, xml):
    files = {"a.png": xml, "b.png": voc_xml(BOX, filename="b.png")}
    source = read_voc(voc_set(tmp_path, files))
    assert [source.truth(row).name for row in range(len(source))] == ["b.png"]
    assert source.problems.counts == {Problem.BAD_XML: 1}


def test_a_split_names_its_images_in_order_each_once(tmp_path):
    names = ("a.png", "b 1.png", "c.png", "d.png")
    files = {name: voc_xml(BOX, filename=name) for name in names}
    folder = voc_set(tmp_path, files, split="c\r\nb 1\n\nc\n  a  -1\ngone\n")
    source = read_voc(folder, "train")
    taken = [source.truth(row).name for row in range(len(source))]
    assert taken == ["c.png", "b 1.png", "a.png"]
    assert source.problems.counts == {
        Problem.REPEATED_IMAGE: 1,
        Problem.MISSING_XML: 1,
    }
    assert voc_splits(folder) == ("train",)
    assert len(read_voc(folder)) == 4


def test_an_unknown_split_is_an_error_that_names_the_others(tmp_path):
    folder = voc_set(tmp_path, {"a.png": voc_xml(BOX)}, split="a")
    with pytest.raises(ValueError, match="one of the splits train .* got 'test'"):
        read_voc(folder, "test")


def test_a_folder_without_lists_has_all_images_in_every_split(tmp_path):
    assert len(read_voc(voc_set(tmp_path, {"a.png": voc_xml(BOX)}), "train")) == 1


@pytest.mark.parametrize("layout", ["JPEGImages", "images", "../images", "."])
def test_the_images_are_found_in_the_usual_places(tmp_path, layout):
    folder = voc_set(tmp_path / "set", {"a.png": voc_xml(BOX)})
    image = (folder / "JPEGImages/a.png").read_bytes()
    (folder / "JPEGImages/a.png").unlink()
    (folder / layout).mkdir(exist_ok=True)
    (folder / layout / "a.png").write_bytes(image)
    assert len(read_voc(folder)) == 1


def test_xml_and_images_may_lie_in_one_folder(tmp_path):
    (tmp_path / "a.xml").write_text(voc_xml(BOX))
    data_files.save(tmp_path / "a.png", data_files.noise(40, 60))
    assert first_boxes(read_voc(tmp_path)) == [KEPT]


def test_a_folder_without_xml_or_images_is_refused(tmp_path):
    with pytest.raises(ValueError, match="needs XML files"):
        read_voc(tmp_path)
    folder = voc_set(tmp_path, {"a.png": voc_xml(BOX)})
    (folder / "JPEGImages/a.png").unlink()
    with pytest.raises(ValueError, match="none of 1 .* Name their folder"):
        read_voc(folder)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_both_forms_of_one_data_set_give_the_same_boxes(split):
    if "RPN_JAX_DATA" not in os.environ:
        pytest.skip("RPN_JAX_DATA does not name the folder with the data sets")
    folder = pathlib.Path(os.environ["RPN_JAX_DATA"]) / "bccd"
    coco = read_coco(folder / f"{split}.json")
    voc = read_voc(folder / "voc", split)
    truths = [
        {truth.name: truth for truth in map(source.truth, range(len(source)))}
        for source in (coco, voc)
    ]
    assert truths[0].keys() == truths[1].keys()
    for name, truth in truths[0].items():
        other = truths[1][name]
        assert truth.size == other.size
        np.testing.assert_array_equal(truth.boxes, other.boxes)
        np.testing.assert_array_equal(truth.areas, other.areas)
    thin = {"train": 1, "val": 1, "test": 0}[split]
    assert voc.problems.counts[Problem.THIN_BOX] == thin
