"""The report on anchors against plain loops over all anchors and boxes."""

import json

import numpy as np
import pytest
import reference
from reference import random_boxes

from rpn_jax import AnchorConfig, TargetConfig
from rpn_jax.anchor_report import (
    ImageBoxes,
    inspect_anchors,
    scaled,
    suggest_anchors,
)
from rpn_jax.data.records import GroundTruth

ANCHORS = AnchorConfig(sizes=(8, (16, 24)), strides=(8, 16))


def random_images(seed, number=5, *, most=12, sizes=((64, 64), (64, 80))):
    """Images of two shapes, most smaller than their padding, some without a box."""
    rng = np.random.default_rng(seed)
    images = []
    for i in range(number):
        boxes = random_boxes(rng, rng.integers(0, most + 1), 60)
        size = (float(rng.integers(30, 65)), float(rng.integers(30, 65)))
        images.append(ImageBoxes(boxes, size, sizes[i % len(sizes)]))
    return images


def shapes_of(padded_size):
    return [(-(-padded_size[0] // s), -(-padded_size[1] // s)) for s in (8, 16)]


def anchors_of(image, targets):
    """The anchors of an image and which of them take part, one at a time."""
    shapes = shapes_of(image.padded_size)
    anchors = reference.make_anchors(ANCHORS, shapes)
    kept = np.ones(len(anchors), bool)
    if targets.allowed_border is not None and not targets.border_after_matching:
        border = targets.allowed_border
        kept &= reference.within_border(anchors, image.image_size, border)
    if targets.ignore_padding:
        corners = reference.cell_corners(ANCHORS, shapes)
        kept &= (corners < np.array(image.image_size[::-1])).all(axis=1)
    return anchors, kept


def best_by_loop(images, targets):
    best = []
    for image in images:
        anchors, kept = anchors_of(image, targets)
        iou = reference.pairwise_iou(image.boxes, anchors[kept], targets.pixel_offset)
        best += [row.max() if len(row) else 0.0 for row in iou]
    return np.array(best)


@pytest.mark.parametrize(
    "targets",
    [
        TargetConfig(),
        TargetConfig(allowed_border=0.0),
        TargetConfig(ignore_padding=True, pixel_offset=1.0),
        TargetConfig(allowed_border=0.0, border_after_matching=True),
    ],
)
def test_the_best_overlap_of_every_box_is_that_over_all_anchors(targets):
    images = random_images(0)
    report = inspect_anchors(
        images, anchors=ANCHORS, targets=targets, max_matched_images=0
    )
    expected = best_by_loop(images, targets)
    np.testing.assert_allclose(report.best_iou, expected, atol=1e-6)
    assert report.recall(0.5) == np.mean(expected >= 0.5)


def test_boxes_are_covered_forced_or_without_an_anchor():
    perfect, narrow = [4, 4, 12, 12], [20, 0, 21, 60]
    outside = [500, 500, 520, 520]
    boxes = np.array([perfect, narrow, outside], np.float32)
    image = ImageBoxes(boxes, (64.0, 64.0), (64, 64))
    anchors = AnchorConfig(sizes=(8,), strides=(8,), aspect_ratios=(1.0,))
    report = inspect_anchors([image], anchors=anchors)
    assert report.is_covered().tolist() == [True, False, False]
    assert report.is_forced().tolist() == [False, True, False]
    assert report.has_none().tolist() == [False, False, True]
    assert report.num_unmatched == 1


@pytest.mark.parametrize(
    "targets", [TargetConfig(force_match="none"), TargetConfig(min_force_iou=0.9)]
)
def test_without_force_a_box_of_little_overlap_has_no_anchor(targets):
    boxes = np.array([[20, 0, 21, 60]], np.float32)
    image = ImageBoxes(boxes, (64.0, 64.0), (64, 64))
    report = inspect_anchors([image], anchors=ANCHORS, targets=targets)
    assert report.has_none().all()
    assert not report.is_forced().any()
    assert report.num_unmatched == 1


def test_unmatched_boxes_are_those_that_no_positive_anchor_regresses_to():
    images = random_images(3, number=3, most=30, sizes=[(64, 64)])
    targets = TargetConfig(allowed_border=8.0)
    report = inspect_anchors(images, anchors=ANCHORS, targets=targets)
    expected = 0
    for image in images:
        anchors, _ = anchors_of(image, targets)
        number = len(image.boxes)
        labels, gt_index, _ = reference.match_anchors(
            anchors,
            image.boxes,
            np.ones(number, bool),
            image.image_size,
            config=targets,
        )
        expected += number - len(set(gt_index[labels == 1].tolist()))
    assert report.num_unmatched == expected > 0


def test_matching_is_limited_to_some_images():
    images = random_images(4, number=9, most=3, sizes=[(64, 64)])
    report = inspect_anchors(images, anchors=ANCHORS, max_matched_images=2)
    assert report.num_matched_images == 2
    assert report.num_images == 9
    assert len(report.best_iou) == sum(len(image.boxes) for image in images)


def test_more_boxes_than_one_call_takes_are_all_measured():
    rng = np.random.default_rng(5)
    boxes = random_boxes(rng, 5000, 60)
    image = ImageBoxes(boxes, (64.0, 64.0), (64, 64))
    report = inspect_anchors([image], anchors=ANCHORS, max_matched_images=0)
    few = ImageBoxes(boxes[-7:], (64.0, 64.0), (64, 64))
    alone = inspect_anchors([few], anchors=ANCHORS, max_matched_images=0)
    assert len(report.best_iou) == 5000
    np.testing.assert_array_equal(report.best_iou[-7:], alone.best_iou)


@pytest.mark.parametrize(
    "images", [[], [ImageBoxes(np.zeros((0, 4), np.float32), (64.0, 64.0), (64, 64))]]
)
def test_without_any_box_the_report_is_empty(images):
    report = inspect_anchors(images)
    assert report.suggestion is None
    assert np.isnan(report.recall(0.5))
    assert "0 objects" in report.table()
    json.dumps(report.as_dict(), allow_nan=False)


def test_a_box_without_extent_has_no_anchor():
    boxes = np.array([[5, 5, 5, 30], [5, 5, 30, 30]], np.float32)
    image = ImageBoxes(boxes, (64.0, 64.0), (64, 64))
    report = inspect_anchors([image], anchors=ANCHORS)
    assert report.best_iou[0] == 0.0
    assert report.has_none().tolist() == [True, False]
    json.dumps(report.as_dict(), allow_nan=False)


def test_the_table_counts_each_object_once_by_size_and_by_aspect():
    images = random_images(6)
    report = inspect_anchors(images, anchors=ANCHORS, max_matched_images=0)
    number = len(report.best_iou)
    summary = report.as_dict()
    for key in ("by_side", "by_aspect"):
        assert sum(row["num_objects"] for row in summary[key]) == number
    first = f"{number} objects in 5 images"
    assert report.table().startswith(first)
    kinds = ("num_covered", "num_only_forced", "num_without_anchor")
    assert sum(summary[kind] for kind in kinds) == number


def test_scaled_truth_is_in_pixels_of_the_network_without_crowds():
    boxes = np.array([[10, 20, 30, 60], [0, 0, 9, 9]], np.float32)
    crowd = np.array([False, True])
    truth = GroundTruth(1, (100, 200), boxes, crowd, np.ones(2, np.float32), "1.jpg")
    image = scaled(truth, (0.5, 2.0), (64, 416))
    assert image.boxes.tolist() == [[20, 10, 60, 30]]
    assert image.image_size == (50.0, 400.0)


def sides_around(rng, sizes, ratios, number=60):
    """Boxes of every size and ratio, with a little noise."""
    size, ratio = np.meshgrid(sizes, ratios)
    pairs = np.stack([size / np.sqrt(ratio), size * np.sqrt(ratio)], axis=-1)
    noise = np.exp(rng.normal(0.0, 0.03, (number, *pairs.shape)))
    return (pairs[None] * noise).reshape(-1, 2)


def test_suggestions_find_the_sizes_and_ratios_of_the_boxes():
    sizes, ratios = [10, 30, 70, 200, 400], [0.3, 1.0, 2.5]
    sides = sides_around(np.random.default_rng(0), sizes, ratios)
    suggested = suggest_anchors(sides, AnchorConfig())
    assert suggested is not None
    np.testing.assert_allclose(suggested.sizes, sizes, rtol=0.03)
    np.testing.assert_allclose(suggested.aspect_ratios, ratios, rtol=0.05)


def mean_shape_iou(sides, sizes, ratios):
    """Of each box with the best of the anchors around its own centre."""
    best = []
    for width, height in sides.tolist():
        ious = []
        for size in sizes:
            for ratio in ratios:
                w, h = size / ratio**0.5, size * ratio**0.5
                shared = min(w, width) * min(h, height)
                ious.append(shared / (w * h + width * height - shared))
        best.append(max(ious))
    return np.mean(best)


def test_suggestions_fit_better_than_the_quantiles_they_start_from():
    rng = np.random.default_rng(3)
    sides = np.exp(rng.normal(2.5, 0.4, (400, 2)) + rng.exponential(0.9, (400, 1)))
    suggested = suggest_anchors(sides, AnchorConfig())
    assert suggested is not None
    sizes = np.quantile(np.sqrt(sides.prod(axis=1)), [0.1, 0.3, 0.5, 0.7, 0.9])
    ratios = np.quantile(sides[:, 1] / sides[:, 0], [1 / 6, 1 / 2, 5 / 6])
    start = mean_shape_iou(sides, sizes, ratios)
    fitted = mean_shape_iou(sides, suggested.sizes, suggested.aspect_ratios)
    assert fitted > start + 0.005


def test_suggestions_raise_the_recall_that_is_possible():
    rng = np.random.default_rng(1)
    sides = sides_around(rng, [11, 20, 37], [0.6, 1.0, 1.7], number=8)
    corners = rng.uniform(0, 30, sides.shape)
    boxes = np.concatenate([corners, corners + sides], axis=1).astype(np.float32)
    report = inspect_anchors(
        [ImageBoxes(boxes, (96.0, 96.0), (96, 96))],
        anchors=AnchorConfig(sizes=(32, 64, 128), strides=(4, 8, 16)),
        max_matched_images=0,
    )
    assert report.suggestion is not None
    again = inspect_anchors(
        [ImageBoxes(boxes, (96.0, 96.0), (96, 96))],
        anchors=report.suggestion.config,
        max_matched_images=0,
    )
    np.testing.assert_array_equal(again.best_iou, report.suggestion.best_iou)
    assert again.recall(0.5) > report.recall(0.5)


def test_suggestions_keep_the_form_of_the_configuration():
    rng = np.random.default_rng(2)
    sides = rng.uniform(5, 300, (500, 2))
    config = AnchorConfig(
        sizes=(64, (8, 16)), strides=(16, 4), scales_per_octave=2, center_offset=0.5
    )
    suggested = suggest_anchors(sides, config)
    assert suggested is not None
    assert [len(level) for level in suggested.level_sizes] == [2, 4]
    assert max(suggested.level_sizes[1]) < min(suggested.level_sizes[0])
    assert suggested.center_offset == 0.5
    assert suggest_anchors(sides, config) == suggested


def test_square_boxes_need_one_ratio():
    side = np.linspace(10, 100, 50)
    suggested = suggest_anchors(np.stack([side, side], axis=1), AnchorConfig())
    assert suggested is not None
    assert suggested.aspect_ratios == (1.0,)


@pytest.mark.parametrize("number", [0, 1, 4, 100])
def test_too_few_different_boxes_suggest_nothing(number):
    sides = np.full((number, 2), 20.0)
    assert suggest_anchors(sides, AnchorConfig()) is None
