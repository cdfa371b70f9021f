"""Pictures of the commands: a failure costs a line, and no number."""

import logging

import numpy as np
import pytest
from PIL import Image
from support import data_files

from rpn_jax import plot
from rpn_jax.commands import pictures
from rpn_jax.data import open_unannotated


def a_figure():
    figure = plot.new_figure(2, 1)
    figure.subplots()
    return figure


def fails():
    raise RuntimeError("no such colour\nand a page of text")


def test_a_picture_that_fails_costs_one_line(tmp_path, caplog):
    pictures.draw_picture(tmp_path / "a.png", fails)
    assert not list(tmp_path.iterdir())
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().endswith("a.png was not drawn: no such colour")


def test_a_failed_picture_leaves_no_older_one(tmp_path):
    (tmp_path / "a.png").write_bytes(b"of older numbers")
    pictures.draw_picture(tmp_path / "a.png", fails)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", ["nowhere/a.png", "a.txt/b.png", f"{'x' * 300}.png"])
def test_a_place_that_cannot_be_written_costs_one_line(place, tmp_path, caplog):
    (tmp_path / "a.txt").touch()
    pictures.draw_picture(tmp_path / place, a_figure)
    assert len(caplog.records) == 1


def test_letters_that_the_font_lacks_are_no_warning(tmp_path, caplog):
    figure = a_figure()
    figure.axes[0].set_title("猫.jpg")
    pictures.draw_picture(tmp_path / "a.png", lambda: figure)
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width == 220
    assert not caplog.records


def test_an_evaluation_without_any_readable_image_has_a_picture_of_recall(
    tmp_path, caplog
):
    from rpn_jax.commands.artifacts import recall_of

    path = data_files.save(tmp_path / "a.png", np.zeros((9, 9, 3), np.uint8))
    source = open_unannotated([path])
    pictures.draw_evaluation(recall_of(source, {}), source, {}, tmp_path)
    assert (tmp_path / "recall.png").exists()
    assert [x.getMessage() for x in caplog.records] == [
        "No proposals.png was drawn: no image could be decoded."
    ]
