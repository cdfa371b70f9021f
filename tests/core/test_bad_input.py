"""Whatever the arrays hold, labels follow the rules, losses and gradients are finite.

What is known before the program runs, shapes and dtypes, is refused by name instead.
"""

import functools

import chex
import jax
import numpy as np
import pytest
from support import reference

import rpn_jax
from rpn_jax import AnchorConfig, LossConfig, RPNOutput, TargetConfig, Targets

GRID = rpn_jax.make_anchors(
    AnchorConfig(
        sizes=(16, 32), strides=(8, 16), aspect_ratios=(0.5, 1.0), rounding="corners"
    ),
    [(6, 8), (3, 4)],
)
BOXES = np.asarray(jax.jit(lambda: GRID.boxes)())
SIZE = np.array([48, 64], np.float32)
ROWS = 6
GOOD = reference.random_boxes(np.random.default_rng(0), ROWS, 40)
TARGETS = TargetConfig(num_samples=32)
LOSSES = (LossConfig(), LossConfig(box_loss="ciou", normalizer="image"))


def padded(*rows, valid=None):
    """`(gt_boxes, gt_valid)` of a few rows, and padding."""
    boxes = np.zeros((ROWS, 4), np.float32)
    boxes[: len(rows)] = np.array(rows, np.float32).reshape(-1, 4)
    valid = range(len(rows)) if valid is None else valid
    return boxes, np.isin(np.arange(ROWS), list(valid))


def many(number, seed=1):
    boxes = reference.random_boxes(np.random.default_rng(seed), number, 40)
    return boxes, np.ones(number, bool)


NAN, INF = np.nan, np.inf
TRUTHS = {
    "no_rows": (np.zeros((0, 4), np.float32), np.zeros(0, bool)),
    "only_padding": (GOOD, np.zeros(ROWS, bool)),
    "nan_in_padding": padded(GOOD[0], [NAN] * 4, [INF] * 4, [NAN, 0, 9, 9], valid=[0]),
    "nan_in_a_valid_box": padded(GOOD[0], [NAN] * 4, [0, NAN, 9, 9]),
    "infinity_in_a_valid_box": padded(
        [0, 0, INF, INF], [-INF, -INF, INF, INF], GOOD[1]
    ),
    "inverted": padded([30, 30, 10, 10], [30, 5, 10, 25], [-1, -1, -9, -9]),
    "without_area": padded([9, 9, 9, 9], [9, 9, 9, 30], [0, 0, 0, 0], GOOD[2]),
    "minute": padded([9, 9, 9 + 1e-6, 9 + 1e-6], [0, 0, 1e-15, 1e-15]),
    "outside": padded([500, 500, 520, 520], [-90, -90, -70, -70], [60, 40, 900, 900]),
    "far_outside": padded([1e9, 1e9, 1.1e9, 1.1e9], [-1e9, -1e9, 1e9, 1e9]),
    "larger_than_the_image": padded([-100, -100, 200, 200], GOOD[0]),
    "all_alike": padded(*[GOOD[0]] * ROWS),
    "one_box": (GOOD[:1], np.ones(1, bool)),
    "more_boxes_than_anchors": many(len(BOXES) + 1),
    "a_thousand_boxes": many(1000),
}
# Of images and anchors: the size of the image, the anchors, and what is odd about them.
PLACES = {
    "grid": (GRID, SIZE),
    "boxes": (BOXES, SIZE),
    "no_anchor_inside": (GRID, np.array([4, 4], np.float32)),
    "an_image_without_pixels": (BOXES, np.array([0, 0], np.float32)),
    "all_anchors_tied": (np.tile(BOXES[20:21], (len(BOXES), 1)), SIZE),
    "an_anchor_without_area": (
        BOXES * np.where(np.arange(len(BOXES)) == 9, np.float32(0), 1)[:, None],
        SIZE,
    ),
    "an_anchor_that_is_not_finite": (
        BOXES * np.where(BOXES[:, 2:3] > 60, NAN, np.float32(1)),
        SIZE,
    ),
    "one_anchor": (BOXES[20:21], SIZE),
}
EVERY_TRUTH = pytest.mark.parametrize("truth", TRUTHS)
BORDERS = pytest.mark.parametrize("border", [None, 0], ids=["all", "inside"])


