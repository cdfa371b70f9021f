"""The mean of several recalls, against a table of Student's t."""

import json
import math

import numpy as np
import pytest

from rpn_jax.evaluate import Recall, Report
from rpn_jax.evaluate.over_seeds import (
    mean_interval,
    recall_over_seeds,
    table_over_seeds,
)
from rpn_jax.evaluate.recall_report import CURVE_LIMITS, IOU_THRESHOLDS, SIZES

# The quantiles at 0.975 as printed tables list them, by the number of values.
STUDENT = {2: 12.706, 3: 4.303, 5: 2.776, 10: 2.262}


@pytest.mark.parametrize("number", STUDENT)
def test_the_interval_is_that_of_student(number):
    values = np.random.default_rng(number).normal(0.6, 0.02, number).tolist()
    mean = sum(values) / number
    variance = sum((x - mean) ** 2 for x in values) / (number - 1)
    found = mean_interval(values)
    assert found.mean == pytest.approx(mean)
    half_width = STUDENT[number] * math.sqrt(variance / number)
    assert found.half_width == pytest.approx(half_width, rel=2e-4)


def test_about_95_of_100_intervals_hold_the_true_mean():
    draws = np.random.default_rng(0).normal(0.5, 0.1, (1000, 3)).tolist()
    found = [mean_interval(values) for values in draws]
    held = [abs(x.mean - 0.5) <= x.half_width for x in found]
    assert 0.93 < np.mean(held) < 0.97


def report(value):
    shape = (len(IOU_THRESHOLDS), len(SIZES), len(CURVE_LIMITS))
    values = np.full(shape, value)
    values[:, tuple(SIZES).index("large")] = np.nan
    number = np.arange(len(SIZES))
    return Report(Recall(values), Recall(values), 3, number, 30).as_dict()


def test_the_table_has_means_and_half_widths():
    summary = recall_over_seeds([report(0.5), report(0.6), report(0.7)])
    lines = table_over_seeds(summary, 3).splitlines()
    assert lines[2].count("0.600 ± 0.248") == 5
    assert lines[2].startswith("| AR ")
    assert lines[-3].replace(" ", "") == "|ARlarge|-|-|-|-|-|"
    assert lines[-1].startswith("Mean over 3 runs")
    found = json.loads(json.dumps(summary))["detectron2"]["AR@100"]["all"]
    assert found == {"mean": 0.6, "half_width": 0.248414, "values": [0.5, 0.6, 0.7]}


def test_one_run_has_no_interval():
    summary = recall_over_seeds([report(0.5)])
    assert "±" not in table_over_seeds(summary, 1).splitlines()[2]
    assert summary["coco"]["AR@1"]["all"]["half_width"] is None
