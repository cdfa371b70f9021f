"""The core under settings of JAX that its users may have chosen."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import reference

import rpn_jax
from rpn_jax import AnchorConfig, TargetConfig

GRID = rpn_jax.make_anchors(AnchorConfig(sizes=(16,), strides=(8,)), [(6, 8)])
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
