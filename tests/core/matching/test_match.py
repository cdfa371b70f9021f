"""Labels, boxes and overlaps of every anchor, against the oracle."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import reference

import rpn_jax
from rpn_jax import AnchorConfig, TargetConfig, match_anchors

# Integer corners: with boxes on quarters of pixels every tie is exact in float32, so
# that labels have to be equal without exception.
ANCHORS = AnchorConfig(
    sizes=(16, 24),
    strides=(8, (16, 8)),
    aspect_ratios=(0.5, 1.0),
    rounding="corners",
)
SHAPES = [(8, 10), (4, 10)]
IMAGE_SIZE = np.array([56, 70], np.float32)  # smaller than the padded 64 x 80
GRID = rpn_jax.make_anchors(ANCHORS, SHAPES)
BOXES = reference.make_anchors(ANCHORS, SHAPES)
CORNERS = reference.cell_corners(ANCHORS, SHAPES)
ROWS = 10

RULES = {
    "paper": TargetConfig(),
    "first_tie": TargetConfig(force_match="first"),
    "no_force": TargetConfig(force_match="none"),
    "min_force_iou": TargetConfig(min_force_iou=0.4),
    "retarget": TargetConfig(retarget_forced=True),
    "retarget_first": TargetConfig(retarget_forced=True, force_match="first"),
    "mmdetection": TargetConfig(retarget_forced=True, min_force_iou=0.3),
    "clobber": TargetConfig(clobber_positives=True),
    "thresholds": TargetConfig(positive_iou=0.5, negative_iou=0.4),
    "border": TargetConfig(allowed_border=0),
    "negative_border": TargetConfig(allowed_border=-4),
    "border_after": TargetConfig(allowed_border=0, border_after_matching=True),
    "padding": TargetConfig(ignore_padding=True, allowed_border=8),
    "regions_over_anchors": TargetConfig(ignore_iof=0.5),
    "anchors_over_regions": TargetConfig(ignore_iof=0.5, ignore_wrt_candidates=False),
    "regions_and_border": TargetConfig(ignore_iof=0.3, allowed_border=4),
    "regions_first": TargetConfig(
        ignore_iof=0.5, force_match="first", retarget_forced=True
    ),
    "regions_retarget": TargetConfig(
        ignore_iof=0.0, retarget_forced=True, min_force_iou=0.1, pixel_offset=1.0
    ),
    "regions_no_force": TargetConfig(ignore_iof=0.5, force_match="none"),
    "legacy": TargetConfig(pixel_offset=1.0),
    "py_faster_rcnn": TargetConfig(pixel_offset=1.0, allowed_border=0),
}
# Of a grid, whose programs are larger: rules that do not meet in its code share a case.
RULES_OF_GRIDS = RULES | {
    "no_force": TargetConfig(force_match="none", positive_iou=0.5, negative_iou=0.4),
    "negative_border": TargetConfig(allowed_border=-4, clobber_positives=True),
}
for _rule in ("min_force_iou", "retarget", "clobber", "thresholds", "border", "legacy"):
    del RULES_OF_GRIDS[_rule]
NO_REGION = np.zeros(ROWS, bool)
EITHER_FORM = pytest.mark.parametrize("form", ["grid", "boxes"])


def scene(kind):
    """`(gt_boxes, gt_valid, gt_ignore)` of an image, always `ROWS` rows."""
    rng = np.random.default_rng(sum(map(ord, kind)))
    boxes, valid = reference.random_boxes(rng, ROWS, 64), np.ones(ROWS, bool)
    ignore = np.zeros(ROWS, bool)
    if kind == "ties":  # on and between the centres of cells, and equal to anchors
        boxes = BOXES[rng.integers(0, len(BOXES), ROWS)]
        boxes[:6] += rng.choice([0, 4], (6, 1)).astype(np.float32)
    elif kind == "tiny":
        boxes[:, 2:] = boxes[:, :2] + rng.integers(1, 16, (ROWS, 2)) / np.float32(4)
    elif kind == "duplicates":
        boxes = boxes[rng.integers(0, 4, ROWS)]
    elif kind == "outside":
        boxes[:4] += np.array([[500, 0, 500, 0]], np.float32)
        boxes[4:6] -= np.float32(40)
        boxes[6:8] = np.array([[-100, -100, 300, 300]], np.float32)
    elif kind == "degenerate":
        boxes[:2, 2:] = boxes[:2, :2]  # points
        boxes[2:4] = boxes[2:4, [2, 3, 0, 1]]  # inverted
        boxes[4], boxes[5, 3] = np.nan, np.inf
    elif kind == "padding":
        valid, boxes[3:7] = rng.random(ROWS) < 0.3, np.nan
    elif kind == "only_padding":
        valid[:] = False
    elif kind == "regions":
        ignore = rng.random(ROWS) < 0.5
        boxes[ignore, 2:] += np.float32(16)
        valid[0] = False
    elif kind == "only_regions":
        ignore[:] = True
    elif kind == "crowd":  # objects lie in regions, and lose their best anchors
        ignore[:4] = True
        boxes[:2] = np.array([[0, 0, 40, 40], [30, 8, 70, 50]], np.float32)
        boxes[2], boxes[3] = np.nan, np.array([16, 16, 20, 20], np.float32)
        boxes[4:] = boxes[4:] / 4 + boxes[rng.integers(0, 2, 6)][:, [0, 1, 0, 1]]
    return boxes, valid, ignore


SCENES = ["random", "ties", "tiny", "duplicates", "outside", "degenerate", "padding"]
SCENES += ["only_padding", "regions", "only_regions", "crowd"]


def matcher(form, config):
    """`match_anchors` of `(gt_boxes, gt_valid, gt_ignore)`, to be compiled or not."""
    anchors = GRID if form == "grid" else BOXES

    def match(gt_boxes, gt_valid, gt_ignore):
        return match_anchors(
            anchors, gt_boxes, gt_valid, IMAGE_SIZE, gt_ignore=gt_ignore, config=config
        )

    return match


@functools.cache
def compiled_matcher(form, rule="paper"):
    rules = RULES_OF_GRIDS if form == "grid" else RULES
    return jax.jit(matcher(form, rules[rule]))


@functools.cache
def compiled_on_any_boxes():
    return jax.jit(functools.partial(match_anchors, config=TargetConfig()))


def assert_matches_oracle(matches, truth, config):
    gt_boxes, gt_valid, *gt_ignore = truth
    gt_ignore = gt_ignore[0] if gt_ignore else None
    labels, gt_index, max_iou = reference.match_anchors(
        BOXES, gt_boxes, gt_valid, IMAGE_SIZE, gt_ignore, CORNERS, config=config
    )
    np.testing.assert_array_equal(matches.labels, labels)
    np.testing.assert_array_equal(matches.gt_index, gt_index)
    np.testing.assert_allclose(matches.max_iou, max_iou, rtol=1e-6)


@pytest.mark.parametrize(
    ("form", "rule"),
    [
        *(("grid", rule) for rule in RULES_OF_GRIDS),
        *(("boxes", rule) for rule in RULES if rule != "padding"),  # know no cells
    ],
)
def test_every_rule_matches_oracle_in_every_scene(form, rule):
    config = (RULES_OF_GRIDS if form == "grid" else RULES)[rule]
    match = compiled_matcher(form, rule)
    for kind in SCENES:
        truth = scene(kind)
        assert_matches_oracle(match(*truth), truth, config)


@EITHER_FORM
def test_an_eager_call_equals_a_compiled_one(form):
    config = AnchorConfig(sizes=(16,), strides=(8,), aspect_ratios=(0.5,))
    anchors = rpn_jax.make_anchors(config, SHAPES[:1])
    anchors = anchors if form == "grid" else anchors.boxes
    truth = scene("ties")[:2]
    compiled = jax.jit(match_anchors)(anchors, *truth)
    chex.assert_trees_all_equal(match_anchors(anchors, *truth), compiled)


@pytest.mark.parametrize(
    "rule",
    [
        "paper",
        "retarget_first",
        "py_faster_rcnn",
        "anchors_over_regions",
        "regions_first",
        "regions_retarget",
    ],
)
def test_the_forms_for_cpu_and_for_accelerators_give_the_same_bits(rule, monkeypatch):
    expected = [compiled_matcher("grid", rule)(*scene(kind)) for kind in SCENES]
    monkeypatch.setattr(
        jax.lax, "platform_dependent", lambda *args, default, **_: default(*args)
    )
    elsewhere = jax.jit(matcher("grid", RULES[rule]))
    chex.assert_trees_all_equal([elsewhere(*scene(kind)) for kind in SCENES], expected)


def test_scenes_reach_every_kind_of_label():
    """The comparisons above would say little if some label never occurred."""
    config = TargetConfig()
    seen = np.concatenate(
        [
            reference.match_anchors(BOXES, *scene(k)[:2], config=config)[0]
            for k in SCENES
        ]
    )
    counts = [int((seen == label).sum()) for label in (-1, 0, 1)]
    assert min(counts) > 50


@pytest.mark.parametrize("rule", ["regions_over_anchors", "anchors_over_regions"])
def test_some_boxes_in_a_crowd_lose_all_their_best_anchors(rule):
    """The comparisons above would say little of regions if no box did."""
    gt_boxes, gt_valid, gt_ignore = scene("crowd")
    config = RULES[rule]
    labels, _, max_iou = reference.match_anchors(
        BOXES, gt_boxes, gt_valid, IMAGE_SIZE, gt_ignore, CORNERS, config=config
    )
    iou = reference.pairwise_iou(gt_boxes[4:], BOXES)
    left = np.where(max_iou > 0.0, iou, 0.0).max(axis=1)
    assert ((left > 0.0) & (left < iou.max(axis=1) - 1e-6)).any()
    assert (labels == 1).any()


@EITHER_FORM
def test_results_are_int32_and_float32(form):
    matches = jax.eval_shape(matcher(form, TargetConfig()), *scene("random"))
    assert [x.dtype for x in matches] == [jnp.int32, jnp.int32, jnp.float32]
    assert {x.shape for x in matches} == {(len(GRID),)}


@EITHER_FORM
@pytest.mark.parametrize("rule", ["paper", "regions_over_anchors"])
def test_vmap_equals_a_loop(form, rule):
    match = compiled_matcher(form, rule)
    truths = [scene(kind) for kind in SCENES]
    batch = jax.tree.map(lambda *xs: np.stack(xs), *truths)
    looped = [match(*truth) for truth in truths]
    looped = jax.tree.map(lambda *xs: np.stack(xs), *looped)
    chex.assert_trees_all_equal(jax.jit(jax.vmap(match))(*batch), looped)


@EITHER_FORM
def test_vmap_over_image_sizes_judges_each_by_its_own(form):
    anchors = GRID if form == "grid" else BOXES
    config = TargetConfig(allowed_border=0)
    sizes = np.array([[64, 80], [40, 50], [8, 8]], np.float32)
    gt_boxes, gt_valid, _ = scene("random")

    def match(size):
        return match_anchors(anchors, gt_boxes, gt_valid, size, config=config)

    labels = jax.jit(jax.vmap(match))(sizes).labels
    for i, size in enumerate(sizes):
        expected = reference.match_anchors(
            BOXES, gt_boxes, gt_valid, size, config=config
        )
        np.testing.assert_array_equal(labels[i], expected[0])


@EITHER_FORM
def test_changing_values_are_traced_once(form):
    match = jax.jit(chex.assert_max_traces(matcher(form, TargetConfig()), n=1))
    for kind in SCENES:
        match.trace(*scene(kind))


@pytest.mark.parametrize(
    "settings",
    [
        {"rounding": "none"},
        {"rounding": "none", "center_offset": 0.5},
        {"rounding": "legacy", "aspect_ratios": (0.5, 2.0)},
    ],
    ids=["unrounded", "half_a_stride", "legacy"],
)
def test_a_grid_and_its_boxes_agree_wherever_rounding_does_not_decide(settings):
    anchors = dataclasses.replace(ANCHORS, **settings)
    grid = rpn_jax.make_anchors(anchors, SHAPES)
    boxes = np.asarray(grid.boxes)
    match = compiled_on_any_boxes()
    for kind in ("random", "ties", "outside"):
        truth = scene(kind)[:2]
        decisive = reference.decisive(boxes, *truth, TargetConfig())
        found, expected = match(grid, *truth), match(boxes, *truth)
        labels = np.asarray(found.labels)
        known = np.asarray(expected.labels)
        np.testing.assert_array_equal(labels[decisive], known[decisive])
        np.testing.assert_allclose(found.max_iou, expected.max_iou, atol=2e-6)


def test_padding_is_judged_by_where_the_cell_begins():
    anchors = dataclasses.replace(ANCHORS, center_offset=0.5)
    grid = rpn_jax.make_anchors(anchors, SHAPES)
    config = TargetConfig(ignore_padding=True)
    gt_boxes, gt_valid, _ = scene("only_padding")
    size = np.array([50, 66], np.float32)  # 2 pixels into row 6 and column 8
    match = jax.jit(functools.partial(match_anchors, config=config))
    labels = match(grid, gt_boxes, gt_valid, size).labels
    begins_inside = (CORNERS[:, 0] < size[1]) & (CORNERS[:, 1] < size[0])
    np.testing.assert_array_equal(labels, np.where(begins_inside, 0, -1))


@EITHER_FORM
@given(seed=st.integers(0, 2**16))
def test_padding_rows_and_their_place_change_nothing(form, seed):
    rng = np.random.default_rng(seed)
    boxes, valid = reference.random_boxes(rng, ROWS, 64), rng.random(ROWS) < 0.6
    match = compiled_matcher(form)
    expected = match(boxes, valid, NO_REGION)
    rubbish = np.where(
        valid[:, None], boxes, rng.choice([np.nan, np.inf, 7], (ROWS, 4))
    )
    found = match(rubbish.astype(np.float32), valid, NO_REGION)
    chex.assert_trees_all_equal(found, expected)
    order = rng.permutation(ROWS)
    moved = match(boxes[order], valid[order], NO_REGION)
    np.testing.assert_array_equal(moved.labels, expected.labels)
    np.testing.assert_array_equal(moved.max_iou, expected.max_iou)


@EITHER_FORM
@given(seed=st.integers(0, 2**16))
def test_every_box_that_can_be_reached_gets_a_positive(form, seed):
    rng = np.random.default_rng(seed)
    boxes = reference.random_boxes(rng, ROWS, 64)
    matches = compiled_matcher(form)(boxes, np.ones(ROWS, bool), NO_REGION)
    iou = reference.pairwise_iou(boxes, BOXES)
    positive = np.asarray(matches.labels) == 1
    for row in iou:
        assert row.max() == 0 or row[positive].max() >= row.max() - 1e-6


@given(seed=st.integers(0, 2**16))
def test_the_order_of_plain_anchors_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(BOXES))
    truth = reference.random_boxes(rng, ROWS, 64), np.ones(ROWS, bool)
    match = compiled_on_any_boxes()
    expected = jax.tree.map(lambda x: np.asarray(x)[order], match(BOXES, *truth))
    chex.assert_trees_all_equal(match(BOXES[order], *truth), expected)


@pytest.mark.parametrize(
    "rule", ["regions_over_anchors", "anchors_over_regions", "regions_first"]
)
@given(seed=st.integers(0, 2**16))
def test_a_grid_and_its_boxes_agree_on_regions(rule, seed):
    rng = np.random.default_rng(seed)
    boxes, valid = reference.random_boxes(rng, ROWS, 64), rng.random(ROWS) < 0.8
    ignore = rng.random(ROWS) < rng.choice([0.0, 0.3, 0.7])
    boxes[rng.random(ROWS) < 0.1, 2] = rng.choice([np.nan, np.inf, -5])
    truth = boxes, valid, ignore
    expected = compiled_matcher("boxes", rule)(*truth)
    chex.assert_trees_all_equal(compiled_matcher("grid", rule)(*truth), expected)


def test_flags_that_mark_no_region_change_nothing():
    anchors = dataclasses.replace(ANCHORS, rounding="none")  # ties on rounded overlaps
    grid = rpn_jax.make_anchors(anchors, SHAPES)
    rules = TargetConfig(ignore_iof=0.5)
    match = jax.jit(functools.partial(match_anchors, config=rules))
    for kind in ("ties", "padding"):
        gt_boxes, gt_valid, gt_ignore = scene(kind)
        found = match(grid, gt_boxes, gt_valid, gt_ignore=gt_ignore)
        expected = match(grid, gt_boxes, gt_valid)
        chex.assert_trees_all_equal(found, expected)


def test_matching_has_no_gradient():
    gt_boxes, gt_valid, _ = scene("random")

    def overlap(anchors, gt_boxes):
        return match_anchors(anchors, gt_boxes, gt_valid).max_iou.sum()

    gradients = jax.jit(jax.grad(overlap, argnums=(0, 1)))(BOXES, gt_boxes)
    assert not any(np.any(gradient) for gradient in gradients)


@pytest.mark.parametrize(
    "config", [TargetConfig(allowed_border=0), TargetConfig(ignore_padding=True)]
)
def test_rules_about_the_image_need_its_size(config):
    with pytest.raises(ValueError, match="image_size"):
        match_anchors(GRID, *scene("random")[:2], config=config)


def test_padding_cannot_be_told_from_plain_boxes():
    config = TargetConfig(ignore_padding=True)
    with pytest.raises(ValueError, match="AnchorGrid"):
        match_anchors(BOXES, *scene("random")[:2], IMAGE_SIZE, config=config)
