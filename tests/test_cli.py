"""The command, from a data set on disk to its results."""

import contextlib
import dataclasses
import errno
import importlib.util
import io
import json
import logging
import os
import pathlib
import shutil
import signal
import sys
import time
import types
from typing import NamedTuple

import jax
import numpy as np
import pytest
from PIL import Image
from support import data_files

from rpn_jax import cli, export, presets
from rpn_jax.commands.flags import parse_training
from rpn_jax.data import Scenes
from rpn_jax.evaluate import read_coco_results
from rpn_jax.models import export_weights, load_weights
from rpn_jax.models.interop import read_tensors
from rpn_jax.train import (
    OptimizerConfig,
    Progress,
    ResolvedConfig,
    TrainConfig,
    build_model,
    load_run,
    read_config,
    resolve,
    write_config,
)

HAS_PAGES = all(map(importlib.util.find_spec, ("jinja2", "plotly")))
SMALL = ["--pipeline.min-side", "64", "--pipeline.max-side", "96"]


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    """Ten scenes as a COCO set, one file of which is missing."""
    folder = tmp_path_factory.mktemp("coco set")
    scenes, annotations, images = Scenes(1, 10), [], []
    for row in range(10):
        truth = scenes.truth(row)
        name = f"scene {row}.png"
        images.append({"id": 7 * row + 1, "file_name": name})
        if row:
            data_files.save(folder / "images" / name, scenes.pixels(row))
        for number, (x0, y0, x1, y1) in enumerate(truth.boxes.tolist()):
            box = [x0, y0, x1 - x0, y1 - y0]
            annotations.append(
                data_files.coco_record(7 * row + 1, box, iscrowd=int(number == 2))
            )
    return data_files.write_json(
        folder / "set.json", {"images": images, "annotations": annotations}
    )


@pytest.fixture(scope="module")
def trained(coco, tmp_path_factory):
    """A run of four steps, in which no program gives a number that is not finite."""
    out = tmp_path_factory.mktemp("runs") / "run"
    flags = ["--data", str(coco), "--backbone", "tiny_fpn", "--out", str(out)]
    flags += ["--fpn-features", "8"]
    numbers = ["--steps", "4", "--log-every", "2", "--batch-size", "2"]
    with jax.debug_nans(True), jax.debug_infs(True):
        assert cli.main(["train", *flags, *numbers, *SMALL]) == 0
    return out


def test_training_leaves_what_the_readme_promises(trained):
    names = {path.name for path in trained.iterdir()}
    pictures = {"labels.png", "losses.png", "proposals.png", "recall.png"}
    assert pictures | {"config.json", "metrics.jsonl", "recall.json"} <= names
    assert ("report.html" in names) is HAS_PAGES
    for name in pictures:
        with Image.open(trained / name) as picture:
            assert min(picture.size) > 200
    lines = (trained / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [2, 4]
    assert (trained / "checkpoints" / "4" / "manifest.json").exists()
    # One of nine images is set aside, and crowds are ignored regions.
    recall = json.loads((trained / "recall.json").read_text())
    assert recall["num_images"] == 1
    config = json.loads((trained / "config.json").read_text())
    assert config["rpn"]["targets"]["ignore_iof"] == 0.5


class Inspected(NamedTuple):
    """What `rpn-jax inspect` wrote and printed."""

    out: pathlib.Path
    printed: str
    logged: str

    def facts(self):
        return json.loads((self.out / "inspection.json").read_text())


@pytest.fixture(scope="module")
def inspected(coco, tmp_path_factory):
    out = tmp_path_factory.mktemp("inspection")
    printed, logged = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(logged):
        flags = ["--data", str(coco), "--out", str(out), *SMALL]
        assert cli.main(["inspect", *flags]) == 0
    return Inspected(out, printed.getvalue(), logged.getvalue())


def test_what_was_wrong_with_the_data_is_said(inspected):
    assert "1 x image file not found" in inspected.logged
    assert "scene 0.png" in inspected.logged
    assert "| objects" in inspected.printed
    with Image.open(inspected.out / "inspection.png") as picture:
        assert min(picture.size) > 400
    assert (inspected.out / "report.html").exists() is HAS_PAGES
    problems = inspected.facts()["problems"]
    assert any("image file not found" in line for line in problems)


def test_evaluation_repeats_the_recall_of_the_training(trained, capsys):
    assert cli.main(["evaluate", "--run", str(trained)]) == 0
    assert "Step 4." in capsys.readouterr().out
    again = (trained / "evaluation" / "recall.json").read_text()
    assert json.loads(again) == json.loads((trained / "recall.json").read_text())


def test_the_weights_of_a_run_become_a_file_for_torch(trained, tmp_path, capsys):
    target = tmp_path / "weights.safetensors"
    flags = ["--from", str(trained), "--to", str(target), "--system", "torchvision"]
    assert cli.main(["convert", *flags]) == 0
    assert "0 were left out" in capsys.readouterr().out
    model, found = load_run(trained).model, read_tensors(target)
    expected = export_weights(model, "torchvision")
    assert found.keys() == expected.keys()
    assert "rpn.head.cls_logits.weight" in found
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)
    fresh = build_model(read_config(ResolvedConfig, trained / "config.json"))
    assert load_weights(fresh, target).missing == ()
    kernel = fresh.head.deltas.kernel[...]
    np.testing.assert_array_equal(kernel, model.head.deltas.kernel[...])


