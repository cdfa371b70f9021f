"""Flags: paths, anchors that are printed and read again, and defaults in the help."""

import dataclasses
import json
import shlex
import typing

import pytest

from rpn_jax import AnchorConfig, presets
from rpn_jax.commands import flags
from rpn_jax.commands.anchor_flags import flags_of
from rpn_jax.commands.compare import CompareConfig
from rpn_jax.commands.convert import ConvertConfig
from rpn_jax.commands.evaluate import EvaluateConfig
from rpn_jax.commands.export import ExportConfig
from rpn_jax.commands.propose import ProposeConfig
from rpn_jax.commands.report import ReportConfig
from rpn_jax.train import (
    ResolvedConfig,
    TrainConfig,
    read_config,
    resolve,
    write_config,
)

COMMANDS = (
    *(CompareConfig, ConvertConfig, EvaluateConfig, ExportConfig),
    *(ProposeConfig, ReportConfig, TrainConfig),
)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    return tmp_path


def test_a_tilde_is_the_home_folder_in_every_form_of_a_flag(home):
    config = flags.parse_training(["--data=~/set.json", "--out", "~/runs/a"])
    assert config.data == f"{home}/set.json"
    assert config.out == f"{home}/runs/a"
    options = flags.parse(ProposeConfig, ["--run=~/r", "--images", "~/a", "b~", "~/c"])
    assert options.images == (f"{home}/a", "b~", f"{home}/c")
    assert options.run == f"{home}/r"
    options = flags.parse(ConvertConfig, ["--from=~/a.npz", "--to=~/b.npz"])
    assert (options.source, options.target) == (f"{home}/a.npz", f"{home}/b.npz")


@pytest.mark.parametrize("form", [["--config=~/c.json"], ["--config", "~/c.json"]])
def test_a_tilde_in_a_config_file_and_in_its_name_is_the_home_folder(form, home):
    (home / "c.json").write_text(json.dumps({"data": "~/s.json", "images": "~"}))
    config = flags.parse_training(form)
    assert (config.data, config.images) == (f"{home}/s.json", str(home))


@pytest.mark.parametrize("data", ["scenes", "a~/b", "./~/b", "~nobody-of-this-name/b"])
def test_other_tildes_are_left_alone(data, home):
    assert flags.parse_training(["--data", data]).data == data


@pytest.mark.parametrize("kind", COMMANDS)
def test_every_text_without_choices_is_a_path_or_the_name_of_a_part(kind):
    hints = typing.get_type_hints(kind)
    texts = {name for name, hint in hints.items() if "str" in _members(hint)}
    assert texts <= flags.PATHS | {"split", "val_split", "source_part", "coordinator"}


def _members(hint):
    return {x.__name__ for x in (hint, *typing.get_args(hint)) if isinstance(x, type)}


