"""What a user would call a number, a list or a box is taken, and else one sentence."""

import dataclasses
import inspect
import os
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import rpn_jax
from rpn_jax import RPNConfig

rpn: Any = rpn_jax  # for calls that a type checker refuses
AnchorConfig, TargetConfig = rpn.AnchorConfig, rpn.TargetConfig
RPNOutput, Targets = rpn.RPNOutput, rpn.Targets

BOXES = [[0, 0, 9, 9], [0, 0, 10, 10], [5, 5, 15, 15]]
SCORES = [0.8, 0.9, 0.7]
FLOATS, FLOAT_SCORES = np.array(BOXES, np.float32), np.array(SCORES, np.float32)
GRID = rpn.make_anchors(AnchorConfig(sizes=(16,), strides=(8,)), [(2, 3)])
LABELS = np.array([1, 0, -1])
KEY = jax.random.key(0)
LIMITS = {"iou_threshold": 0.5, "max_outputs": 2}


def shape_of(function, *args, **kwargs):
    """Traces and compiles nothing: arrays in `args` are constants of the program."""
    return jax.eval_shape(lambda: function(*args, **kwargs))


def jaxpr_of(function, *args):
    return str(jax.make_jaxpr(function)(*args))


# --- what is taken


def test_lists_and_arrays_in_settings_become_tuples():
    config = AnchorConfig(
        sizes=[[32, 64], np.array([128.0, 256.0])],
        strides=[np.int64(8), (16, 8)],
        aspect_ratios=np.array([0.5, 1.0], np.float32),
    )
    expected = AnchorConfig(
        sizes=((32, 64), (128.0, 256.0)), strides=(8, (16, 8)), aspect_ratios=(0.5, 1.0)
    )
    assert config == expected
    assert hash(config) == hash(expected)


def test_scalars_of_numpy_and_jax_in_settings_become_numbers():
    config = TargetConfig(
        positive_iou=np.float32(0.5),
        num_samples=np.int64(64),
        retarget_forced=np.bool_(True),
        allowed_border=np.array(2),
        delta_weights=[1, 1, np.float64(2), 2.0],
    )
    expected = TargetConfig(
        positive_iou=0.5,
        num_samples=64,
        retarget_forced=True,
        allowed_border=2,
        delta_weights=(1, 1, 2.0, 2.0),
    )
    assert config == expected
    assert [type(x) for x in dataclasses.astuple(config)] == [
        type(x) for x in dataclasses.astuple(expected)
    ]


def test_a_whole_float_is_a_whole_number():
    config = TargetConfig(num_samples=1e3)
    assert type(config.num_samples) is int
    assert config.num_samples == 1000


def test_nms_takes_lists_and_scalars_of_numpy_as_it_takes_arrays():
    expected = rpn.nms(FLOATS, FLOAT_SCORES, iou_threshold=0.5, max_outputs=2)
    found = rpn.nms(
        BOXES, SCORES, iou_threshold=np.float32(0.5), max_outputs=np.int64(2)
    )
    assert found.indices.tolist() == [1, 2]
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize(
    ("lists", "arrays"),
    [
        (
            lambda: rpn.pairwise_iou(BOXES, np.array(BOXES, np.uint16)),
            lambda: rpn.pairwise_iou(FLOATS, FLOATS + 0),
        ),
        (
            lambda: rpn.encode_boxes(BOXES, anchors=FLOATS, weights=[1, 1, 2, 2]),
            lambda: rpn.encode_boxes(FLOATS + 0, FLOATS, weights=(1, 1, 2, 2)),
        ),
        (
            lambda: rpn.clip_boxes(BOXES, [np.int64(8), 9.0]),
            lambda: rpn.clip_boxes(FLOATS, (8, 9.0)),
        ),
        (
            lambda: rpn.match_anchors(GRID, BOXES, [True, False, True], [16, 24]),
            lambda: rpn.match_anchors(
                GRID, FLOATS, np.array([True, False, True]), np.array([16, 24])
            ),
        ),
        (
            lambda: rpn.count_degenerate([], []),
            lambda: rpn.count_degenerate(np.zeros((0, 4)), np.zeros(0, bool)),
        ),
        (
            lambda: rpn.sample_anchors(KEY, [1, 0, -1], num_samples=2.0),
            lambda: rpn.sample_anchors(KEY, LABELS, num_samples=2),
        ),
        (
            lambda: rpn.rpn_loss(
                RPNOutput([0.0, 1.0, 2.0], BOXES), Targets([1, 0, -1], BOXES)
            ),
            lambda: rpn.rpn_loss(
                RPNOutput(np.array([0.0, 1.0, 2.0]), FLOATS), Targets(LABELS, FLOATS)
            ),
        ),
        (lambda: GRID.take([0, 3]), lambda: GRID.take(np.array([0, 3]))),
    ],
    ids=["iou", "encode", "clip", "match", "empty", "sample", "loss", "take"],
)
def test_lists_and_integers_give_the_program_of_arrays(lists, arrays):
    assert jaxpr_of(lists) == jaxpr_of(arrays)