@functools.partial(jax.jit, static_argnames="config")
def assign(anchors, gt_boxes, gt_valid, image_size, *, config):
    key = jax.random.key(0)
    return rpn_jax.assign_targets(
        key, anchors, gt_boxes, gt_valid, image_size, config=config
    )


match = jax.jit(rpn_jax.match_anchors)


@functools.partial(jax.jit, static_argnames="config")
def losses_and_gradient(output, targets, anchors, *, config):
    def total(output):
        losses = rpn_jax.rpn_loss(output, targets, anchors=anchors, config=config)
        return losses.total, losses

    gradient, losses = jax.grad(total, has_aux=True)(output)
    return losses, gradient


def predictions(number):
    rng = np.random.default_rng(2)
    return RPNOutput(
        *(rng.normal(size=(number, *x)).astype(np.float32) for x in ((), (4,)))
    )


def assert_well_defined(anchors, truth, size, config):
    """Labels by the oracle, then everything of a training step finite."""
    boxes = np.asarray(anchors.boxes if anchors is GRID else anchors)
    gt_boxes, gt_valid = truth
    labels, _, _ = reference.match_anchors(
        boxes, gt_boxes, gt_valid, size, config=config
    )
    targets = assign(anchors, gt_boxes, gt_valid, size, config=config)
    found = np.asarray(targets.labels)
    assert np.all((found == labels) | (found == -1))
    counts = int((found == 1).sum()), int((found == 0).sum())
    assert counts == reference.sample_counts(labels, config.num_samples, 0.5)
    for losses in LOSSES:
        result = losses_and_gradient(
            predictions(len(boxes)), targets, boxes, config=losses
        )
        chex.assert_tree_all_finite((targets, result))


@EVERY_TRUTH
def test_strange_boxes_on_a_grid_are_well_defined(truth):
    config = TargetConfig(num_samples=32, allowed_border=0)
    assert_well_defined(GRID, TRUTHS[truth], SIZE, config)


@EVERY_TRUTH
def test_strange_boxes_under_plain_anchors_are_well_defined(truth):
    assert_well_defined(BOXES, TRUTHS[truth], SIZE, TARGETS)


@BORDERS
@pytest.mark.parametrize("place", PLACES)
def test_strange_anchors_and_images_are_well_defined(place, border):
    anchors, size = PLACES[place]
    config = TargetConfig(num_samples=32, allowed_border=border)
    for truth in ("all_alike", "only_padding"):
        assert_well_defined(anchors, TRUTHS[truth], size, config)


@pytest.mark.parametrize("truth", ["no_rows", "only_padding", "inverted"])
def test_without_a_box_every_anchor_is_negative(truth):
    matches = match(GRID, *TRUTHS[truth])
    assert not np.any(matches.labels)
    assert not np.any(matches.max_iou)
    targets = assign(BOXES, *TRUTHS[truth], SIZE, config=TARGETS)
    assert (np.asarray(targets.labels) == 0).sum() == TARGETS.num_samples
    assert not np.any(targets.deltas)


def test_without_an_anchor_inside_nothing_is_sampled_and_the_losses_are_zero():
    config = TargetConfig(num_samples=32, allowed_border=0)
    anchors, size = PLACES["no_anchor_inside"]
    targets = assign(anchors, *TRUTHS["outside"], size, config=config)
    assert np.all(np.asarray(targets.labels) == -1)
    losses, gradient = losses_and_gradient(
        predictions(len(BOXES)), targets, BOXES, config=LOSSES[0]
    )
    assert losses.total == 0.0
    assert not any(np.any(x) for x in gradient)


def test_a_box_that_touches_no_anchor_forces_none():
    gt_boxes, gt_valid = padded([500, 500, 520, 520])
    matches = match(BOXES, gt_boxes, gt_valid)
    assert not np.any(matches.labels)


def test_all_tied_anchors_are_forced_together():
    anchors, _ = PLACES["all_anchors_tied"]
    gt_boxes, gt_valid = padded(anchors[0] + np.array([0, 0, 16, 16], np.float32))
    matches = match(anchors, gt_boxes, gt_valid)
    assert np.all(np.asarray(matches.labels) == 1)


