"""The forms for different backends, and plain boxes, agree."""

import functools

import jax
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


FLOORS = [0.0, 0.1, 0.3, 0.7, 1.0]


def random_boxes(name, seed):
    """Boxes with corners at thirds of pixels, some of them nearly equal to anchors."""
    anchors = reference.make_anchors(*LEVELS[name])
    rng = np.random.default_rng(seed)
    boxes = reference.random_boxes(rng, 30, size=140.0, snap=3)
    near = rng.integers(0, len(anchors), 10)
    boxes[20:] = anchors[near] + rng.integers(-1, 2, (10, 4))
    boxes[3], boxes[5] = boxes[0], [0.0, 0.0, -2.0, -2.0]
    boxes[27:] = boxes[20:23]  # the first of two equal boxes wins
    return boxes


def stretched_boxes(name):
    """Anchors that are stretched until they reach few cells at a floor, or just none.

    A box that is longer than an anchor by `1 / floor`, and equal to it across, reaches
    the floor along its whole length, so as many cells as any box can.
    """
    config, shapes = LEVELS[name]
    rng = np.random.default_rng(9)
    boxes = []
    for i in range(30):
        level = rpn_jax.make_anchors(config, shapes).levels[0]
        cells = np.array(level.cell)
        axis = i % 2
        shape = cells[np.argmax(cells[:, 2 + axis] - cells[:, axis])]
        floor = 0.3 if i % 4 < 2 else 0.7
        size = shape[2 + axis] - shape[axis]
        box = shape + np.tile([level.stride[1] * 4, level.stride[0] * 4], 2)
        box[axis] -= rng.uniform(0.0, 1.0) * level.stride[1 - axis]
        box[2 + axis] = box[axis] + size / floor * 0.9999
        boxes.append(box)
    return np.array(boxes, np.float32)


def fit_levels(name, boxes, pixel_offset):
    return [
        fit_level(x, axis_masks(x, (110, 140), 5.0, False), boxes, pixel_offset)
        for x in rpn_jax.make_anchors(*LEVELS[name]).levels
    ]


def by_operation(function):
    """Compiled so that each operation rounds, and no product is fused with a sum."""
    if jax.default_backend() != "cpu":
        return function
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})


@functools.cache
def found_in_both_forms(name, pixel_offset):
    """By the reduction, and by windows for every floor, from a few sets of boxes."""

    @by_operation
    def find(boxes):
        fits = fit_levels(name, boxes, pixel_offset)
        reduce = functools.partial(best_by_reduction, pixel_offset=pixel_offset)
        visit = functools.partial(best_by_windows, pixel_offset=pixel_offset)
        return reduce(fits, boxes), [visit(fits, boxes, floor=x) for x in FLOORS]

    sets = [*(random_boxes(name, seed) for seed in range(2)), stretched_boxes(name)]
    return jax.tree.map(np.asarray, [find(boxes) for boxes in sets])


@pytest.mark.parametrize("pixel_offset", [0.0, 1.0])
@pytest.mark.parametrize("floor", FLOORS)
@pytest.mark.parametrize("name", LEVELS)
def test_windows_find_what_the_reduction_finds(name, floor, pixel_offset):
    found = found_in_both_forms(name, pixel_offset)
    highest = max(level.iou.max() for expected, _ in found for level in expected)
    assert highest > floor or floor == 1.0
    for expected, by_windows in found:
        actual = by_windows[FLOORS.index(floor)]
        for a, b in zip(actual, expected, strict=True):
            reaches = (b.iou >= floor) & (b.iou > 0.0)
            np.testing.assert_array_equal(a.iou[reaches], b.iou[reaches])
            np.testing.assert_array_equal(a.gt_index[reaches], b.gt_index[reaches])
            assert (a.iou[~reaches] <= b.iou[~reaches]).all()


@pytest.mark.parametrize("pixel_offset", [0.0, 1.0])
@pytest.mark.parametrize("name", LEVELS)
def test_the_loop_forces_what_the_reduction_forces(name, pixel_offset):
    forms = forced_by_reduction, forced_by_loop

    @jax.jit
    def both(boxes):
        fits = fit_levels(name, boxes, pixel_offset)
        forces = forcing_shapes([fit.peak_iou for fit in fits], TargetConfig())
        return [f(fits, forces, boxes, pixel_offset=pixel_offset) for f in forms]

    for seed in range(3):
        expected, actual = jax.tree.map(np.asarray, both(random_boxes(name, seed)))
        assert any((x >= 0).any() for x in expected)
        for a, b in zip(actual, expected, strict=True):
            np.testing.assert_array_equal(a, b)


def test_labels_do_not_depend_on_the_floor():
    anchors, rules = rpn_jax.make_anchors(*LEVELS["pyramid"]), TargetConfig()
    boxes = reference.random_boxes(np.random.default_rng(7), 20, size=140.0)

    @jax.jit
    def exact_and_pruned(boxes, valid):
        gt = split_ground_truth(boxes, valid, None, rules)
        return [
            match.match(anchors, gt, None, config=rules, is_exact=is_exact)
            for is_exact in (True, False)
        ]

    found = exact_and_pruned(boxes, np.ones(20, bool))
    exact, pruned = jax.tree.map(np.asarray, found)
    np.testing.assert_array_equal(pruned.labels, exact.labels)
    assert (exact.labels == 1).sum() > 20
    if jax.default_backend() == "cpu":  # elsewhere every overlap is computed
        assert (pruned.max_iou != exact.max_iou).any()


@pytest.mark.parametrize("name", LEVELS)
def test_some_boxes_of_a_grid_are_rows_of_all(name):
    anchors = rpn_jax.make_anchors(*LEVELS[name])
    index = np.random.default_rng(0).integers(0, len(anchors), 50).astype(np.int32)
    some, all_of_them = jax.jit(lambda index: (anchors.take(index), anchors.boxes))(
        index
    )
    np.testing.assert_array_equal(some, np.asarray(all_of_them)[index])
