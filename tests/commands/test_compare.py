"""`rpn-jax compare`: two runs object by object, from their files to the tables."""

import csv
import dataclasses
import json

import numpy as np
import pytest
from PIL import Image
from support import data_files, reference, small_rpn

from rpn_jax import cli, make_anchors
from rpn_jax.commands.compared_pairs import pairs_of
from rpn_jax.data import PipelineConfig, read_coco
from rpn_jax.train import (
    CheckpointStore,
    OptimizerConfig,
    TrainConfig,
    init_state,
    make_mesh,
    make_optimizer,
    resolve,
    write_config,
)
from rpn_jax.train import build as build_module

SIZE = (40, 60)
PIPELINE = PipelineConfig(min_side=40, max_side=60)
RULES = small_rpn.RULES
OTHER = dataclasses.replace(
    RULES, targets=dataclasses.replace(RULES.targets, assigner="task_aligned")
)


def write_run(folder, data, seed, rules):
    """A run without a step."""
    optimizer = OptimizerConfig(name="sgd", momentum=0.0, weight_decay=0.0)
    config = TrainConfig(
        data=str(data),
        val_data=str(data),
        out=str(folder),
        seed=seed,
        pipeline=PIPELINE,
        optimizer=optimizer,
        rpn=rules,
    )
    folder.mkdir(parents=True)
    write_config(resolve(config), folder / "config.json")
    made = make_optimizer(optimizer, lambda _: 0.1)
    _, state = init_state(small_rpn.make_rpn(seed), made, make_mesh())
    store = CheckpointStore(folder / "checkpoints")
    store.save(0, state)
    store.close()
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three images, the first of which has an ignored region and no object."""
    rng = np.random.default_rng(1)
    records = [data_files.coco_record(1, [2, 3, 20, 20], iscrowd=1)]
    for image in (2, 3):
        for _ in range(3):
            x, y, w, h = rng.integers([0, 0, 10, 10], [30, 20, 28, 20]).tolist()
            records.append(
                data_files.coco_record(image, [x, y, w, h], area=float(w * h))
            )
    names = ("a.png", "b.png", "c.png")
    folder = tmp_path_factory.mktemp("set")
    return data_files.coco_set(folder, records, size=SIZE, names=names)


@pytest.fixture(scope="module")
def runs(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return [
        write_run(folder / "a" / "seed_0", data, 0, RULES),
        write_run(folder / "b" / "seed_0", data, 0, OTHER),
    ]


def compare(*arguments):
    return cli.main(["compare", *map(str, arguments)])


def positives_by_hand(truth):
    """How many anchors the rule of A makes positive for each object."""
    shapes = [(SIZE[0] // 8 + 3, SIZE[1] // 8 + 1)]
    anchors = reference.make_anchors(RULES.anchors, shapes)
    assert len(anchors) == len(make_anchors(RULES.anchors, shapes))
    valid = np.ones(len(truth.boxes), bool)
    labels, index, _ = reference.match_anchors(
        anchors, truth.boxes, valid, config=RULES.targets
    )
    return [int(((labels == 1) & (index == j)).sum()) for j in range(len(valid))]


def test_tables_have_every_object_and_what_both_rules_give_it(
    runs, data, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(
        build_module, "build_model", lambda c, *_: small_rpn.make_rpn(c.seed)
    )
    out = tmp_path / "out"
    assert compare(*runs, "--out", out, "--batch-size", "2") == 0
    text = capsys.readouterr().out
    assert "rpn.targets.assigner" in text
    assert "| AR@100 " in text
    with (out / "objects.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == ["b.png"] * 3 + ["c.png"] * 3
    assert [row["object"] for row in rows] == ["0", "1", "2"] * 2
    source = read_coco(data)
    expected = positives_by_hand(source.truth(1)) + positives_by_hand(source.truth(2))
    assert [int(row["positives_a"]) for row in rows] == expected
    assert [row["levels_a"] for row in rows] == list(map(str, expected))
    for row in rows:
        counts = {x: int(row[x]) for x in ("shared", "only_a", "only_b")}
        for name in "ab":
            alone = int(row[f"positives_{name}"]) - counts["shared"]
            assert counts[f"only_{name}"] == alone >= 0
    assert any(row["only_b"] != "0" for row in rows)
    # Both runs have the same weights, so they find the same.
    facts = json.loads((out / "comparison.json").read_text())
    assert {row["difference"] for row in facts["recall"]} == {0.0}
    assert facts["settings"] == {
        "rpn.targets.assigner": ['"max_iou"', '"task_aligned"']
    }
    assert facts["objects"]["all"]["number"] == 6
    with Image.open(out / "labels.png") as picture:
        assert min(picture.size) > 200


def test_folders_of_seeds_are_paired_in_their_order(runs):
    (pair,) = pairs_of(str(runs[0].parent), str(runs[1].parent))
    assert pair == tuple(runs)


def test_what_cannot_be_compared_is_said_in_a_sentence(runs, data, tmp_path, capsys):
    content = json.loads(data.read_text())
    content["annotations"].pop()
    fewer = data_files.write_json(tmp_path / "set.json", content)
    config = json.loads((runs[1] / "config.json").read_text())
    other, two = tmp_path / "other", tmp_path / "two"
    for folder, changes in (
        (other, {"val_data": str(fewer), "val_images": str(data.parent / "images")}),
        (two / "seed_0", {}),
        (two / "seed_1", {}),
    ):
        folder.mkdir(parents=True)
        data_files.write_json(folder / "config.json", config | changes)
    for folders, message in (
        ((runs[0], tmp_path / "none"), "folder of a training run, or of --seeds"),
        ((runs[0], two), "as many runs on both sides, got 1 in"),
        ((runs[0], other), "evaluated on the same images and objects"),
    ):
        assert compare(*folders, "--out", tmp_path / "out") == 1
        lines = capsys.readouterr().err.splitlines()
        (error,) = [line for line in lines if "error: " in line]
        assert error.startswith("rpn-jax: error: compare needs"), error
        assert message in error
    assert not (tmp_path / "out").exists()
