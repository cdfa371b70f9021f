"""Every assignment rule against its oracle, in all forms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import assigners, reference

import rpn_jax
from rpn_jax import AnchorConfig, RPNOutput, TargetConfig, match_anchors
from rpn_jax.core.matching.nearest_anchors import nearest_in_grid, nearest_of_all
from rpn_jax.core.rule_configs import (
    AtssConfig,
    CenternessConfig,
    RegionConfig,
    SimOTAConfig,
    TaskAlignedConfig,
)

# Integer corners and boxes on quarters of pixels: distances tie exactly, and often.
ANCHORS = AnchorConfig(
    sizes=(16, 32), strides=((8, 4), 16), aspect_ratios=(0.5, 1.0), rounding="corners"
)
SHAPES = [(7, 14), (4, 4)]
GRID = rpn_jax.make_anchors(ANCHORS, SHAPES)
BOXES = reference.make_anchors(ANCHORS, SHAPES)
NUMBER, ROWS = len(BOXES), 6
IMAGE_SIZE = np.array([52, 56], np.float32)
STARTS = np.cumsum([0, *GRID.level_sizes])
LEVELS = [np.arange(*pair) for pair in zip(STARTS, STARTS[1:], strict=False)]
STRIDES = np.repeat([[8, 4], [16, 16]], GRID.level_sizes, axis=0)

# `test_golden_rules.py` has the rules without ignored regions and borders.
RULES = {
    "atss": TargetConfig(assigner="atss", atss=AtssConfig(top_k=4)),
    "atss_regions": TargetConfig(
        assigner="atss", atss=AtssConfig(top_k=30), ignore_iof=0.5, allowed_border=2
    ),
    "task_aligned": TargetConfig(
        assigner="task_aligned",
        task_aligned=TaskAlignedConfig(top_k=5, alpha=0.5),
        ignore_iof=0.3,
        allowed_border=4,
        pixel_offset=1.0,
    ),
    "sim_ota": TargetConfig(
        assigner="sim_ota",
        sim_ota=SimOTAConfig(center_radius=1.5, candidate_top_k=6, iou_weight=2.0),
        ignore_iof=0.5,
        allowed_border=2,
    ),
    "region": TargetConfig(
        assigner="region",
        region=RegionConfig(center_ratio=0.25, ignore_ratio=0.75),
        ignore_iof=0.5,
        allowed_border=2,
    ),
    "centerness": TargetConfig(
        assigner="centerness",
        centerness=CenternessConfig(positive_iou=0.2, background=False),
        ignore_iof=0.5,
        allowed_border=2,
    ),
}
SCENES = ("random", "ties", "crowd", "padding", "only_padding", "regions", "equal")


def scene(kind):
    """`(gt_boxes, gt_valid, gt_ignore)` and predictions of an image."""
    rng = np.random.default_rng(sum(map(ord, kind)))
    boxes = reference.random_boxes(rng, ROWS, 40)
    valid, ignore = np.ones(ROWS, bool), np.zeros(ROWS, bool)
    if kind == "ties":  # centres of boxes on centres of cells, and between them
        boxes[:] = BOXES[rng.integers(0, NUMBER, ROWS)]
        boxes[:3] += np.array([[2, 4, 2, 4]], np.float32)
    elif kind == "crowd":  # of several boxes that claim the same anchors
        boxes[1:] = boxes[0] + rng.integers(0, 12, (ROWS - 1, 4)) / np.float32(4)
    elif kind == "padding":
        valid[2:4], boxes[2:4], boxes[4] = False, np.nan, [9, 9, 9, 12]
    elif kind == "only_padding":
        valid[:] = False
    elif kind == "regions":
        ignore[:3], boxes[0] = True, np.array([8, 4, 40, 36], np.float32)
    elif kind == "equal":
        boxes[:] = boxes[0]
    logits = rng.normal(size=NUMBER).astype(np.float32)
    deltas = rng.normal(size=(NUMBER, 4)).astype(np.float32) * np.float32(0.2)
    return (boxes, valid, ignore), RPNOutput(logits, deltas)


def oracle(rule, truth, output):
    """What the rule means, and the anchors at which rounding decides."""
    config, is_open = RULES[rule], set()
    is_kept = assigners.kept(BOXES, truth, IMAGE_SIZE, config)
    decoded = reference.decode_boxes(
        output.deltas, BOXES, pixel_offset=config.pixel_offset
    )
    predicted = decoded, 1 / (1 + np.exp(-np.float64(output.logits)))
    if config.assigner == "atss":
        shapes = [level[shape::2] for level in LEVELS for shape in (0, 1)]
        found = assigners.atss(BOXES, shapes, truth, is_kept, config, is_open)
    elif config.assigner == "task_aligned":
        shared = (BOXES, predicted, truth, is_kept, config, is_open)
        found = assigners.task_aligned(*shared)
    elif config.assigner == "sim_ota":
        shared = (BOXES, STRIDES, predicted, truth, is_kept, config, is_open)
        found = assigners.sim_ota(*shared)
    elif config.assigner == "region":
        # The geometric mean of the sides, with the corners rounded.
        sides = [np.sqrt(np.prod(reference.area(BOXES[x[:2]])) ** 0.5) for x in LEVELS]
        levels = zip(LEVELS, [(8, 4), (16, 16)], SHAPES, sides, strict=True)
        found = assigners.region(BOXES, list(levels), truth, is_kept, config)
    else:
        found = centerness_oracle(truth, config)
    return found, np.array([i not in is_open for i in range(NUMBER)])


def centerness_oracle(truth, config):
    rules = config.centerness
    overlap = TargetConfig(
        positive_iou=rules.positive_iou,
        negative_iou=rules.negative_iou,
        min_force_iou=rules.positive_iou,
        retarget_forced=True,
        ignore_iof=config.ignore_iof,
        allowed_border=config.allowed_border,
    )
    labels, gt_index, max_iou = reference.match_anchors(
        BOXES, truth[0], truth[1], IMAGE_SIZE, truth[2], config=overlap
    )
    if not rules.background:
        labels = np.where(labels == 0, -1, labels)
    value = np.zeros(NUMBER)
    for i in np.flatnonzero(max_iou > 0):
        value[i] = assigners.centerness(BOXES[i], truth[0][gt_index[i]])
    return labels, gt_index, value


def matcher(rule, form="grid"):
    anchors = GRID if form == "grid" else BOXES

    def match(truth, output):
        return match_anchors(
            anchors,
            truth[0],
            truth[1],
            IMAGE_SIZE,
            gt_ignore=truth[2],
            predictions=output,
            config=RULES[rule],
        )

    return match


@functools.cache
def found_in_all_scenes(rule, form="grid"):
    """The matches of all scenes, computed as one batch."""
    batch = jax.tree.map(lambda *xs: np.stack(xs), *map(scene, SCENES))
    found = jax.jit(jax.vmap(matcher(rule, form)))(*batch)
    return jax.tree.map(np.asarray, found)


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_matches_its_oracle_in_every_scene(rule):
    batch = found_in_all_scenes(rule)
    for i, kind in enumerate(SCENES):
        labels, gt_index, max_iou = (x[i] for x in batch)
        expected, is_sure = oracle(rule, *scene(kind))
        assert is_sure.mean() > 0.9
        np.testing.assert_array_equal(labels[is_sure], expected[0][is_sure])
        is_positive = is_sure & (labels == 1)
        np.testing.assert_array_equal(gt_index[is_positive], expected[1][is_positive])
        np.testing.assert_allclose(max_iou, expected[2], rtol=2e-5, atol=1e-6)
    # The comparisons would say little if a label never occurred.
    wanted = {"atss": {1, 0}, "centerness": {1, -1}}.get(rule, {-1, 0, 1})
    assert set(np.unique(batch.labels)) == wanted


def test_a_grid_and_its_boxes_agree():
    forms = ("grid", "boxes")
    grid, boxes = (found_in_all_scenes("task_aligned", form) for form in forms)
    np.testing.assert_array_equal(grid.labels, boxes.labels)
    np.testing.assert_array_equal(grid.gt_index, boxes.gt_index)


def test_boxes_are_one_level_of_one_shape_for_atss():
    config, is_open = RULES["atss_regions"], set()
    for i, kind in enumerate(SCENES):
        truth, _ = scene(kind)
        is_kept = assigners.kept(BOXES, truth, IMAGE_SIZE, config)
        shapes = [np.arange(NUMBER)]
        expected = assigners.atss(BOXES, shapes, truth, is_kept, config, is_open)
        is_sure = np.array([i not in is_open for i in range(NUMBER)])
        labels = found_in_all_scenes("atss_regions", "boxes").labels[i]
        np.testing.assert_array_equal(labels[is_sure], expected[0][is_sure])


def test_an_eager_call_equals_a_compiled_one():
    eager = matcher("task_aligned", "boxes")(*scene("crowd"))
    batch = found_in_all_scenes("task_aligned", "boxes")
    np.testing.assert_array_equal(eager.labels, batch.labels[SCENES.index("crowd")])
    np.testing.assert_array_equal(eager.gt_index, batch.gt_index[SCENES.index("crowd")])


@pytest.mark.parametrize("rule", ["task_aligned", "sim_ota"])
def test_predictions_that_are_needed_and_missing_are_asked_for(rule):
    truth, output = scene("random")
    with pytest.raises(ValueError, match=f'assigner="{rule}" needs predictions .* Non'):
        matcher(rule)(truth, None)
    of_others = jax.tree.map(lambda x: x[1:], output)
    with pytest.raises(ValueError, match=r"all 228 anchors .* shape \(227, 4\)"):
        matcher(rule)(truth, of_others)


@pytest.mark.parametrize("rule", ["sim_ota", "region"])
def test_levels_cannot_be_told_from_plain_boxes(rule):
    with pytest.raises(ValueError, match="AnchorGrid"):
        matcher(rule, "boxes")(*scene("random"))


def test_the_level_of_a_box_depends_on_sides_with_the_last_pixel():
    # Its 22 pixels are below the border of 16 * 2 ** 0.5 between sides of 16 and 32.
    # Without the last pixels of the anchors, they would be above that of 15 and 31.
    config = AnchorConfig(
        sizes=(16, 32), strides=(16, 32), aspect_ratios=(1,), rounding="legacy"
    )
    rules = TargetConfig(
        assigner="region",
        region=RegionConfig(center_ratio=1, ignore_ratio=1),
        pixel_offset=1,
    )
    grid = rpn_jax.make_anchors(config, [(4, 4), (2, 2)])
    match = jax.jit(functools.partial(match_anchors, grid, config=rules))
    matches = match(np.array([[16, 16, 37, 37]], np.float32), np.array([True]))
    assert np.flatnonzero(matches.labels == 1).tolist() == [5]


def test_the_nearest_cells_are_those_of_a_search_of_all_cells():
    x = np.arange(9, dtype=np.float32)[None] * 4  # where all distances are exact
    y = np.arange(7, dtype=np.float32)[None] * 4
    rng = np.random.default_rng(0)
    masks = rng.random((1, 9)) < 0.8, rng.random((1, 7)) < 0.8
    points = tuple(rng.integers(-2, 36, (2, 200)).astype(np.float32))

    @jax.jit
    def both(x, y, masks, points):
        cells = jnp.tile(x, 7), jnp.repeat(y, 9, axis=1)
        is_kept = (masks[1][:, :, None] & masks[0][:, None, :]).reshape(1, -1)
        return [
            (
                nearest_in_grid(x, y, masks, points, number),
                nearest_of_all(cells[0], cells[1], is_kept, points, number),
            )
            for number in (3, 5)
        ]

    for in_grid, of_all in both(x, y, masks, points):
        np.testing.assert_array_equal(in_grid.is_found, of_all.is_found)
        np.testing.assert_array_equal(in_grid.place, of_all.place)