CONFIGS = {
    "default": AnchorConfig(),
    "octaves": presets.pyramid().anchors,
    "legacy": presets.jwyang_res101_coco().anchors,
    "corners": presets.torchvision_fpn().anchors,
    "size_major": presets.detectron2_c4().anchors,
    "centred": presets.tf_vision_fpn().anchors,
    "oblong": AnchorConfig(sizes=((9, 30.5), (47, 99)), strides=((4, 7), 16)),
    "long_numbers": AnchorConfig(
        sizes=((16 * 2 ** (1 / 3), 1 / 3), (1e-5, 123456.789)),
        strides=(8, 16),
        aspect_ratios=(1 / 3, 0.5, 2 / 3),
        center_offset=0.1,
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("others", [[], ["--preset", "jwyang_vgg16"]])
def test_pasting_the_flags_of_anchors_builds_the_same_anchors(name, others):
    pasted = shlex.split(flags_of(CONFIGS[name]))
    config = flags.parse_training([*others, *pasted])
    assert config.rpn is not None
    assert config.rpn.anchors == CONFIGS[name]


def test_the_flags_of_anchors_have_every_field():
    text = flags_of(AnchorConfig())
    for field in dataclasses.fields(AnchorConfig):
        assert field.name.replace("_", "-") in text


def test_objectness_as_quality_is_a_flag_that_a_run_keeps(tmp_path):
    losses = [
        "--rpn.losses.objectness",
        "iou",
        "--rpn.losses.quality-loss",
        "varifocal",
    ]
    config = resolve(flags.parse_training([*losses, "--rpn.losses.quality-beta", "1"]))
    assert config.rpn.losses == dataclasses.replace(
        presets.pyramid().losses,
        objectness="iou",
        quality_loss="varifocal",
        quality_beta=1.0,
    )
    write_config(config, tmp_path / "config.json")
    assert read_config(ResolvedConfig, tmp_path / "config.json") == config


def test_a_flag_of_the_targets_sets_its_value_for_all_stages():
    config = resolve(flags.parse_training(["--rpn.targets.num-samples", "64"]))
    assert config.rpn.losses.num_samples == 64
    legacy = ["--backbone", "vgg16", "--rpn.targets.pixel-offset", "0"]
    assert resolve(flags.parse_training(legacy)).rpn.proposals.pixel_offset == 0


def test_a_flag_of_another_stage_may_not_contradict_the_targets(capsys):
    with pytest.raises(SystemExit):
        flags.parse_training(["--rpn.losses.num-samples", "64"])
    assert "got 512" in capsys.readouterr().err


def _help(arguments, capsys):
    with pytest.raises(SystemExit):
        flags.parse_training([*arguments, "--help"])
    return " ".join(capsys.readouterr().out.replace("│", " ").split())


def test_the_help_shows_the_sizes_for_real_data_too(capsys):
    text = _help([], capsys)
    assert "(default: 240 for scenes, 480 for other data)" in text
    assert "(default: 320 for scenes, 800 for other data)" in text
    assert "length in pixels that the shorter side" in text


def test_the_help_shows_the_sizes_for_the_data_that_is_given(capsys):
    text = _help(["--data", "set.json"], capsys)
    assert "demands it. (default: 480)" in text
    assert "for other data)" not in text


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("assigner atss atss.top-k 5", ("atss", 5)),
        ("assigner task_aligned task_aligned.beta 2", ("task_aligned", 2.0)),
        ("assigner sim_ota sim_ota.center-radius 1.5", ("sim_ota", 1.5)),
        ("assigner region region.ignore-ratio 0.4", ("region", 0.4)),
        (
            "assigner centerness centerness.positive-iou 0.2 negative-sampler uniform",
            ("centerness", 0.2),
        ),
    ],
)
def test_every_assigner_is_a_flag_that_is_saved_and_read_again(
    given, expected, tmp_path
):
    words = given.split()
    names = [f"--rpn.targets.{x.replace('_', '-')}" for x in words[::2]]
    pairs = zip(names, words[1::2], strict=True)
    config = flags.parse_training([x for pair in pairs for x in pair])
    assert config.rpn is not None
    targets = config.rpn.targets
    field = words[2].split(".")[1].replace("-", "_")
    rule = getattr(targets, expected[0])
    assert (targets.assigner, getattr(rule, field)) == expected
    write_config(config, tmp_path / "config.json")
    assert read_config(TrainConfig, tmp_path / "config.json") == config


def test_samplers_are_flags():
    given = ["--rpn.targets.positive-sampler", "instance_balanced"]
    given += ["--rpn.targets.negative-sampler", "iou_balanced"]
    config = flags.parse_training([*given, "--rpn.targets.iou-balance.num-bins", "5"])
    assert config.rpn is not None
    assert config.rpn.targets.positive_sampler == "instance_balanced"
    assert config.rpn.targets.iou_balance.num_bins == 5


def test_augmentations_are_flags_that_are_saved_and_read_again(tmp_path):
    kinds = ("photometric", "zoom-out", "iou-crop", "mosaic", "copy-paste")
    given = [x for kind in kinds for x in (f"--pipeline.{kind}.probability", "0.5")]
    given += ["--pipeline.copy-paste.max-objects", "2"]
    given += ["--pipeline.iou-crop.min-ious", "0.1", "0.3"]
    config = flags.parse_training([*given, "--pipeline.min-visibility", "0.4"])
    pipeline = config.pipeline
    assert pipeline is not None
    parts = [getattr(pipeline, kind.replace("-", "_")) for kind in kinds]
    assert [part.probability for part in parts] == [0.5] * 5
    assert pipeline.copy_paste.max_objects == 2
    assert pipeline.iou_crop.min_ious == (0.1, 0.3)
    assert pipeline.min_visibility == 0.4
    assert (pipeline.min_side, pipeline.max_side) == (240, 320)
    write_config(config, tmp_path / "config.json")
    assert read_config(TrainConfig, tmp_path / "config.json") == config
    off = flags.parse_training([]).pipeline
    assert off is not None
    assert off.for_evaluation() == dataclasses.replace(off, flip_probability=0.0)