def test_proposals_are_boxes_of_the_original_images(trained, coco, tmp_path):
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    for row in (1, 2):
        shutil.copy(coco.parent / f"images/scene {row}.png", images)
    Image.new("L", (50, 90)).save(tmp_path / "grey and tall.png")
    flags = ["--images", str(images), str(tmp_path / "grey and tall.png")]
    numbers = ["--max-proposals", "30", "--drawn", "5", "--out", str(out)]
    assert cli.main(["propose", "--run", str(trained), *flags, *numbers]) == 0
    listed = json.loads((out / "images.json").read_text())
    sizes = {image["id"]: (image["width"], image["height"]) for image in listed}
    assert len(sizes) == 3
    assert (50, 90) in sizes.values()
    found = read_coco_results(out / "proposals.json")
    assert {image.image_id for image in found} == set(sizes)
    for image in found:
        assert 0 < len(image.scores) <= 30
        assert np.all(np.diff(image.scores) <= 0)
        assert image.boxes.min() >= 0
        assert np.all(
            image.boxes.max(axis=0)[2:] <= np.add(sizes[image.image_id], 1e-2)
        )
    assert len(list(out.glob("*.png"))) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--data", "nowhere.json"], "nowhere.json"),
        (["train", "--epochs", "2"], "needs --steps for scenes"),
        (["train", "--backbone", "vgg16", "--preset", "mmdet_fpn"], "Choose"),
        (["train", "--config", "nowhere.json"], "nowhere.json"),
        (["evaluate", "--run", "nowhere"], "nowhere"),
    ],
)
def test_a_mistake_gets_one_line(arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("rpn-jax: error: ")
    assert message in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--batch-size", "3", "--accumulate", "2"], "accumulate"),
        (["--steps", "0"], "above 0"),
        (["--steps", "1", "--epochs", "1"], "not both"),
        (["--stesp", "1"], "--stesp"),
    ],
)
def test_flags_that_make_no_sense_are_explained(flags, message, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["train", *flags])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_no_image_to_propose_for_is_an_error(tmp_path, capsys):
    files = ["--images", str(tmp_path / "nowhere.jpg")]
    assert cli.main(["propose", "--run", "nowhere", *files]) == 1
    assert "nowhere.jpg" in capsys.readouterr().err


def test_a_folder_with_a_run_is_an_error_without_resume(trained, capsys):
    config = ["--config", str(trained / "config.json")]
    assert cli.main(["train", *config]) == 1
    assert "--resume" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["network", "core"])
def test_a_run_becomes_a_file_for_other_runtimes(what, trained, tmp_path, capsys):
    pytest.importorskip("flatbuffers")
    target = tmp_path / "new" / "model.stablehlo"
    flags = ["--core"] if what == "core" else []
    arguments = ["export", "--run", str(trained), "--to", str(target), *flags]
    assert cli.main(arguments) == 0
    said, found = capsys.readouterr().out, export.load(target).description
    assert str(target) in said
    assert f"in:  {found.inputs[0]}" in said
    first = {"network": ("b", 64, 96, 3), "core": ("b", 4608)}[what]
    assert (found.content, found.inputs[0].shape[: len(first)]) == (what, first)
    assert found.source == "step 4 of a training run, backbone tiny_fpn"


