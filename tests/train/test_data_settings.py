"""Ignored regions in the training data, and the length of a run."""

import dataclasses
import logging

import numpy as np
import pytest

from rpn_jax import presets
from rpn_jax.commands.flags import parse_training
from rpn_jax.data import (
    CopyPasteConfig,
    IoUCropConfig,
    MosaicConfig,
    PhotometricConfig,
    PipelineConfig,
    Scenes,
    ZoomOutConfig,
)
from rpn_jax.train import TrainConfig, resolve
from rpn_jax.train.data_settings import count_steps, set_ignore_rule


class WithRegions:
    """Ten scenes; the first box of every second one, if any, is an ignored region."""

    def __init__(self):
        self._scenes = Scenes(1, 10)
        self.problems = self._scenes.problems
        self.image_sizes = self._scenes.image_sizes
        self.num_boxes = self._scenes.num_boxes

    def __len__(self):
        return len(self._scenes)

    def truth(self, row):
        truth = self._scenes.truth(row)
        first = np.arange(len(truth.boxes)) == 0
        return truth._replace(is_ignored=first & (row % 2 == 0))

    def decode(self, row):
        return self._scenes.decode(row)

    def pixels(self, row):
        return self._scenes.pixels(row)


def rule(caplog, source, **options):
    """`ignore_iof` of a run, and the lines of the log."""
    config = resolve(TrainConfig(data="a.json", **options))
    caplog.clear()
    with caplog.at_level(logging.INFO, "rpn_jax"):
        found = set_ignore_rule(config, source)
    left = dataclasses.replace(found.rpn.targets, ignore_iof=None)
    assert left == dataclasses.replace(config.rpn.targets, ignore_iof=None)
    return found.rpn.targets.ignore_iof, caplog.messages


@pytest.mark.parametrize("preset", [None, "mmdet_fpn"])
def test_ignored_regions_set_the_rule_and_the_log_says_so(preset, caplog):
    share, lines = rule(caplog, WithRegions(), preset=preset)
    assert share == 0.5
    assert len(lines) == 1
    assert "4 of 10 training images" in lines[0]
    assert "is set to 0.5" in lines[0]
    assert "--no-ignore-crowds" in lines[0]
    assert "--rpn.targets.ignore-iof X" in lines[0]


def test_the_rule_can_be_refused(caplog):
    assert parse_training([]).ignore_crowds
    assert not parse_training(["--no-ignore-crowds"]).ignore_crowds
    assert rule(caplog, WithRegions(), ignore_crowds=False) == (None, [])


@pytest.mark.parametrize("ignore_crowds", [True, False])
def test_a_share_in_the_rules_wins(ignore_crowds, caplog):
    rules = presets.pyramid()
    targets = dataclasses.replace(rules.targets, ignore_iof=0.25)
    rules = dataclasses.replace(rules, targets=targets)
    found = rule(caplog, WithRegions(), ignore_crowds=ignore_crowds, rpn=rules)
    assert found == (0.25, [])


def test_data_without_ignored_regions_changes_nothing(caplog):
    assert rule(caplog, Scenes(1, 10)) == (None, [])
    assert rule(caplog, Scenes(1)) == (None, [])  # endless


@pytest.mark.parametrize(
    ("parts", "share"),
    [
        ({"mosaic": MosaicConfig(probability=0.1)}, 0.5),
        ({"iou_crop": IoUCropConfig(probability=0.1)}, 0.5),
        ({"copy_paste": CopyPasteConfig(probability=0.1)}, 0.5),
        ({"zoom_out": ZoomOutConfig(probability=0.1)}, None),
        ({"photometric": PhotometricConfig(probability=0.1)}, None),
    ],
)
def test_augmentation_that_cuts_objects_sets_the_rule(parts, share, caplog):
    found, lines = rule(caplog, Scenes(1, 10), pipeline=PipelineConfig(**parts))
    assert found == share
    assert ("Augmentation makes ignored regions" in "".join(lines)) == bool(share)


@pytest.mark.parametrize(
    ("options", "number"),
    [
        ({}, 500),  # 12 epochs of 3 steps are fewer
        ({"epochs": 7}, 21),
        ({"epochs": 0.1}, 1),
        ({"steps": 4}, 4),
        ({"batch_size": 1}, 500),
    ],
)
def test_epochs_become_steps(options, number):
    config = resolve(TrainConfig(data="a.json", **({"batch_size": 4} | options)))
    assert count_steps(config, Scenes(1, 10)) == number


def test_scenes_have_no_epochs():
    assert count_steps(resolve(TrainConfig()), Scenes(1)) == 1000
    with pytest.raises(ValueError, match="needs --steps for scenes"):
        count_steps(resolve(TrainConfig(epochs=1)), Scenes(1))
