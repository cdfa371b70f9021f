"""Files that end early are named when a set is opened; orientation of all formats."""

import logging

import numpy as np
import pytest
from PIL import Image
from support import data_files
from support.data_files import coco_record, coco_set

from rpn_jax.data import Problem, open_unannotated, read_coco, split_source
from rpn_jax.data.augment import PipelineConfig
from rpn_jax.data.batch import Loader
from rpn_jax.train.reading_tally import ReadingTally, log_problems

FORMATS = ("jpg", "png", "tiff", "bmp", "webp", "gif")


def cut(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])


def open_with_damage(folder, extension, share):
    """A set of two images, of which the second is cut."""
    names = (f"a.{extension}", f"b.{extension}")
    records = [coco_record(1, [1, 1, 9, 9]), coco_record(2, [1, 1, 9, 9])]
    path = coco_set(folder, records, size=(120, 100), names=names)
    cut(folder / "images" / names[1], share)
    return read_coco(path)


@pytest.mark.parametrize("extension", FORMATS)
def test_an_image_that_ends_early_is_named_when_the_set_is_opened(tmp_path, extension):
    source = open_with_damage(tmp_path, extension, 0.8)
    (problem,) = source.problems.counts
    (line,) = source.problems.summary()
    assert line.endswith(f"(first in b.{extension})")
    if extension == "webp":  # its header cannot be read either
        assert problem is Problem.BAD_FILE
    else:
        assert problem in (Problem.TRUNCATED_FILE, Problem.UNDECODABLE_FILE)
        assert len(source) == 2  # evaluation counts its objects as missed
    listed = open_unannotated([tmp_path / "images"])
    assert listed.problems.counts == source.problems.counts


@pytest.mark.parametrize("extension", FORMATS)
def test_a_whole_image_is_not_called_damaged(tmp_path, extension):
    source = open_with_damage(tmp_path, extension, 1.0)
    assert not source.problems.counts
    path = tmp_path / f"images/b.{extension}"
    path.write_bytes(path.read_bytes() + bytes(10_000))  # what tools append
    assert not read_coco(tmp_path / "set.json").problems.counts


@pytest.mark.parametrize("extension", ["jpg", "png"])
def test_an_image_that_is_mostly_missing_is_named_as_well(tmp_path, extension):
    source = open_with_damage(tmp_path, extension, 0.3)
    assert source.problems.counts == {Problem.UNDECODABLE_FILE: 1}


@pytest.mark.parametrize(
    ("share", "line"),
    [
        (0.8, "1 image files end early; their missing parts are blank: b.png."),
        (0.3, "1 images cannot be decoded; other images replaced them: b.png."),
    ],
)
def test_training_names_the_images_that_it_could_not_read(
    tmp_path, caplog, share, line
):
    source = open_with_damage(tmp_path, "png", share)
    loader = Loader(source, PipelineConfig(min_side=100, max_side=120))
    tally = ReadingTally(source)
    for row in (0, 1, 0, 1):
        batch = loader.load(
            row, np.zeros((128, 128, 3), np.uint8), stand_ins=np.array([0, 1])
        )
        tally.add(batch._make(column[None] for column in batch))
    with caplog.at_level(logging.WARNING, "rpn_jax"):
        tally.report()
    assert caplog.messages == [line]


def test_the_problems_of_training_and_validation_data_are_told_apart(tmp_path, caplog):
    train = open_with_damage(tmp_path / "train", "png", 0.8)
    val = open_with_damage(tmp_path / "val", "png", 0.3)
    with caplog.at_level(logging.WARNING, "rpn_jax"):
        log_problems(train, val)
    assert [line.partition(" 1 x")[0] for line in caplog.messages] == [
        "Training data:",
        "Validation data:",
    ]
    caplog.clear()
    with caplog.at_level(logging.WARNING, "rpn_jax"):
        log_problems(*split_source(train, 0.5))
    (line,) = caplog.messages
    assert line.startswith("1 x")


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("orientation", range(5, 9))
@pytest.mark.parametrize("extension", ["jpg", "png", "webp", "tiff"])
def test_the_annotated_size_tells_how_boxes_were_drawn_in_any_format(
    tmp_path, extension, orientation, stored
):
    upright = np.zeros((40, 60, 3), np.uint8)
    upright[5:12, 20:50] = 255
    path = tmp_path / f"images/a.{extension}"
    data_files.save_turned(path, upright, orientation)
    bbox, size = [20, 5, 30, 7], (40, 60)
    if stored:
        # The same turn on a PNG, whose pixels Pillow leaves as they are stored.
        plain = data_files.save_turned(tmp_path / "plain.png", upright, orientation)
        with Image.open(plain) as image:
            rows, columns = np.nonzero(np.asarray(image)[..., 0])
        bbox, size = [int(columns.min()), int(rows.min()), 7, 30], (60, 40)
    image = {"id": 1, "file_name": path.name, "height": size[0], "width": size[1]}
    content = {"images": [image], "annotations": [coco_record(1, bbox)]}
    source = read_coco(data_files.write_json(tmp_path / "set.json", content))
    assert source.truth(0).size == (40, 60)
    assert source.truth(0).boxes.tolist() == [[20, 5, 50, 12]]
    assert source.problems.counts == ({Problem.TURNED: 1} if stored else {})
    inside = source.pixels(0)[5:12, 20:50]
    assert inside.mean() > 240


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_cut_tiff_is_turned_as_a_whole_one_is(tmp_path, orientation):
    upright = data_files.noise(200, 100)
    path = data_files.save_turned(tmp_path / "a.tiff", upright, orientation)
    cut(path, 0.8)
    source = open_unannotated([path])
    assert source.problems.counts == {Problem.TRUNCATED_FILE: 1}
    decoded = source.decode(0)
    assert decoded.truncated
    assert decoded.pixels.shape == (200, 100, 3)
    is_kept = (decoded.pixels == upright).all(axis=-1)
    assert 0.5 < is_kept.mean() < 0.9


def test_a_set_of_crowds_alone_says_what_to_change(tmp_path):
    records = [coco_record(1, [1, 1, 9, 9], iscrowd=1)] * 2
    records[1] = coco_record(1, [9, 9, 9, 9], iscrowd="true")
    path = coco_set(tmp_path, records)
    with pytest.raises(ValueError, match=r"All 2 boxes are ignored regions.*iscrowd"):
        read_coco(path)
