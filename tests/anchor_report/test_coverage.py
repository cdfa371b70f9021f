"""The report on anchors against plain loops over all anchors and boxes."""

import json

import numpy as np
import pytest
from support import reference
from support.reference import random_boxes

from rpn_jax import AnchorConfig, TargetConfig
from rpn_jax.anchor_report import (
    ImageBoxes,
    inspect_anchors,
    scaled,
)
from rpn_jax.anchor_report.nearest import nearest_iou, place_boxes
from rpn_jax.data import GroundTruth

ANCHORS = AnchorConfig(sizes=(8, (16, 24)), strides=(8, 16))


def random_images(seed, number=5, *, most=12, sizes=((64, 64), (64, 80))):
    """Images of two padded sizes. Most have padding, and some have no box."""
    rng = np.random.default_rng(seed)
    images = []
    for i in range(number):
        boxes = random_boxes(rng, rng.integers(0, most + 1), 60)
        size = (float(rng.integers(30, 65)), float(rng.integers(30, 65)))
        images.append(ImageBoxes(boxes, size, sizes[i % len(sizes)]))
    return images


def shapes_of(padded_size):
    return [(-(-padded_size[0] // s), -(-padded_size[1] // s)) for s in (8, 16)]


def anchors_of(image, targets, config=ANCHORS):
    """The anchors of an image, and which of them take part in matching."""
    shapes = shapes_of(image.padded_size)
    anchors = reference.make_anchors(config, shapes)
    kept = np.ones(len(anchors), bool)
    if targets.allowed_border is not None and not targets.border_after_matching:
        border = targets.allowed_border
        kept &= reference.within_border(anchors, image.image_size, border)
    if targets.ignore_padding:
        corners = reference.cell_corners(config, shapes)
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


def test_scaled_truth_is_in_pixels_of_the_network_without_ignored_regions():
    boxes = np.array([[10, 20, 30, 60], [0, 0, 9, 9]], np.float32)
    ignored = np.array([False, True])
    truth = GroundTruth(1, (100, 200), boxes, ignored, np.ones(2, np.float32), "1.jpg")
    image = scaled(truth, (0.5, 2.0), (64, 416))
    assert image.boxes.tolist() == [[20, 10, 60, 30]]
    assert image.image_size == (50.0, 400.0)


@pytest.mark.parametrize(
    "targets",
    [
        TargetConfig(),
        TargetConfig(allowed_border=0.0),
        TargetConfig(allowed_border=0.0, border_after_matching=True),
        TargetConfig(ignore_padding=True, allowed_border=4.0),
    ],
)
@pytest.mark.parametrize("center_offset", [0.0, 0.5])
def test_the_nearest_anchor_of_each_shape_is_the_best_of_all(targets, center_offset):
    images = random_images(7, number=3)
    sizes, ratios = (9.0, 17.0), (0.5, 1.0, 2.0)
    config = AnchorConfig(
        sizes=(sizes, sizes),
        strides=(8, 16),
        aspect_ratios=ratios,
        center_offset=center_offset,
    )
    root = np.sqrt(ratios)
    shapes = np.stack([1 / root, root])[:, None] * np.array(sizes)[:, None]
    found = nearest_iou(place_boxes(images, 1000), shapes, config, targets)
    expected = [[], []]
    for image in images:
        anchors, kept = anchors_of(image, targets, config)
        iou = reference.pairwise_iou(image.boxes, anchors) * kept
        first = len(ratios) * len(sizes) * np.prod(shapes_of(image.padded_size)[0])
        for level, part in enumerate(np.split(iou, [first], axis=1)):
            cells = part.reshape(len(iou), -1, len(ratios), len(sizes))
            expected[level] += [box.max(axis=0).T for box in cells]
    np.testing.assert_allclose(found, expected, atol=1e-5)
