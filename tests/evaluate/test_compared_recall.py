"""The difference of two recalls and its interval."""

import math

import numpy as np
import pytest
from support.evaluated import guesses, objects_on, recall_of

from rpn_jax.evaluate import compared_recall
from rpn_jax.evaluate.compared_recall import (
    MEASURES,
    bootstrap_interval,
    compare_recall,
    difference_table,
)
from rpn_jax.evaluate.found_objects import find_objects


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return objects_on(tmp_path_factory.mktemp("set"))


@pytest.fixture(scope="module")
def found(source):
    """What the guesses of four seeds find."""
    truths = [source.truth(row) for row in range(4)]
    return [find_objects(truths, guesses(source, seed)) for seed in range(4)]


def test_the_interval_is_that_of_draws_one_by_one(monkeypatch):
    monkeypatch.setattr(compared_recall, "_NUM_DRAWS", 200)
    monkeypatch.setattr(compared_recall, "_DRAWS_AT_A_TIME", 100)
    rng, images = np.random.default_rng(5), 7
    number = rng.integers(0, 4, images)
    a, b = (np.stack([rng.binomial(number, p), number], 1) for p in (0.3, 0.6))
    draws = np.random.default_rng(0)
    differences = []
    for _ in range(2):
        for drawn in draws.integers(images, size=(100, images)):
            sums = [np.sum([x[i] for i in drawn], axis=0) for x in (a, b)]
            if sums[0][1]:
                differences.append(sums[1][0] / sums[1][1] - sums[0][0] / sums[0][1])
    low, high = bootstrap_interval(a.astype(float), b.astype(float))
    expected = np.quantile(differences, [0.025, 0.975])
    np.testing.assert_allclose([low[0], high[0]], expected)


def test_about_95_of_100_intervals_hold_the_true_difference(monkeypatch):
    monkeypatch.setattr(compared_recall, "_NUM_DRAWS", 500)
    rng, held = np.random.default_rng(0), []
    for _ in range(200):
        number = rng.integers(1, 5, 60).astype(float)
        a, b = (
            np.stack([rng.binomial(number.astype(int), p), number], 1).astype(float)
            for p in (0.5, 0.6)
        )
        low, high = bootstrap_interval(a, b)
        held.append(low[0] <= 0.1 <= high[0])
    assert 0.90 < np.mean(held) < 0.99


def test_one_pair_has_the_recalls_of_the_reports(source, found):
    rows = compare_recall([(found[0], found[1])], 4)
    reports = [recall_of(source, guesses(source, seed)).as_dict() for seed in (0, 1)]
    for row in rows:
        a, b = (x["coco"][row.measure]["all"] for x in reports)
        assert (row.a, row.b) == (
            pytest.approx(a, abs=1e-6),
            pytest.approx(b, abs=1e-6),
        )
        assert row.difference == pytest.approx(b - a, abs=2e-6)
        assert row.low <= row.difference <= row.high
    same = compare_recall([(found[0], found[0])], 4)
    assert all(row[3:] == (0.0, 0.0, 0.0) for row in same)


def test_several_pairs_have_the_interval_of_student(found):
    rows = compare_recall([(found[0], found[1]), (found[2], found[3])], 4)
    assert [row.measure for row in rows] == list(MEASURES)
    for row in rows[2:5]:
        limit = int(row.measure.split("@")[1])
        first, second = (
            found[b].share_found(limit).mean() - found[a].share_found(limit).mean()
            for a, b in ((0, 1), (2, 3))
        )
        half = 12.706 * abs(first - second) / math.sqrt(2) / math.sqrt(2)
        assert row.difference == pytest.approx((first + second) / 2)
        assert row.high - row.difference == pytest.approx(half, rel=1e-4)


def test_one_image_has_no_interval_and_the_table_says_so(source):
    found = find_objects([source.truth(0)], {0: guesses(source)[0]})
    line = difference_table(compare_recall([(found, found)], 1)).splitlines()[2]
    assert line.split("|")[4:6] == [" +0.000 ", "             - "]
