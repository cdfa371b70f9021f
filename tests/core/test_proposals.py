"""Proposals beside loops in NumPy: what is selected, and what never is."""

import dataclasses
import functools
import inspect

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.reference import nms_by_hand, pairwise_iou

from rpn_jax import AnchorConfig, ProposalConfig, RPNOutput, make_anchors
from rpn_jax.core.proposals import propose

GRID = make_anchors(AnchorConfig(sizes=(16, 32), strides=(8, 16)), [(9, 12), (5, 6)])
ANCHORS = np.asarray(GRID.boxes)
N = len(GRID)
IMAGE_SIZE = (68.0, 90.0)
CONFIG = ProposalConfig(pre_nms_top_k=120, post_nms_top_k=80, iou_threshold=0.6)
SMALL = ProposalConfig(pre_nms_top_k=40, post_nms_top_k=20)


# --- the oracle


def decode_by_hand(delta, anchor, image_size, config):
    x0, y0, x1, y1 = (float(x) for x in anchor)
    dx, dy, dw, dh = np.asarray(delta, float) / np.array(config.delta_weights)
    lowest = -config.max_log_scale if config.symmetric_log_scale else -np.inf
    dw, dh = np.clip([dw, dh], lowest, config.max_log_scale)
    width, height = x1 - x0 + config.pixel_offset, y1 - y0 + config.pixel_offset
    x, y = x0 + width / 2 + dx * width, y0 + height / 2 + dy * height
    half = np.array([np.exp(dw) * width, np.exp(dh) * height]) / 2
    limit = np.array([image_size[1], image_size[0]]) - config.pixel_offset
    corners = [np.clip([x, y] - half, 0, limit), np.clip([x, y] + half, 0, limit)]
    return np.concatenate(corners)


def propose_by_hand(output, image_size, config, grid=GRID):
    """Boxes, probabilities and the rows they came from, one level after the other."""
    logits, deltas = output.logits, output.deltas
    pairs = zip(deltas, np.asarray(grid.boxes), strict=True)
    boxes = np.array([decode_by_hand(*pair, image_size, config) for pair in pairs])
    sides = boxes[:, 2:] - boxes[:, :2] + config.pixel_offset
    large = (sides >= config.min_size).all(axis=1)
    if config.exclusive_min_size:
        large = (sides > config.min_size).all(axis=1)
    probability = 1 / (1 + np.exp(-logits.astype(float)))
    kept, start = [], 0
    for size in grid.level_sizes if config.per_level else [len(grid)]:
        rows = np.arange(start, start + size)
        rows = rows[np.isfinite(logits[rows])]
        if config.filter_before_top_k:
            rows = rows[large[rows]]
        rows = rows[np.argsort(-logits[rows], kind="stable")][: config.pre_nms_top_k]
        rows = rows[large[rows] & np.isfinite(deltas[rows]).all(axis=1)]
        rows = rows[probability[rows] >= (config.score_threshold or 0)]
        suppress = functools.partial(
            nms_by_hand,
            boxes[rows],
            logits[rows],
            inclusive_threshold=config.inclusive_threshold,
            pixel_offset=config.pixel_offset,
        )
        stay = list(suppress(iou_threshold=config.iou_threshold))
        moved = [vote_by_hand(i, boxes[rows], probability[rows], config) for i in stay]
        kept.extend(zip(moved, probability[rows[stay]], strict=True))
        if config.soft_iou_threshold is not None:
            rest = suppress(iou_threshold=config.soft_iou_threshold)
            rest = rows[[i for i in rest if i not in stay]]
            lower = config.soft_factor * probability[rest]
            rest = rest[lower >= (config.score_threshold or 0)]
            kept.extend((boxes[i], config.soft_factor * probability[i]) for i in rest)
        start += size
    order = np.argsort([-p for _, p in kept], kind="stable")[: config.post_nms_top_k]
    return np.array([kept[i][0] for i in order]), np.array([kept[i][1] for i in order])


def vote_by_hand(i, boxes, probability, config):
    if config.vote_iou_threshold is None:
        return boxes[i]
    total, votes = np.zeros(4), 0.0
    overlaps = pairwise_iou(boxes[i][None], boxes, config.pixel_offset)[0]
    for box, p, overlap in zip(boxes, probability, overlaps, strict=True):
        if overlap >= config.vote_iou_threshold:
            total, votes = total + p * box, votes + p
    return total / votes


# --- inputs and checks


def make_output(seed=0, batch=(), spread=0.3, number=N):
    """Predictions without two equal logits in an image."""
    rng = np.random.default_rng(seed)
    logits = np.linspace(-4, 4, number)
    logits = rng.permuted(np.broadcast_to(logits, (*batch, number)), axis=-1)
    deltas = rng.normal(0, spread, (*batch, number, 4))
    return RPNOutput(logits.astype(np.float32), deltas.astype(np.float32))