def test_lists_of_traced_numbers_are_boxes():
    def area(x):
        return rpn.pairwise_iou([[0.0, 0.0, x, 4.0]], [[0.0, 0.0, 4.0, 4.0]])[0, 0]

    assert jax.jit(jax.value_and_grad(area))(2.0) == (0.5, 0.25)


def test_feature_shapes_may_be_an_array():
    shapes = np.array([[2, 3]])
    assert rpn.make_anchors(AnchorConfig(sizes=[16], strides=[8]), shapes) == GRID


def test_traced_integers_are_boxes_under_vmap():
    boxes = jax.ShapeDtypeStruct((2, 3, 4), jnp.int32)
    iou = jax.eval_shape(jax.vmap(rpn.pairwise_iou), boxes, boxes)
    assert (iou.shape, iou.dtype) == ((2, 3, 3), jnp.float32)


def test_arrays_that_fit_pass_as_they_are():
    boxes = jnp.asarray(FLOATS)
    program = jaxpr_of(rpn.pairwise_iou, boxes, boxes)
    assert program == jaxpr_of(inspect.unwrap(rpn.pairwise_iou), boxes, boxes)


def test_signatures_and_the_methods_of_jit_remain():
    assert list(inspect.signature(rpn.nms).parameters)[:2] == ["boxes", "scores"]
    assert "sizes" in inspect.signature(AnchorConfig).parameters
    shapes = [jax.ShapeDtypeStruct(s, np.float32) for s in ((3, 4), (3,))]
    assert rpn.nms.eval_shape(*shapes, **LIMITS).indices.shape == (2,)


# --- what is refused


def nms(boxes: Any = FLOATS, scores: Any = FLOAT_SCORES, **options: Any):
    return shape_of(rpn.nms, boxes, scores, **(LIMITS | options))


def head(*args, **kwargs):
    return rpn.RPNHead(*args, **kwargs)