# --- what is refused

KEY = jax.random.key(0)
LABELS = np.zeros(len(BOXES), np.int32)
VALID = np.ones(ROWS, bool)
OUTPUT = predictions(len(BOXES))
SOME = Targets(LABELS, np.zeros_like(BOXES))


def losses(output=OUTPUT, targets=SOME, **options):
    return rpn_jax.rpn_loss(output, targets, **options)


REFUSED = {
    "boxes_of_three": (
        lambda: rpn_jax.match_anchors(BOXES, GOOD[:, :3], VALID),
        "gt_boxes",
    ),
    "boxes_of_text": (
        lambda: rpn_jax.match_anchors(BOXES, GOOD.astype(str), VALID),
        "gt_boxes",
    ),
    "boxes_of_other_lengths": (
        lambda: rpn_jax.match_anchors(BOXES, [[0, 0, 9, 9], [0, 0, 9]], VALID[:2]),
        "gt_boxes",
    ),
    "boxes_of_a_batch": (
        lambda: rpn_jax.match_anchors(BOXES, GOOD[None], VALID),
        "gt_boxes",
    ),
    "validity_of_other_rows": (
        lambda: rpn_jax.match_anchors(BOXES, GOOD, VALID[:-1]),
        "gt_valid",
    ),
    "validity_of_integers": (
        lambda: rpn_jax.match_anchors(BOXES, GOOD, VALID.astype(int)),
        "gt_valid",
    ),
    "anchors_of_three": (
        lambda: rpn_jax.match_anchors(BOXES[:, :3], GOOD, VALID),
        "anchors",
    ),
    "ignored_of_other_rows": (
        lambda: rpn_jax.match_anchors(BOXES, GOOD, VALID, gt_ignore=VALID[:-1]),
        "gt_ignore",
    ),
    "image_size_of_three": (
        lambda: rpn_jax.match_anchors(BOXES, GOOD, VALID, np.ones(3, np.float32)),
        "image_size",
    ),
    "key_of_integers": (lambda: rpn_jax.sample_anchors(LABELS[:1], LABELS), "key"),
    "labels_of_floats": (lambda: rpn_jax.sample_anchors(KEY, BOXES[:, 0]), "labels"),
    "labels_of_two_axes": (lambda: rpn_jax.sample_anchors(KEY, LABELS[None]), "labels"),
    "targets_of_three": (
        lambda: rpn_jax.assign_targets(KEY, BOXES, GOOD[:, :3], VALID),
        "gt_",
    ),
    "iou_of_three": (lambda: rpn_jax.pairwise_iou(BOXES[:, :3], GOOD), "needs a as"),
    "encoding_of_other_rows": (lambda: rpn_jax.encode_boxes(GOOD, BOXES), "anchors"),
    "decoding_of_other_rows": (lambda: rpn_jax.decode_boxes(GOOD, BOXES), "anchors"),
    "clipping_to_three": (
        lambda: rpn_jax.clip_boxes(GOOD, np.ones(3, np.float32)),
        "image_size",
    ),
    "losses_of_other_rows": (
        lambda: losses(OUTPUT._replace(deltas=OUTPUT.deltas[:-1])),
        "deltas",
    ),
    "losses_of_three_logits": (
        lambda: losses(OUTPUT._replace(logits=np.zeros((len(BOXES), 3), np.float32))),
        "logits",
    ),
    "losses_of_other_labels": (
        lambda: losses(targets=SOME._replace(labels=LABELS[:-1])),
        "labels",
    ),
    "losses_of_another_batch": (
        lambda: losses(jax.tree.map(lambda x: np.stack([x, x]), OUTPUT)),
        "logits",
    ),
    "losses_with_other_anchors": (
        lambda: losses(anchors=BOXES[:-1], config=LossConfig(box_loss="ciou")),
        "anchors",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_shapes_and_dtypes_are_refused_by_name(case):
    call, named = REFUSED[case]
    with pytest.raises((ValueError, TypeError), match=named) as refusal:
        call()
    assert "\n" not in str(refusal.value)
