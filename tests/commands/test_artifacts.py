"""Results of commands when some images cannot be decoded."""

import json
from typing import Any

import numpy as np
import pytest
from support import data_files

from rpn_jax import RPNConfig
from rpn_jax.commands import artifacts
from rpn_jax.data import ImageError, PipelineConfig, read_coco
from rpn_jax.evaluate import ImageProposals, read_coco_results

BOX = [5, 6, 20, 15]


def coco_with_damage(folder, number, damaged, left=60):
    """Images of one object each; of the last ones `left` bytes are left."""
    names = [f"{i}.png" for i in range(number)]
    boxes = [data_files.coco_record(i + 1, BOX) for i in range(number)]
    path = data_files.coco_set(folder, boxes, names=names)
    for name in names[number - damaged :]:
        file = folder / "images" / name
        file.write_bytes(file.read_bytes()[:left])
    return read_coco(path)


def perfect(model, source, **options):
    """Proposes the object of every image that can be decoded, the last first."""
    for row in reversed(range(len(source))):
        try:
            source.decode(row)
        except ImageError:
            continue
        truth = source.truth(row)
        yield row, ImageProposals(truth.image_id, truth.boxes, np.ones(1, np.float32))


@pytest.fixture
def evaluated(tmp_path, monkeypatch):
    """Evaluates a set of four images with some that are damaged."""
    monkeypatch.setattr(artifacts, "predict", perfect)

    def evaluate(damaged, *, draws=False, find_facts=None, **damage):
        if not draws:
            monkeypatch.setattr(artifacts.pictures, "draw_evaluation", lambda *_: None)
        model: Any = None  # `perfect` does without one
        return artifacts.write_evaluation(
            model,
            coco_with_damage(tmp_path, 4, damaged, **damage),
            tmp_path / "out",
            pipeline=PipelineConfig(),
            config=RPNConfig(),
            batch_size=2,
            find_facts=find_facts,
        )

    return evaluate


def test_undecodable_images_count_as_images_without_proposals(
    evaluated, tmp_path, caplog
):
    report = evaluated(1)
    assert report.coco.average(100) == report.detectron2.average(100) == 0.75
    assert (report.num_images, report.unreadable) == (4, ("3.png",))
    assert report.table().endswith(
        "\n\n1 of 4 images cannot be read. Their objects count as missed."
    )
    facts = json.loads((tmp_path / "out" / "recall.json").read_text())
    assert facts["unreadable"] == ["3.png"]
    (said,) = (x.getMessage() for x in caplog.records)
    assert said == "1 of 4 images cannot be decoded, so they have no proposals: 3.png."


def test_all_images_undecodable_is_a_recall_of_zero(evaluated, tmp_path):
    report = evaluated(4, draws=True)
    assert report.coco.average(100) == 0.0
    assert "4 of 4 images cannot be read" in report.table()
    assert read_coco_results(tmp_path / "out" / "proposals.json") == []
    assert (tmp_path / "out" / "recall.png").exists()


def test_readable_images_are_not_mentioned(evaluated):
    assert "cannot" not in evaluated(0).table()


def test_images_that_cannot_be_opened_count_as_images_without_proposals(evaluated):
    report = evaluated(1, left=20)
    assert report.coco.average(100) == report.detectron2.average(100) == 0.75
    assert (report.num_images, report.unreadable) == (4, ("3.png",))
    assert report.num_objects.tolist()[:2] == [4, 4]  # all, small


def test_the_numbers_are_written_before_any_picture_fails(
    evaluated, tmp_path, monkeypatch, caplog
):
    def fails(*_):
        names = {path.name for path in (tmp_path / "out").iterdir()}
        assert {"recall.json", "proposals.json"} <= names
        raise ValueError("no font")

    monkeypatch.setattr("rpn_jax.plot.plot_recall", fails)
    monkeypatch.setattr("rpn_jax.plot.plot_proposals", fails)
    assert evaluated(0, draws=True).coco.average(100) == 1.0
    said = [x.getMessage() for x in caplog.records]
    assert len(said) == 2
    assert all(line.endswith("was not drawn: no font") for line in said)


def test_a_page_that_fails_costs_one_warning(evaluated, tmp_path, caplog):
    def fails():
        assert (tmp_path / "out" / "recall.json").exists()
        raise OSError("no space")

    (tmp_path / "out").mkdir()
    page = tmp_path / "out" / "report.html"
    page.write_text("of an older run")
    assert evaluated(0, find_facts=fails).coco.average(100) == 1.0
    (said,) = (x.getMessage() for x in caplog.records)
    assert said == f"The page {page} was not written: no space"
    assert not page.exists()


def test_a_warning_names_ten_images_and_counts_the_others(tmp_path, caplog):
    source = coco_with_damage(tmp_path, 12, 0)
    artifacts.collect([], source, "testing")
    assert caplog.records[0].getMessage().endswith("9.png and 2 more.")


def test_what_json_cannot_hold_leaves_the_old_file(tmp_path):
    (tmp_path / "a.json").write_text("old")
    with pytest.raises(TypeError):
        artifacts.write_json({"a": object()}, tmp_path / "a.json")
    assert (tmp_path / "a.json").read_text() == "old"
