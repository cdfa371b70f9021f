"""Data sets are opened by name, and divided for validation."""

import numpy as np
import pytest
from support import data_files
from support.data_files import coco_record, coco_set, voc_set, voc_xml

from rpn_jax.data import (
    Problem,
    Scenes,
    is_endless,
    open_source,
    open_unannotated,
    read_coco,
    split_source,
)

NAMES = tuple(f"{i}.png" for i in range(10))


def names_of(source):
    return [source.truth(row).name for row in range(len(source))]


def test_scenes_train_without_end_and_validate_on_a_fixed_set():
    train, again = open_source("scenes", seed=1), open_source("scenes", split="train")
    validation = open_source("scenes", split="val", seed=1)
    assert is_endless(train)
    assert is_endless(again)
    assert len(validation) == 200
    fixed = open_source("scenes", split="val", seed=2)
    np.testing.assert_array_equal(validation.pixels(5), fixed.pixels(5))
    for seed in range(3):
        other = open_source("scenes", seed=seed)
        assert not np.array_equal(validation.pixels(0), other.pixels(0))


def test_a_file_is_read_as_coco_and_a_folder_as_voc(tmp_path):
    path = coco_set(tmp_path / "coco", [coco_record(1, [1, 1, 9, 9])])
    (tmp_path / "coco/images").rename(tmp_path / "pictures")
    folder = voc_set(tmp_path / "voc", {"b.png": voc_xml((1, 1, 9, 9))}, split="b")
    assert names_of(open_source(str(path), images=tmp_path / "pictures")) == ["a.png"]
    assert names_of(open_source(folder, split="train")) == ["b.png"]


def test_data_that_is_not_there_is_named_in_the_error(tmp_path):
    with pytest.raises(ValueError, match=r"got '.*none.json', which does not exist"):
        open_source(tmp_path / "none.json")


def test_a_division_is_complete_stable_and_independent_of_order(tmp_path):
    records = [coco_record(3, [1, 1, 9, 9])]
    source = read_coco(coco_set(tmp_path / "a", records, names=NAMES))
    turned = read_coco(coco_set(tmp_path / "b", records, names=NAMES[::-1]))
    train, validation = map(names_of, split_source(source, 0.3, seed=1))
    assert (len(train), len(validation)) == (7, 3)
    assert sorted(train + validation) == sorted(NAMES)
    assert (train, validation) == (sorted(train), sorted(validation))
    _, other_order = split_source(turned, 0.3, seed=1)
    assert sorted(names_of(other_order)) == validation
    _, other_seed = split_source(source, 0.3, seed=2)
    assert names_of(other_seed) != validation


def test_images_that_cannot_be_opened_are_left_out_of_their_part(tmp_path):
    records = [coco_record(number, [1, 1, 9, 9]) for number in range(1, len(NAMES) + 1)]
    path = coco_set(tmp_path, records, names=NAMES)
    parts = [names_of(part) for part in split_source(read_coco(path), 0.5)]
    broken = [names[:2] for names in parts]
    for name in sum(broken, []):
        (tmp_path / "images" / name).write_bytes(b"no image")
    damaged = split_source(read_coco(path), 0.5)
    lost = [[truth.name for truth in part.left_out] for part in damaged]
    assert [names_of(part) for part in damaged] == [names[2:] for names in parts]
    assert lost == broken


def test_a_part_gives_the_images_of_the_whole(tmp_path):
    source = read_coco(coco_set(tmp_path, [coco_record(3, [1, 1, 9, 9])], names=NAMES))
    for part in split_source(source, 0.5):
        assert part.problems is source.problems
        for row in range(len(part)):
            number = NAMES.index(part.truth(row).name)
            np.testing.assert_array_equal(
                part.pixels(row), data_files.noise(40, 60, number)
            )
            assert part.num_boxes[row] == int(number == 2)
            assert tuple(part.image_sizes[row]) == part.truth(row).size


@pytest.mark.parametrize("fraction", [0.001, 0.999])
def test_no_part_is_empty(tmp_path, fraction):
    source = read_coco(coco_set(tmp_path, [coco_record(3, [1, 1, 9, 9])], names=NAMES))
    assert min(map(len, split_source(source, fraction))) == 1


@pytest.mark.parametrize(
    ("source", "fraction"), [(Scenes(), 0.5), (Scenes(0, 1), 0.5), (Scenes(0, 9), 1.0)]
)
def test_what_cannot_be_divided_is_refused(source, fraction):
    with pytest.raises(ValueError, match="split_source needs"):
        split_source(source, fraction)


def test_images_without_annotations_are_read_from_files_and_folders(tmp_path):
    for name in ("b.png", "a.jpg", "sub/c.png", "d.txt"):
        pixels = data_files.noise(8, 9)
        data_files.save(tmp_path / name, pixels, format="PNG")
    (tmp_path / "bad.png").write_bytes(b"")
    source = open_unannotated([tmp_path, tmp_path / "sub/c.png"])
    truths = [source.truth(row) for row in range(len(source))]
    assert [(t.image_id, t.name) for t in truths] == [
        (1, "a.jpg"),
        (2, "b.png"),
        (3, "c.png"),
    ]
    assert source.num_boxes.tolist() == [0, 0, 0]
    assert source.problems.counts == {Problem.BAD_FILE: 1}
    with pytest.raises(ValueError, match="none of 1 files"):
        open_unannotated([tmp_path / "none.png"])
