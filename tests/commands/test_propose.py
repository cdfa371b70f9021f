"""What `rpn-jax propose` writes, without a network."""

import json
import os

import numpy as np
import pytest
from support import data_files

from rpn_jax.commands import propose
from rpn_jax.commands.listed_names import names_of_files
from rpn_jax.data import open_unannotated
from rpn_jax.evaluate import ImageProposals, read_coco_results

PIXELS = np.full((20, 30, 3), 99, np.uint8)


def proposals_for(source, options):
    for row in range(len(source)):
        try:
            source.pixels(row)
        except ValueError:
            continue
        boxes = np.array([[1, 2, 9, 8]], np.float32)
        scores = np.array([0.5], np.float32)
        yield row, ImageProposals(source.truth(row).image_id, boxes, scores)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs the command on files with one proposal each."""
    monkeypatch.setattr(propose, "_predictions", proposals_for)

    def of(*images, drawn="3"):
        out = tmp_path / "out"
        flags = ["--run", "x", "--out", str(out), "--drawn", drawn]
        said = propose.main([*flags, "--images", *map(str, images)])
        return said, json.loads((out / "images.json").read_text()), out

    return of


def test_equal_names_in_two_folders_are_told_apart(tmp_path, run):
    for name in ("a/x.jpg", "b/x.jpg", "b/deep/y.jpg"):
        data_files.save(tmp_path / "set" / name, PIXELS)
    folders = [tmp_path / "set" / name for name in ("b", "a", "b/deep")]
    _, listed, out = run(*folders)
    assert [x["file_name"] for x in listed] == ["b/x.jpg", "a/x.jpg", "b/deep/y.jpg"]
    assert [x["id"] for x in listed] == [1, 2, 3]
    names = {path.name for path in out.glob("*.png")}
    assert names == {"000001_x.png", "000002_x.png", "000003_y.png"}


def test_different_names_stay_as_they_are(tmp_path, run):
    for name in ("a/x.jpg", "b/y.jpg"):
        data_files.save(tmp_path / name, PIXELS)
    _, listed, _ = run(tmp_path / "a", tmp_path / "b")
    assert [x["file_name"] for x in listed] == ["x.jpg", "y.jpg"]


def test_a_file_that_was_left_out_does_not_give_its_folder_to_another(tmp_path):
    for name in ("a/x.jpg", "b/x.jpg", "c/x.jpg"):
        data_files.save(tmp_path / name, PIXELS)
    (tmp_path / "a" / "x.jpg").write_text("no image")
    folders = [tmp_path / name for name in "abc"]
    source = open_unannotated(folders)
    assert names_of_files(source) == ["b/x.jpg", "c/x.jpg"]


def test_files_and_folders_may_be_mixed(tmp_path):
    files = [data_files.save(tmp_path / n / "x.png", PIXELS) for n in "ab"]
    paths = [files[0], tmp_path / "b"]
    assert names_of_files(open_unannotated(paths)) == ["a/x.png", "b/x.png"]


@pytest.mark.parametrize("stem", ["x" * 244, "x" * 251, "ä" * 125, "猫" * 83])
def test_a_name_as_long_as_a_file_system_allows_gets_a_picture(stem, tmp_path, run):
    path = data_files.save(tmp_path / "long" / f"{stem}.png", PIXELS)
    said, listed, out = run(path)
    assert listed[0]["file_name"] == path.name
    (picture,) = out.glob("*.png")
    assert picture.name.startswith(f"000001_{stem[:50]}")
    assert said.startswith("1 proposals for 1 images")


def test_a_name_that_is_not_utf_8_gets_a_picture(tmp_path, run):
    folder = tmp_path / "odd"
    data_files.save(folder / "a.png", PIXELS)
    try:
        os.rename(folder / "a.png", os.fsencode(folder) + b"/caf\xe9.png")
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    _, listed, out = run(folder)
    assert listed[0]["file_name"] == "caf\udce9.png"
    assert len(list(out.glob("*.png"))) == 1


def test_a_picture_that_fails_costs_no_proposal(tmp_path, run, monkeypatch, caplog):
    def fails(*_, **__):
        assert (tmp_path / "out" / "proposals.json").exists()
        raise ValueError("no font")

    monkeypatch.setattr("rpn_jax.plot.image_axes", fails)
    paths = [data_files.save(tmp_path / f"{n}.png", PIXELS) for n in "ab"]
    said, listed, out = run(*paths)
    assert len(listed) == len(read_coco_results(out / "proposals.json")) == 2
    assert [x.getMessage().split(": ")[1] for x in caplog.records] == ["no font"] * 2
    assert said.startswith("2 proposals for 2 images")


def test_an_image_that_cannot_be_decoded_is_listed_and_counted(tmp_path, run):
    paths = [data_files.save(tmp_path / f"{n}.png", PIXELS) for n in "ab"]
    paths[0].write_bytes(paths[0].read_bytes()[:60])
    said, listed, out = run(*paths)
    assert said.endswith("1 of 2 images cannot be decoded.")
    assert [x.get("unreadable", False) for x in listed] == [True, False]
    assert [x.image_id for x in read_coco_results(out / "proposals.json")] == [2]
