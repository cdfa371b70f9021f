"""The core under settings of JAX that its users may have chosen."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import reference

import rpn_jax
from rpn_jax import AnchorConfig, TargetConfig

GRID_CONFIG = AnchorConfig(sizes=(16,), strides=(8,))
GRID = rpn_jax.make_anchors(GRID_CONFIG, [(6, 8)])
RULES = TargetConfig(num_samples=16, ignore_iof=0.5)
LABELS = np.random.default_rng(0).integers(-1, 2, (3, 200)).astype(np.int32)


def assigned(key):
    boxes = reference.random_boxes(np.random.default_rng(1), 6, 60)
    rows = np.arange(6)
    assign = jax.jit(functools.partial(rpn_jax.assign_targets, config=RULES))
    return assign(key, GRID, boxes, rows < 5, gt_ignore=rows == 1)


def kept():
    rng = np.random.default_rng(2)
    corners = rng.uniform(0, 60, (100, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(5, 40, (100, 2))], 1)
    scores = rng.permutation(100).astype(np.float32)
    return rpn_jax.nms(
        boxes.astype(np.float32), scores, iou_threshold=0.5, max_outputs=40
    )


def test_64_bits_change_no_label_no_sample_no_kept_box_and_no_dtype():
    key = jax.random.key(0)
    expected = *assigned(key), *kept()
    with jax.enable_x64(True):
        found = *assigned(key), *kept()
    for actual, known in zip(found, expected, strict=True):
        assert actual.dtype == known.dtype
        np.testing.assert_array_equal(actual, known)


@pytest.mark.parametrize("implementation", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_a_sample_is_the_same_alone_and_in_a_batch_for_keys_of_any_kind(implementation):
    keys = [jax.random.key(seed, impl=implementation) for seed in range(3)]
    sample = functools.partial(rpn_jax.sample_anchors, num_samples=20)
    batch = jax.jit(jax.vmap(sample))(jnp.stack(keys), LABELS)
    assert (batch[0] != batch[1]).any()
    for i, key in enumerate(keys):
        np.testing.assert_array_equal(batch[i], jax.jit(sample)(key, LABELS[i]))


@pytest.mark.parametrize("implementation", ["threefry2x32", "rbg"])
def test_a_raw_key_gives_the_sample_of_the_typed_one(implementation):
    key = jax.random.key(5, impl=implementation)
    sample = jax.jit(functools.partial(rpn_jax.sample_anchors, num_samples=20))
    expected = sample(key, LABELS[0])
    np.testing.assert_array_equal(sample(jax.random.key_data(key), LABELS[0]), expected)


def test_float64_scores_are_ranked_in_float64():
    boxes = np.array([[0, 0, 9, 9], [20, 0, 29, 9], [40, 0, 49, 9]], np.float32)
    with jax.enable_x64(True):
        scores = jnp.asarray(np.array([0.5, 0.5 + 1e-12, 0.5 - 1e-12]))
        kept = rpn_jax.nms(boxes, scores, iou_threshold=0.5, max_outputs=3)
        masked = rpn_jax.nms(
            boxes, scores.at[1].set(-np.inf), iou_threshold=0.5, max_outputs=3
        )
    assert kept.indices.tolist() == [1, 0, 2]
    assert masked.indices.tolist() == [0, 2, 0]
    assert masked.valid.tolist() == [True, True, False]


ASSIGNERS = ("max_iou", "atss", "region", "centerness", "sim_ota", "task_aligned")


def stages(assigner):
    """Everything from a head to losses, gradients and proposals, on few anchors."""
    targets = TargetConfig(
        assigner=assigner,
        num_samples=16,
        ignore_iof=0.5,
        positive_sampler="instance_balanced",
        negative_sampler="uniform" if assigner == "centerness" else "iou_balanced",
    )
    config = rpn_jax.RPNConfig(anchors=GRID_CONFIG, targets=targets)
    rng = np.random.default_rng(3)
    weights = rng.normal(size=(4, 15)).astype(np.float32) / 10
    boxes = np.stack([reference.random_boxes(rng, 4, 50) for _ in range(2)])
    boxes[:, 3] = -7.0  # padding
    boxes[1, 0, 2:] = boxes[1, 0, :2]  # without area
    valid = np.tile(np.arange(4) < 3, (2, 1))
    features = rng.normal(size=(2, 6, 8, 4)).astype(np.float32)

    def head(weights, features):
        x = (features[0] @ weights).reshape(2, -1, 5)
        return rpn_jax.RPNOutput(x[..., 0], x[..., 1:])

    def run(weights):
        def total(weights):
            out = rpn_jax.compute_losses(
                functools.partial(head, weights),
                jax.random.key(0),
                [jnp.asarray(features)],
                GRID,
                boxes,
                valid,
                gt_ignore=np.tile(np.arange(4) == 1, (2, 1)),
                config=config,
            )
            return out.losses.total, out

        result = jax.value_and_grad(total, has_aux=True)(weights)
        if assigner != "max_iou":  # proposals are the same for all
            return result
        proposals = rpn_jax.compute_proposals(
            functools.partial(head, weights),
            [jnp.asarray(features)],
            GRID,
            np.array([[48, 60], [40, 64]], np.float32),
            config=config,
        )
        return result, proposals

    return run, weights


def literals(jaxpr):
    """The numbers that the operations of a program take, also those of inner ones.

    Comparisons are left out, since they make no number of their own.
    """
    for equation in jaxpr.eqns:
        if equation.primitive.name not in ("gt", "lt", "ge", "le", "eq", "ne"):
            yield from (x.val for x in equation.invars if hasattr(x, "val"))
        for inner in jax.tree.leaves(
            equation.params, is_leaf=lambda x: hasattr(x, "eqns") or hasattr(x, "jaxpr")
        ):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                yield from literals(inner)


@pytest.mark.parametrize("assigner", ASSIGNERS)
def test_no_stage_marks_a_row_by_infinity_or_nan(assigner):
    run, weights = stages(assigner)
    program = jax.make_jaxpr(run)(weights)
    numbers = [*map(np.asarray, (*program.consts, *literals(program.jaxpr)))]
    assert len(numbers) > 100
    assert all(np.isfinite(x).all() for x in numbers if x.dtype.kind == "f")


def test_boxes_without_area_are_suppressed_under_debug_nans():
    boxes = np.array([[0, 0, 9, 9], [3, 3, 3, 3], [3, 3, 3, 3]], np.float32)
    scores = np.array([0.5, 0.7, 0.6], np.float32)
    with jax.debug_nans(True), jax.debug_infs(True), jax.disable_jit():
        kept = rpn_jax.nms(boxes, scores, iou_threshold=0.5, max_outputs=3)
    assert kept.indices.tolist() == [1, 2, 0]
