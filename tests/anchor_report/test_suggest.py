"""Suggested anchors fit the boxes, and are never worse than the given ones."""

import dataclasses

import numpy as np
import pytest

from rpn_jax import AnchorConfig, TargetConfig
from rpn_jax.anchor_report import (
    ImageBoxes,
    inspect_anchors,
    scaled,
    suggest_anchors,
)
from rpn_jax.anchor_report.search import separated
from rpn_jax.data import Scenes


def images_of(sides, rng=None, *, size=(512, 512)):
    """One image with boxes of these sides, anywhere in it."""
    rng = rng or np.random.default_rng(0)
    corners = rng.uniform(0, np.maximum(np.array(size[::-1]) - sides, 0.0))
    boxes = np.concatenate([corners, corners + sides], axis=1).astype(np.float32)
    return [ImageBoxes(boxes, (float(size[0]), float(size[1])), size)]


def measured(images, config, **rules):
    targets = TargetConfig(**rules)
    return inspect_anchors(
        images, anchors=config, targets=targets, max_matched_images=0
    )


def test_suggestions_find_the_sizes_and_ratios_of_the_boxes():
    sizes, ratios = np.array([40, 80, 160, 320]), np.array([0.42, 1.0, 2.38])
    size, ratio = (x.ravel() for x in np.meshgrid(sizes, ratios))
    sides = np.stack([size / np.sqrt(ratio), size * np.sqrt(ratio)], axis=1)
    images = images_of(np.repeat(sides, 8, axis=0), size=(1024, 1024))
    config = AnchorConfig(sizes=(32, 64, 128, 256), strides=(4, 8, 16, 32))
    suggested = suggest_anchors(images, config)
    assert suggested is not None
    np.testing.assert_allclose(suggested.sizes, sizes, rtol=2 ** (1 / 8) - 1)
    np.testing.assert_allclose(suggested.aspect_ratios, ratios, rtol=0.01)


def test_a_suggestion_knows_that_small_anchors_need_small_strides():
    rng = np.random.default_rng(3)
    images = images_of(np.exp(rng.uniform(np.log(10), np.log(80), (300, 2))), rng)
    config = AnchorConfig(sizes=(32, 64, 128), strides=(4, 16, 32))
    suggested = suggest_anchors(images, config)
    assert suggested is not None
    # Sizes that fit the shapes alone, as in k-means, ignore the places of anchors.
    side = np.sqrt(np.prod(images[0].boxes[:, 2:] - images[0].boxes[:, :2], axis=1))
    by_shape = dataclasses.replace(
        config, sizes=tuple(np.quantile(side, [1 / 6, 1 / 2, 5 / 6]).tolist())
    )
    fitted, naive = (measured(images, x).best_iou for x in (suggested, by_shape))
    assert fitted.mean() > naive.mean() + 0.01
    assert list(suggested.sizes) == sorted(suggested.sizes)
    for factor in (0.6, 0.84, 1.19, 1.7):  # the last size has no better place
        *others, last = suggested.sizes
        sizes = (*others, float(np.multiply(last, factor)))
        moved = dataclasses.replace(suggested, sizes=sizes)
        assert measured(images, moved).best_iou.mean() < fitted.mean() + 1e-3


@pytest.mark.parametrize("seed", range(4))
def test_no_suggestion_covers_worse_than_the_given_anchors(seed):
    rng = np.random.default_rng(seed)
    low, high = rng.uniform(5, 40), rng.uniform(60, 200)
    images = images_of(rng.uniform(low, high, (60, 2)), rng, size=(256, 320))
    rules = {"allowed_border": (None, 0.0)[seed % 2], "positive_iou": 0.6}
    config = AnchorConfig(sizes=((16, 48), 120), strides=(8, 32), scales_per_octave=1)
    report = measured(images, config, **rules)
    assert report.suggestion is not None
    again = measured(images, report.suggestion.config, **rules)
    np.testing.assert_array_equal(again.best_iou, report.suggestion.best_iou)
    assert again.best_iou.mean() > report.best_iou.mean()
    for iou in (0.5, 0.6, 0.7):
        assert again.recall(iou) >= report.recall(iou)