def check(actual, expected):
    boxes, probabilities = expected
    number = len(boxes)
    actual = jax.tree.map(np.asarray, actual)
    assert actual.valid.tolist() == [i < number for i in range(len(actual.valid))]
    np.testing.assert_allclose(actual.boxes[:number], boxes, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(actual.scores[:number], probabilities, rtol=1e-5)
    np.testing.assert_array_equal(actual.boxes[number:], 0)
    np.testing.assert_array_equal(actual.scores[number:], 0)


def check_with_oracle(output, config, image_size=IMAGE_SIZE):
    expected = propose_by_hand(output, image_size, config)
    check(propose(output, GRID, image_size, config=config), expected)
    return len(expected[0])


# --- against the oracle

# Settings that other tests need too, so that their program is compiled once.
LIMITS = {"pre_nms_top_k": 30, "post_nms_top_k": 25}
LIMITS |= {"train_pre_nms_top_k": 60, "train_post_nms_top_k": 40}
SOFT = {"soft_iou_threshold": 0.7, "soft_factor": 0.5, "score_threshold": 0.47}
SOFT |= {"vote_iou_threshold": 0.65}
VOTING = {"vote_iou_threshold": 0.5, "pixel_offset": 1.0, "per_level": False}
FREE = {"delta_weights": (10.0, 10.0, 5.0, 5.0), "max_log_scale": np.inf}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"per_level": False},
        LIMITS,
        {"pre_nms_top_k": 10_000, "post_nms_top_k": 10_000, "max_log_scale": 0.1},
        {"post_nms_top_k": 1},
        {"inclusive_threshold": True, "iou_threshold": 0.3},
        {"min_size": 16.0},
        {"min_size": 16.0, "filter_before_top_k": True, "exclusive_min_size": False},
        {"score_threshold": 0.95, "max_log_scale": 0.1, "symmetric_log_scale": True},
        FREE,
        {"pixel_offset": 1.0, "per_level": False, "min_size": 8.0},
        {"soft_iou_threshold": 0.8, "soft_factor": 0.4, "post_nms_top_k": 300},
        VOTING,
        SOFT | {"post_nms_top_k": 300},
    ],
    ids=lambda settings: "-".join(settings) or "default",
)
def test_matches_oracle(settings):
    config = dataclasses.replace(CONFIG, **settings)
    assert check_with_oracle(make_output(), config) > 0


def test_matches_oracle_without_jit():
    config = dataclasses.replace(SMALL, pre_nms_top_k=20, post_nms_top_k=10)
    grid = make_anchors(AnchorConfig(sizes=(16,), strides=(8,)), [(5, 6)])
    output = make_output(number=len(grid))
    expected = propose_by_hand(output, IMAGE_SIZE, config, grid)
    with jax.disable_jit():
        check(propose(output, grid, IMAGE_SIZE, config=config), expected)
    assert len(expected[0]) == 10


@pytest.mark.parametrize("exclusive", [True, False])
def test_a_box_of_just_the_smallest_size_stays_by_choice(exclusive):
    settings = {"exclusive_min_size": exclusive, "filter_before_top_k": not exclusive}
    config = dataclasses.replace(CONFIG, min_size=16.0, **settings)
    is_square = (ANCHORS[:, 2:] - ANCHORS[:, :2] == 16).all(axis=1)
    is_inside = (ANCHORS >= 0).all(axis=1) & (ANCHORS[:, 2] <= 90)
    first = np.flatnonzero(is_square & is_inside)[0]
    logits = np.where(np.arange(N) == first, 0, -np.inf).astype(np.float32)
    output = RPNOutput(logits, np.zeros((N, 4), np.float32))
    proposals = propose(output, GRID, IMAGE_SIZE, config=config)
    assert np.asarray(proposals.valid).sum() == (0 if exclusive else 1)


def test_equal_logits_rank_by_index_and_zero_has_no_sign():
    config = dataclasses.replace(SMALL, iou_threshold=1.0)
    logits = np.where(np.arange(N) % 2, 0.0, -0.0).astype(np.float32)
    output = RPNOutput(logits, np.zeros((N, 4), np.float32))
    proposals = propose(output, GRID, (1000.0, 1000.0), config=config)
    expected = np.clip(ANCHORS, 0, 1000)[: config.post_nms_top_k]
    np.testing.assert_allclose(proposals.boxes, expected, rtol=1e-6)
    np.testing.assert_array_equal(proposals.scores, 0.5)


def test_logits_decide_where_probabilities_round_to_one():
    logits = np.linspace(30, 40, N).astype(np.float32)
    output = RPNOutput(logits, np.zeros((N, 4), np.float32))
    config = dataclasses.replace(SMALL, iou_threshold=1.0)
    proposals = propose(output, GRID, (1000.0, 1000.0), config=config)
    expected = np.clip(ANCHORS[::-1], 0, 1000)[: config.post_nms_top_k]
    np.testing.assert_array_equal(proposals.scores, 1.0)
    np.testing.assert_allclose(proposals.boxes, expected, rtol=1e-6)