def test_export_refuses_what_it_cannot_write_before_it_reads(trained, capsys):
    both = ["--run", str(trained), "--weights", "a.pth"]
    for flags, message in (
        (["--to", "a.onnx"], "export needs either --run"),
        (["--to", "a.onnx", *both], "exactly one of them"),
        (["--to", "a.pb", "--run", "nowhere"], "ends in .stablehlo or .onnx, got a.pb"),
    ):
        assert cli.main(["export", *flags]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line


def test_help_names_the_commands(capsys):
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in cli.COMMANDS)
    assert cli.main(["trian"]) == 2


@pytest.mark.parametrize("command", list(cli.COMMANDS))
def test_every_command_has_help_without_doing_anything(command, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([command, "--help"])
    assert stop.value.code == 0
    assert f"rpn-jax {command}" in capsys.readouterr().out


def test_a_configuration_is_the_same_after_it_was_written(tmp_path):
    flags = ["--rpn.anchors.sizes", "8,12", "32", "64", "128", "256", "--lr", "1"]
    config = resolve(parse_training(["--data", "a.json", *flags]))
    assert config.rpn.anchors.sizes == ((8.0, 12.0), 32.0, 64.0, 128.0, 256.0)
    write_config(config, tmp_path / "config.json")
    assert read_config(type(config), tmp_path / "config.json") == config
    again = parse_training(["--config", str(tmp_path / "config.json"), "--seed", "3"])
    assert (again.seed, again.rpn) == (3, config.rpn)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "TrainConfig needs"),
        ('{"sede": 1}', "sede"),
        ('{"seed": "one"}', "TrainConfig.seed"),
        ('{"optimizer": {"momentum": [1]}}', "TrainConfig.optimizer.momentum"),
        ("{", "JSON"),
    ],
)
def test_a_damaged_configuration_names_the_field(text, message, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_config(TrainConfig, path)


def test_defaults_follow_the_data_and_the_backbone():
    scenes, real = resolve(TrainConfig()), resolve(TrainConfig(data="a.json"))
    assert (scenes.backbone, real.backbone) == ("tiny_fpn", "mobilenet_v2_fpn")
    assert (scenes.optimizer.name, scenes.lr, real.lr) == ("muon", 7e-3, 1e-3)
    assert (scenes.batch_size, real.batch_size) == (4, 8)
    assert real.rpn == presets.pyramid()
    assert scenes.rpn == dataclasses.replace(real.rpn, num_pointwise=1)
    c4 = resolve(TrainConfig(data="a.json", backbone="resnet50_c4"))
    assert len(c4.rpn.anchors.strides) == 1
    given = TrainConfig(
        data="a.json", init_weights="w.npz", weights_system="torchvision"
    )
    weights = resolve(given)
    assert (weights.frozen_stages, real.frozen_stages) == (2, 0)
    assert (weights.trunk_lr_scale, real.trunk_lr_scale) == (0.2, 1.0)
    for name in ("sgd", "muon"):
        other = dataclasses.replace(given, optimizer=OptimizerConfig(name=name))
        assert resolve(other).trunk_lr_scale == 1.0
    assert (weights.optimizer.name, real.optimizer.name) == ("adamw", "muon")
    parts = resolve(TrainConfig(accumulate=3))
    assert parts.batch_size == 6


@pytest.fixture
def stand_in(monkeypatch):
    """Lets a function stand in for `rpn-jax evaluate`, and runs the command."""

    def run(function, name="evaluate"):
        monkeypatch.setattr(f"rpn_jax.commands.{name}.main", lambda _: function())
        return cli.main([name])

    return run


def raises(error):
    def fail():
        raise error

    return fail


@pytest.mark.parametrize(
    ("encoding", "printed"),
    [("ascii", "32? px ? ?"), ("gbk", "32? px 猫 ?"), ("utf-8", "32² px 猫 ?")],
)
@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_a_terminal_that_lacks_a_character_prints_a_replacement(
    encoding, errors, printed, stand_in, monkeypatch
):
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors=errors)
    monkeypatch.setattr(sys, "stdout", out)
    assert stand_in(lambda: "32² px 猫 \udce9") == 0
    assert out.buffer.getvalue().decode(encoding) == f"{printed}\n"
    assert out.errors == errors