SENTENCES = {
    "boxes_of_text": (
        lambda: nms("boxes"),
        "nms needs boxes as numbers of shape [n 4], got 'boxes'.",
    ),
    "boxes_of_five": (
        lambda: nms(np.ones((3, 5))),
        "nms needs boxes as [n 4], got shape (3, 5).",
    ),
    "boxes_of_a_batch": (
        lambda: nms(FLOATS[None]),
        "nms needs boxes as [n 4], got shape (1, 3, 4). jax.vmap makes a batch.",
    ),
    "scores_of_other_rows": (
        lambda: nms(scores=np.ones(4)),
        "nms needs scores as [n], one for each of the 3 boxes, got shape (4,).",
    ),
    "validity_of_numbers": (
        lambda: nms(valid=np.ones(3)),
        "nms needs valid as bools of shape [n], got float64 of shape (3,). "
        "jnp.asarray(valid, bool) converts it.",
    ),
    "a_limit_of_text": (
        lambda: nms(iou_threshold="0.5"),
        "nms needs iou_threshold as a number, got '0.5'.",
    ),
    "half_an_output": (
        lambda: nms(max_outputs=2.5),
        "nms needs max_outputs as a whole number, got 2.5.",
    ),
    "a_traced_limit": (
        lambda: jax.eval_shape(lambda x: nms(iou_threshold=x), jnp.float32(0.5)),
        "nms needs iou_threshold as a number that is known while tracing, got float32 "
        "of shape (). Pass a number of Python, and name it in static_argnames of your "
        "own jit.",
    ),
    "labels_of_floats": (
        lambda: rpn.sample_anchors(KEY, FLOAT_SCORES),
        "sample_anchors needs labels as integers of shape [n], got float32 of shape "
        "(3,). jnp.asarray(labels, int) converts it.",
    ),
    "a_seed": (
        lambda: rpn.sample_anchors(0, LABELS),
        "sample_anchors needs key as a key of jax.random, got 0. jax.random.key(seed) "
        "makes one.",
    ),
    "a_raw_key_of_three_words": (
        lambda: rpn.sample_anchors(np.zeros(3, np.uint32), LABELS),
        "sample_anchors needs key as a key of jax.random, or as its 2 or 4 raw words, "
        "got uint32 of shape (3,).",
    ),
    "several_keys": (
        lambda: shape_of(lambda: rpn.sample_anchors(jax.random.split(KEY), LABELS)),
        "sample_anchors needs key as a single one, got shape (2,). jax.vmap makes a "
        "batch.",
    ),
    "the_settings_of_all_stages": (
        lambda: rpn.match_anchors(GRID, BOXES, [True] * 3, config=RPNConfig()),
        "match_anchors needs config as a TargetConfig, got RPNConfig. Pass its "
        "targets.",
    ),
    "anchors_of_text": (
        lambda: rpn.match_anchors("grid", BOXES, [True] * 3),
        "match_anchors needs anchors as an AnchorGrid or numbers of shape [n 4], got "
        "'grid'.",
    ),
    "logits_of_other_rows": (
        lambda: rpn.propose(RPNOutput(np.ones(4), FLOATS), FLOATS, (9, 9)),
        "propose needs output.deltas as [b n 4], to go with output.logits of shape "
        "(4,), got shape (3, 4).",
    ),
    "one_map": (
        lambda: rpn.compute_proposals(head, np.ones((1, 2, 3, 4)), GRID, [[9, 9]]),
        "compute_proposals needs features as a list of numbers of shape [b h w c], one "
        "for each level, got float64 of shape (1, 2, 3, 4).",
    ),
    "boxes_of_another_batch": (
        lambda: rpn.compute_losses(
            head, KEY, [np.ones((2, 2, 3, 4))], GRID, [BOXES], [[True] * 3]
        ),
        "compute_losses needs gt_boxes as [b m 4] with b = 2, as in features[0], got "
        "shape (1, 3, 4).",
    ),
    "randomness_of_a_head": (
        lambda: head(4, 3, rngs=0),
        "RPNHead needs rngs as a Rngs, got 0.",
    ),
    "sizes_of_text": (
        lambda: AnchorConfig(sizes="32"),
        "AnchorConfig needs sizes as a sequence of numbers or sequences of numbers, "
        "got '32'.",
    ),
    "a_part_of_a_stride": (
        lambda: AnchorConfig(strides=[4.5]),
        "AnchorConfig needs strides as a sequence of whole numbers or tuples of 2 "
        "whole numbers, got [4.5].",
    ),
    "an_unknown_rounding": (
        lambda: AnchorConfig(rounding="corner"),
        "AnchorConfig needs rounding as 'none', 'corners' or 'legacy', got 'corner'.",
    ),
    "the_settings_of_another_stage": (
        lambda: rpn.RPNConfig(targets=AnchorConfig()),
        "RPNConfig needs targets as a TargetConfig, got AnchorConfig.",
    ),
    "three_weights": (
        lambda: TargetConfig(delta_weights=[1, 1, 1]),
        "TargetConfig needs delta_weights as 4 numbers, got [1, 1, 1].",
    ),
}


@pytest.mark.parametrize("case", SENTENCES)
def test_what_does_not_fit_is_refused_in_one_sentence(case):
    call, sentence = SENTENCES[case]
    with pytest.raises((ValueError, TypeError)) as refusal:
        call()
    assert str(refusal.value) == sentence


def test_lists_of_arrays_and_parameters_are_taken():
    box = jnp.array([0.0, 0.0, 2.0, 2.0])
    for boxes in ([box], nnx.Param(box[None])):
        assert rpn.pairwise_iou(boxes, [[0, 0, 2, 4]]).tolist() == [[0.5]]


def test_an_error_of_the_users_own_code_stays_as_it_is():
    def broken(features):
        raise TypeError("mine")

    with pytest.raises(TypeError, match="^mine$"):
        rpn.compute_proposals(broken, [np.ones((1, 2, 3, 4))], GRID, [[9, 9]])


def test_lists_are_taken_without_the_check_of_shapes_too():
    code = (
        "import rpn_jax; print(rpn_jax.AnchorConfig(sizes=[32], strides=[8]).sizes, "
        "rpn_jax.pairwise_iou([[0, 0, 2, 2]], [[0, 0, 2, 2]]))"
    )
    environment = os.environ | {"JAXTYPING_DISABLE": "1"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env=environment
    )
    assert done.stdout == "(32,) [[1.]]\n"
