"""The forms for different backends, and plain boxes, agree."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import reference

import rpn_jax
from rpn_jax import AnchorConfig, TargetConfig
from rpn_jax.core.matching import match
from rpn_jax.core.matching.axes import axis_masks, fit_level
from rpn_jax.core.matching.forced import forcing_shapes
from rpn_jax.core.matching.ground_truth import split_ground_truth
from rpn_jax.core.matching.on_accelerator import best_by_reduction, forced_by_reduction
from rpn_jax.core.matching.on_cpu import best_by_windows, forced_by_loop

LEVELS = {
    "pyramid": (
        AnchorConfig(sizes=(16, 32, 64), strides=(4, 8, 16)),
        [(30, 40), (15, 20), (8, 10)],
    ),
    "one_level": (
        AnchorConfig(sizes=((32, 64, 128),), strides=(16,), rounding="legacy"),
        [(10, 15)],
    ),
    "uneven": (
        AnchorConfig(sizes=((9, 30), (47,)), strides=((4, 7), 16), center_offset=0.5),
        [(31, 17), (3, 9)],
    ),
}


def stages(name, seed, pixel_offset):
    config, shapes = LEVELS[name]
    anchors = rpn_jax.make_anchors(config, shapes)
    rng = np.random.default_rng(seed)
    boxes = reference.random_boxes(rng, 30, size=140.0, snap=3)
    near = rng.integers(0, len(anchors), 10)
    boxes[20:] = np.asarray(anchors.boxes)[near] + rng.integers(-1, 2, (10, 4))
    boxes[3], boxes[5] = boxes[0], [0.0, 0.0, -2.0, -2.0]
    boxes[27:] = boxes[20:23]  # the first of two equal boxes wins
    boxes = jnp.asarray(boxes)
    fits = [
        fit_level(x, axis_masks(x, (110, 140), 5.0, False), boxes, pixel_offset)
        for x in anchors.levels
    ]
    return fits, boxes


@pytest.mark.parametrize("pixel_offset", [0.0, 1.0])
@pytest.mark.parametrize("floor", [0.0, 0.1, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("name", LEVELS)
def test_windows_find_what_the_reduction_finds(name, floor, pixel_offset):
    reduce = functools.partial(best_by_reduction, pixel_offset=pixel_offset)
    visit = functools.partial(best_by_windows, pixel_offset=pixel_offset, floor=floor)
    for seed in range(2):
        fits, boxes = stages(name, seed, pixel_offset)
        # Not compiled as a whole: a CPU would contract products and sums.
        expected, actual = reduce(fits, boxes), visit(fits, boxes)
        assert any((level.iou > floor).any() for level in expected) or floor == 1.0
        for a, b in zip(actual, expected, strict=True):
            reaches = (b.iou >= floor) & (b.iou > 0.0)
            np.testing.assert_array_equal(a.iou[reaches], b.iou[reaches])
            np.testing.assert_array_equal(a.gt_index[reaches], b.gt_index[reaches])
            assert (a.iou[~reaches] <= b.iou[~reaches]).all()


@pytest.mark.parametrize("pixel_offset", [0.0, 1.0])
@pytest.mark.parametrize("name", LEVELS)
def test_the_loop_forces_what_the_reduction_forces(name, pixel_offset):
    offset = {"pixel_offset": pixel_offset}

    @jax.jit
    def both(fits, boxes):
        forces = forcing_shapes([fit.peak_iou for fit in fits], TargetConfig())
        return [f(fits, forces, boxes, **offset) for f in (reduce, loop)]

    reduce, loop = forced_by_reduction, forced_by_loop
    for seed in range(3):
        expected, actual = both(*stages(name, seed, pixel_offset))
        assert any((x >= 0).any() for x in expected)
        for a, b in zip(actual, expected, strict=True):
            np.testing.assert_array_equal(a, b)


def test_labels_do_not_depend_on_the_floor():
    config, shapes = LEVELS["pyramid"]
    anchors, rules = rpn_jax.make_anchors(config, shapes), TargetConfig()
    boxes = reference.random_boxes(np.random.default_rng(7), 20, size=140.0)
    gt = split_ground_truth(boxes, np.ones(20, bool), None, rules)
    exact, pruned = (
        jax.jit(match.match, static_argnames=("config", "floor"))(
            anchors, gt, None, config=rules, floor=floor
        )
        for floor in (0.0, rules.negative_iou)
    )
    np.testing.assert_array_equal(pruned.labels, exact.labels)
    assert (np.asarray(exact.labels) == 1).sum() > 20
    if jax.default_backend() == "cpu":  # elsewhere every overlap is computed
        assert (np.asarray(pruned.max_iou) != np.asarray(exact.max_iou)).any()


def test_some_boxes_of_a_grid_are_rows_of_all():
    for name, (config, shapes) in LEVELS.items():
        anchors = rpn_jax.make_anchors(config, shapes)
        index = np.random.default_rng(0).integers(0, len(anchors), 50).astype(np.int32)
        expected = np.asarray(anchors.boxes)[index]
        np.testing.assert_array_equal(anchors.take(index), expected, err_msg=name)