def test_an_error_with_any_character_is_printed(stand_in, monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stderr", out)
    assert stand_in(raises(ValueError("no file söt\udce9.json"))) == 1
    out.flush()
    assert out.buffer.getvalue() == b"rpn-jax: error: no file s?t?.json\n"


def test_an_output_that_is_no_terminal_or_file_works(stand_in, monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    assert stand_in(lambda: "32² px") == 0
    assert out.getvalue() == "32² px\n"


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_only_an_interrupted_training_is_told_to_resume(name, stand_in, capsys):
    assert stand_in(raises(KeyboardInterrupt()), name) == 130
    error = capsys.readouterr().err
    assert error.startswith("rpn-jax: error: interrupted.")
    assert ("--resume" in error) is (name == "train")


class StoppedRun:
    """A run of five steps, during which SIGTERM comes, or after which it comes."""

    config = resolve(TrainConfig())
    num_steps, best = 5, None
    stops_after, is_stopped = 3, False

    def __init__(self, *_):
        self.step, self.model = 0, None
        self.folder = types.SimpleNamespace(path=pathlib.Path("runs/stopped"))
        self.sources = types.SimpleNamespace(train=None, val=Scenes(1, 1))

    def steps(self, is_stopped):
        while self.step < self.num_steps and not is_stopped():
            self.step += 1
            if self.step == self.stops_after:
                stop_this_process(is_stopped)
            self.is_stopped = is_stopped()
            yield Progress(self.step, {"loss": 1.0, "images_per_second": 1.0})

    def close(self):
        pass


def stop_this_process(has_come):
    os.kill(os.getpid(), signal.SIGTERM)
    while not has_come():
        time.sleep(0.01)


@pytest.fixture
def stopped_run(monkeypatch):
    monkeypatch.setattr("rpn_jax.commands.train.Run", StoppedRun)
    monkeypatch.setattr("rpn_jax.commands.train.draw_labels", lambda *_, **__: None)


def test_sigterm_in_training_exits_with_0_and_says_how_to_go_on(stopped_run, capsys):
    assert cli.main(["train"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("SIGTERM ended the run after step 3 of 5, which is saved.")
    assert "--resume" in line


def test_sigterm_in_the_last_evaluation_exits_with_0(stopped_run, capsys, monkeypatch):
    monkeypatch.setattr(StoppedRun, "stops_after", None)
    monkeypatch.setattr(
        "rpn_jax.commands.train.write_evaluation",
        lambda *_, **__: stop_this_process(lambda: False),
    )
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as stop:
        cli.main(["train"])
    assert stop.value.code == 0
    assert "All steps are saved in" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "a.json"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        ValueError('RESOURCE_EXHAUSTED: Failed writing: "a": No space left on device'),
    ],
)
def test_a_full_disk_is_one_line(error, stand_in, capsys, caplog):
    def fail():
        # orbax logs what it raises, with its traceback.
        try:
            raise error
        except (OSError, ValueError):
            logging.getLogger("absl").exception("a thread failed")
            raise

    assert stand_in(fail) == 1
    assert not caplog.records
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("rpn-jax: error: the disk is full: ")
    assert "--resume" not in line


def test_a_full_target_of_a_redirection_is_an_error(stand_in, monkeypatch, capsys):
    class Full(io.RawIOBase):
        def writable(self):
            return True

        is_full = True

        def write(self, content):
            if self.is_full:
                raise OSError(errno.ENOSPC, "No space left on device")
            return len(content)

    target = Full()
    out = io.TextIOWrapper(io.BufferedWriter(target), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    assert stand_in(lambda: "a table") == 1
    assert "the disk is full" in capsys.readouterr().err
    target.is_full = False  # so that Python can close it


def test_what_inspect_prints_can_be_pasted(inspected, coco):
    flags, said = ["--data", str(coco), *SMALL], inspected.printed
    assert "px are pixels of the resized images" in said
    facts = inspected.facts()
    pasted = next(x for x in said.splitlines() if x.startswith("--rpn.anchors."))
    assert pasted == facts["suggested_flags"]
    config = parse_training([*flags, *pasted.split()])
    assert config.rpn is not None
    anchors, wanted = config.rpn.anchors, facts["suggestion"]
    assert anchors.level_sizes == tuple(map(tuple, wanted["sizes"]))
    assert list(anchors.aspect_ratios) == wanted["aspect_ratios"]
    before = resolve(parse_training(flags)).rpn.anchors
    assert len(anchors.level_sizes[0]) == len(before.level_sizes[0])
