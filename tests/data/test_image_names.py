"""Image files whose names are spelled, encoded or placed otherwise than annotated."""

import os
import unicodedata

import pytest
from support import data_files
from support.data_files import coco_record, coco_set, voc_set, voc_xml

from rpn_jax.data import Problem, open_unannotated, read_coco, read_voc, split_source
from rpn_jax.data.image_folder import ImageFolder

BOX = [1, 1, 9, 9]


def store(root, *names):
    for name in names:
        data_files.save(root / name, data_files.noise(2, 2), format="PNG")
    return ImageFolder(root)


def test_composed_and_decomposed_unicode_find_each_other(tmp_path):
    composed = unicodedata.normalize("NFC", "größe é/ähre.png")
    decomposed = unicodedata.normalize("NFD", composed)
    for number, (stored, asked) in enumerate(
        [(composed, decomposed), (decomposed, composed)]
    ):
        folder = store(tmp_path / str(number), stored)
        path, problem = folder.find(asked)
        assert path == folder.root / stored
        assert problem is Problem.OTHER_SPELLING
        assert folder.find(stored) == (folder.root / stored, None)


def test_another_unicode_form_and_another_extension_go_together(tmp_path):
    folder = store(tmp_path, unicodedata.normalize("NFD", "É.png"))
    assert folder.find("é.jpg")[1] is Problem.RENAMED_FILE


@pytest.mark.parametrize(
    ("stored", "asked"),
    [
        ("a b.png", "a%20b.png"),
        ("ü.png", "%C3%BC.png"),
        (unicodedata.normalize("NFD", "ü.png"), "%C3%BC.png"),
        ("inner/1 (2).png", "inner%2F1%20%282%29.png"),
        ("a%20b.png", "a b.png"),
        ("a b.png", " a b.png "),
    ],
)
def test_percent_encoded_names_are_found(tmp_path, stored, asked):
    folder = store(tmp_path, stored)
    assert folder.find(asked) == (tmp_path / stored, Problem.OTHER_SPELLING)


def test_a_name_as_it_is_written_comes_first(tmp_path):
    folder = store(tmp_path, "a b.png", "a%20b.png")
    assert folder.find("a%20b.png") == (tmp_path / "a%20b.png", None)
    assert folder.find("a b.png") == (tmp_path / "a b.png", None)


@pytest.mark.parametrize(
    "asked",
    [
        "train2017/a.png",  # the folder itself is given
        "data/set/x/a.png",
        "C:\\photos\\x\\a.png",
        "/home/other/x/a.png",
        "../x/a.png",
        "https://example.org/bucket/x/a.png?size=3",
        "file:///home/other/x/a.png",
        "s3://bucket/a.png",
        "a.png",
        "A.JPG",
    ],
)
def test_a_file_below_the_folder_is_found_by_the_end_of_its_path(tmp_path, asked):
    folder = store(tmp_path, "x/a.png" if "train2017" not in asked else "a.png")
    path, problem = folder.find(asked)
    assert path is not None
    assert path.name == "a.png"
    assert problem is Problem.MOVED_FILE
    assert folder.find(asked, elsewhere=False)[0] is None


def test_one_of_several_files_with_a_name_is_chosen_by_its_folder_alone(tmp_path):
    folder = store(tmp_path, "p/x/a.png", "p/y/a.png")
    assert folder.find("a.png") == (None, Problem.MISSING_FILE)
    assert folder.find("z/a.png") == (None, Problem.MISSING_FILE)
    found = (tmp_path / "p/y/a.png", Problem.MOVED_FILE)
    assert folder.find("y/a.png") == folder.find("/data/p/y/a.png") == found


def test_a_file_in_another_folder_than_named_is_another_image(tmp_path):
    folder = store(tmp_path, "camera1/0001.png")
    assert folder.find("camera2/0001.png") == (None, Problem.MISSING_FILE)


def test_a_flat_folder_cannot_serve_two_folders_of_equal_names(tmp_path):
    names = ("left/a.png", "right/a.png", "b.png")
    records = [coco_record(number, BOX) for number in (1, 2, 3)]
    path = coco_set(tmp_path, records, names=names)
    for name in ("a.png", "b.png"):
        data_files.save(tmp_path / "flat" / name, data_files.noise(40, 60))
    source = read_coco(path, tmp_path / "flat")
    assert [source.truth(row).name for row in range(len(source))] == ["b.png"]
    assert source.problems.lost_boxes == {Problem.SHARED_FILE: 2}


def test_a_folder_of_the_names_may_be_the_given_folder(tmp_path):
    records = [coco_record(1, BOX), coco_record(2, BOX)]
    path = coco_set(tmp_path, records, names=("train/a.png", "train/b.png"))
    source = read_coco(path, tmp_path / "images/train")
    assert source.num_boxes.tolist() == [1, 1]
    assert source.problems.counts[Problem.MOVED_FILE] == 2


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("../a.png", "relative to the folder"),
        ("/nowhere/a.png", "relative to the folder"),
        ("https://example.org/a.png", "Download the images"),
        ("a.png", "Name their folder with `images`"),
    ],
)
def test_the_error_says_what_helps_with_names_that_find_nothing(tmp_path, name, advice):
    path = coco_set(tmp_path, [coco_record(1, BOX)])
    content = path.read_text().replace('"a.png"', f'"{name}"')
    (tmp_path / "images/a.png").rename(tmp_path / "images/b.png")
    with pytest.raises(ValueError, match=advice):
        read_coco(data_files.write_json(path, content))


@pytest.mark.parametrize("reader", ["coco", "voc", "none"])
def test_a_name_that_is_not_utf8_survives_everything(tmp_path, reader):
    name = os.fsdecode(b"caf\xe9 \xff.png")
    try:
        data_files.save(tmp_path / "images" / name, data_files.noise(40, 60))
    except OSError:
        pytest.skip("this file system takes no such name")
    if reader == "coco":
        path = coco_set(tmp_path, [coco_record(1, BOX)], names=(name, "b.png"))
        source = read_coco(path)
    elif reader == "voc":
        files = {name: voc_xml((2, 2, 10, 10)), "b.png": voc_xml((2, 2, 10, 10))}
        source = read_voc(voc_set(tmp_path / "voc", files))
    else:
        data_files.save(tmp_path / "images/b.png", data_files.noise(40, 60))
        source = open_unannotated([tmp_path / "images"])
    names = [source.truth(row).name for row in range(len(source))]
    assert sorted(names) == sorted([name, "b.png"])
    parts = split_source(source, 0.5)
    assert sorted(part.truth(0).name for part in parts) == sorted(names)


def test_a_list_may_hold_a_name_that_is_not_utf8(tmp_path):
    name = os.fsdecode(b"caf\xe9.png")
    folder = voc_set(tmp_path, {name: voc_xml((2, 2, 10, 10))}, split="other")
    (folder / "ImageSets/Main/train.txt").write_bytes(b"caf\xe9\nlost\xff\n")
    source = read_voc(folder, "train")
    assert source.truth(0).name == name
    assert source.problems.counts[Problem.MISSING_XML] == 1
    assert source.problems.summary()