def test_a_higher_mean_is_not_bought_with_recall():
    scenes = Scenes(seed=0, size=(240, 320))
    images = [scaled(scenes.truth(row), (1.0, 1.0), (240, 320)) for row in range(60)]
    config = AnchorConfig(sizes=((32, 64, 128),), strides=(16,))
    report = measured(images, config)
    smaller = AnchorConfig(sizes=((20, 45, 98),), strides=(16,))
    other = measured(images, smaller)
    assert other.best_iou.mean() > report.best_iou.mean() + 0.02
    assert other.recall(0.5) < report.recall(0.5)
    found = report.suggestion
    assert found is None or np.mean(found.best_iou >= 0.5) >= report.recall(0.5)


def test_anchors_that_fit_perfectly_are_kept():
    config = AnchorConfig(sizes=(16, 32), strides=(8, 16), aspect_ratios=(1.0,))
    corners = np.arange(24, 200, 16)[:, None] * np.ones((1, 2))
    squares = [
        np.concatenate([corners - side / 2, corners + side / 2], axis=1)
        for side in (16, 32)
    ]
    image = ImageBoxes(
        np.concatenate(squares, dtype=np.float32), (256, 256), (256, 256)
    )
    report = measured([image], config)
    assert report.suggestion is None
    assert report.table().endswith("no others were found that cover better.")
    assert report.as_dict()["suggestion"] is None


def test_suggestions_keep_the_form_of_the_configuration():
    rng = np.random.default_rng(2)
    images = images_of(rng.uniform(5, 300, (500, 2)), rng)
    config = AnchorConfig(
        sizes=(64, (8, 16)), strides=(16, 4), scales_per_octave=2, center_offset=0.5
    )
    suggested = suggest_anchors(images, config)
    assert suggested is not None
    assert [len(level) for level in suggested.level_sizes] == [2, 4]
    assert max(suggested.level_sizes[1]) <= min(suggested.level_sizes[0])
    assert len(suggested.aspect_ratios) == 3
    assert suggested.center_offset == 0.5
    assert suggest_anchors(images, config) == suggested


def test_ratios_that_agree_are_suggested_once():
    side = np.linspace(10, 100, 50)
    images = images_of(np.stack([side, side], axis=1))
    config = AnchorConfig(aspect_ratios=(1.0, 1.01))
    suggested = suggest_anchors(images, config)
    assert suggested is not None
    assert len(set(suggested.aspect_ratios)) == len(suggested.aspect_ratios)


@pytest.mark.parametrize("number", [0, 1, 4, 100])
def test_too_few_different_boxes_suggest_nothing(number):
    images = images_of(np.full((number, 2), 20.0))
    assert suggest_anchors(images, AnchorConfig()) is None


@pytest.mark.parametrize(
    "config",
    [
        AnchorConfig(sizes=(16, 64), strides=(8, 32), scales_per_octave=3),
        AnchorConfig(sizes=((16, 40, 64, 128),), strides=(16,)),
        AnchorConfig(sizes=((32, 64), (32, 64)), strides=(8, 16)),
        AnchorConfig(sizes=((20, 20.3, 40.3001),), strides=(8,)),
    ],
)
@pytest.mark.parametrize("spread", [0.6, 2.0, 80.0])
def test_boxes_of_nearly_one_size_suggest_no_anchor_twice(config, spread):
    rng = np.random.default_rng(3)
    images = images_of(rng.uniform(20, 20 + spread, (60, 2)), rng)
    suggested = suggest_anchors(images, config)
    for level in suggested.level_sizes if suggested else ():
        assert len(set(level)) == len(level)


def test_sizes_are_moved_apart_on_their_level_alone():
    rng = np.random.default_rng(0)
    for _ in range(200):
        levels = np.repeat(rng.permutation(3), rng.integers(1, 4, 3))
        number = int(np.sum(np.diff(levels) == 0)) + 1 + int(rng.integers(0, 3))
        given = np.sort(rng.integers(0, number, len(levels)))
        apart = separated(given, levels, number)
        steps = np.diff(apart)
        assert np.all(steps >= (np.diff(levels) == 0))
        assert 0 <= apart[0] <= apart[-1] < number
        if np.all(np.diff(given) >= (np.diff(levels) == 0)):
            np.testing.assert_array_equal(apart, given)
