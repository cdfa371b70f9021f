"""The rules against what mmdetection 3.3 answered, recorded in `tests/golden`."""

import functools
import pathlib

import jax
import numpy as np
import pytest

import rpn_jax
from rpn_jax import AnchorConfig, RPNOutput, TargetConfig, match_anchors
from rpn_jax.core.rule_configs import AtssConfig

FILE = pathlib.Path(__file__).parents[2] / "golden" / "assigners" / "mmdetection.npz"
SHAPES = [(12, 16), (6, 8), (3, 4)]
ANCHORS = AnchorConfig(sizes=(32, 64, 128), strides=(8, 16, 32), aspect_ratios=(1.0,))
GRID = rpn_jax.make_anchors(ANCHORS, SHAPES)
ROWS = 5
RULES = {
    "atss": TargetConfig(assigner="atss"),
    "atss_ignored": TargetConfig(
        assigner="atss", atss=AtssConfig(top_k=4), ignore_iof=0.5
    ),
    "task_aligned": TargetConfig(assigner="task_aligned"),
    "sim_ota": TargetConfig(assigner="sim_ota"),
    "region": TargetConfig(assigner="region", allowed_border=0.0),
    "centerness": TargetConfig(assigner="centerness"),
}


@pytest.fixture(scope="module")
def recorded():
    with np.load(FILE) as arrays:
        return dict(arrays)


@functools.cache
def compiled(rule):
    config = RULES[rule]

    def match(boxes, valid, ignore, output):
        return match_anchors(
            GRID,
            boxes,
            valid,
            np.array([96, 128], np.float32),
            gt_ignore=ignore if config.ignore_iof is not None else None,
            predictions=output,
            config=config,
        )[:2]

    return jax.jit(match)


@pytest.mark.parametrize("rule", RULES)
def test_labels_and_boxes_are_those_of_mmdetection(rule, recorded):
    for seed in range(4):
        boxes, logits, deltas, expected = (
            recorded[f"{seed}/{name}"] for name in ("boxes", "logits", "deltas", rule)
        )
        padded = np.full((ROWS, 4), np.nan, np.float32)
        padded[: len(boxes)] = boxes
        rows = np.arange(ROWS)
        ignore = (rows == 0) & (rule == "atss_ignored")
        output = RPNOutput(logits, deltas)
        labels, gt_index = compiled(rule)(padded, rows < len(boxes), ignore, output)
        np.testing.assert_array_equal(labels, np.sign(expected))
        # Numbers count from 1 in the recording, and from the box after the region.
        shift = 0 if rule == "atss_ignored" else 1
        is_positive = expected > 0
        rows = np.asarray(gt_index)[is_positive]
        np.testing.assert_array_equal(rows, expected[is_positive] - shift)
