"""Gradients image by image: the sum in order, its divisors, and what is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import small_rpn

import rpn_jax
from rpn_jax import presets
from rpn_jax.train import (
    OptimizerConfig,
    TrainConfig,
    init_state,
    make_mesh,
    make_optimizer,
    make_schedule,
    make_train_step,
    put_batch,
)
from rpn_jax.train.in_order import check_order
from rpn_jax.train.tree_sum import sum_in_order

PLAIN = OptimizerConfig(warmup_steps=0, schedule="constant", clip_norm=None)


def tree(leaves, group):
    """The sum of float32 numbers: groups of neighbours, and halves of the groups."""
    if len(leaves) > group:
        half = len(leaves) // 2
        return tree(leaves[:half], group) + tree(leaves[half:], group)
    total = leaves[0]
    for leaf in leaves[1:]:
        total = total + leaf
    return total


@pytest.mark.parametrize(("number", "group"), [(1, 1), (3, 3), (8, 1), (12, 3)])
def test_leaves_are_added_in_the_order_of_a_tree(number, group):
    rng = np.random.default_rng(number)
    leaves = rng.standard_normal((number, 50)).astype(np.float32)
    arrays = jnp.asarray(leaves)
    found = sum_in_order(lambda i: {"x": arrays[i]}, number, jnp.int32(number))
    expected = tree(leaves, group)
    np.testing.assert_array_equal(found["x"], expected)
    if number > 3:  # the numbers are such that the order matters
        assert (expected != tree(leaves, number)).any()


def test_a_step_is_the_plain_one_up_to_rounding():
    # So few samples that some objects are left out.
    rules = dataclasses.replace(
        small_rpn.RULES,
        targets=dataclasses.replace(small_rpn.RULES.targets, num_samples=2),
        losses=rpn_jax.LossConfig(
            normalizer="batch_clamped", box_normalizer="positives", num_samples=2
        ),
    )
    mesh, batch = make_mesh(), small_rpn.make_batch(8)
    optimizer = make_optimizer(PLAIN, make_schedule(PLAIN, 0.05, 10))
    graphdef, state = init_state(small_rpn.make_rpn(), optimizer, mesh)
    found = []
    for deterministic in (mesh, None):
        step = make_train_step(
            graphdef,
            optimizer,
            jax.random.key(3),
            config=rules,
            accumulate=2,
            deterministic=deterministic,
        )
        after, metrics = jax.jit(step)(state, put_batch(batch, mesh))
        found.append((after.params, metrics))
    for a, b in zip(*map(jax.tree.leaves, found), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    in_order, plain = (metrics for _, metrics in found)
    for name in ("positives", "unsampled_fraction"):
        assert getattr(in_order, name) == getattr(plain, name)
    assert 0.0 < plain.unsampled_fraction < 1.0


def test_what_has_no_order_is_refused():
    check_order(small_rpn.RULES, 8)
    with pytest.raises(ValueError, match="another power of two of devices, got 6"):
        check_order(small_rpn.RULES, 6)
    with pytest.raises(ValueError, match='head="plain", got "cascade"'):
        check_order(presets.cascade_rpn(), 1)
    with pytest.raises(ValueError, match="got --shard-parameters too"):
        TrainConfig(deterministic=True, shard_parameters=True)