def test_two_logits_are_the_logit_of_their_softmax():
    output = make_output()
    background = np.random.default_rng(9).normal(0, 1, N).astype(np.float32)
    pair = np.stack([background, background + output.logits], axis=-1)
    difference = RPNOutput(pair[:, 1] - pair[:, 0], output.deltas)
    actual = propose(RPNOutput(pair, output.deltas), GRID, IMAGE_SIZE, config=CONFIG)
    expected = propose(difference, GRID, IMAGE_SIZE, config=CONFIG)
    chex.assert_trees_all_equal(actual, expected)


def test_limits_of_training_are_their_own():
    config = dataclasses.replace(CONFIG, **LIMITS)
    output = make_output()
    assert check_with_oracle(output, config) == 25
    assert check_with_oracle(output, config.for_training()) == 40


def test_an_array_of_anchors_is_one_level():
    output = make_output()
    config = dataclasses.replace(CONFIG, per_level=False)
    of_grid = propose(output, GRID, IMAGE_SIZE, config=config)
    of_array = propose(output, ANCHORS, IMAGE_SIZE, config=CONFIG)
    chex.assert_trees_all_equal(of_grid, of_array)


# --- predictions that are not finite


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_predictions_that_are_not_finite_are_never_proposed(value):
    output = make_output()
    logits, deltas = output.logits.copy(), output.deltas.copy()
    best = np.argsort(-logits)
    logits[best[::7]] = value
    for i in range(4):
        deltas[best[i + 1 :: 11], i] = value
    output = RPNOutput(logits, deltas)
    assert check_with_oracle(output, CONFIG) > 10
    assert check_with_oracle(output, dataclasses.replace(CONFIG, **VOTING)) > 10


def test_nothing_is_proposed_where_nothing_is_finite():
    output = RPNOutput(np.full(N, np.nan, np.float32), np.zeros((N, 4), np.float32))
    check(propose(output, GRID, IMAGE_SIZE, config=CONFIG), (np.zeros((0, 4)), []))


def test_huge_deltas_give_boxes_inside_the_image():
    output = make_output(spread=1e4)
    for settings in ({}, FREE):
        config = dataclasses.replace(CONFIG, **settings)
        boxes = np.asarray(propose(output, GRID, IMAGE_SIZE, config=config).boxes)
        assert np.isfinite(boxes).all()
        assert (boxes >= 0).all()
        assert (boxes <= np.array([[90, 68, 90, 68]])).all()


# --- batches and transformations


def test_each_image_of_a_batch_has_its_own_size():
    output = make_output(batch=(3,))
    sizes = np.array([[68, 90], [40, 90], [68, 30]], np.float32)
    batch = propose(output, GRID, sizes, config=CONFIG)
    for i in (0, 1, 2):
        image = RPNOutput(output.logits[i], output.deltas[i])
        alone = propose(image, GRID, tuple(sizes[i].tolist()), config=CONFIG)
        for x, y in zip(batch, alone, strict=True):
            np.testing.assert_array_equal(np.asarray(x)[i], y)
        check(alone, propose_by_hand(image, sizes[i], CONFIG))


def test_a_batch_may_share_a_size():
    output = make_output(batch=(3,))
    sizes = np.tile(np.array([[68, 90]], np.float32), (3, 1))
    shared = propose(output, GRID, (68, 90), config=CONFIG)
    chex.assert_trees_all_equal(shared, propose(output, GRID, sizes, config=CONFIG))


def test_no_gradient_passes():
    output = make_output()

    def total(output):
        proposals = propose(output, GRID, IMAGE_SIZE, config=SMALL)
        return jnp.sum(proposals.boxes) + jnp.sum(proposals.scores)

    gradient = jax.jit(jax.grad(total))(output)
    chex.assert_trees_all_equal(gradient, jax.tree.map(np.zeros_like, output))


def test_bfloat16_predictions_are_decoded_in_float32():
    output = jax.tree.map(lambda x: x.astype(jnp.bfloat16), make_output())
    wide = jax.tree.map(lambda x: x.astype(np.float32), output)
    actual = propose(output, GRID, IMAGE_SIZE, config=CONFIG)
    assert actual.boxes.dtype == jnp.float32
    chex.assert_trees_all_equal(actual, propose(wide, GRID, IMAGE_SIZE, config=CONFIG))


def test_traces_once_for_changing_values():
    traced = chex.assert_max_traces(inspect.unwrap(propose), n=1)
    function = jax.jit(functools.partial(traced, config=SMALL))
    for seed in range(3):
        output = make_output(seed)
        expected = propose_by_hand(output, IMAGE_SIZE, SMALL)
        check(function(output, GRID, np.array(IMAGE_SIZE, np.float32)), expected)


@pytest.mark.parametrize("rows", [0, N - 1, N + 1])
def test_predictions_and_anchors_must_agree(rows):
    output = RPNOutput(np.zeros(rows, np.float32), np.zeros((rows, 4), np.float32))
    with pytest.raises(ValueError, match=f"for {N} anchors"):
        propose(output, GRID, IMAGE_SIZE)
