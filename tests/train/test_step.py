"""The training step: against steps by hand, and on several devices."""

import dataclasses
import functools
import os
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from support import small_rpn

import rpn_jax
from rpn_jax.train import (
    OptimizerConfig,
    count_skipped,
    init_state,
    make_mesh,
    make_optimizer,
    make_schedule,
    make_train_step,
    put_batch,
)
from rpn_jax.train.step import copied_model

KEY = jax.random.key(3)
RATE = 0.05
PLAIN = OptimizerConfig(warmup_steps=0, schedule="constant", clip_norm=None)
TIGHT = dataclasses.replace(PLAIN, clip_norm=1e-3, weight_decay=0.0, momentum=0.0)
SIZE = 16  # images in every batch, so that the tests share their programs


def start(config=PLAIN, *, frozen_stages=0, accumulate=1, remat=False):
    """The state before the first step, and the step, which compiles once."""
    return make_once(config, frozen_stages, accumulate, remat)


@functools.cache
def make_once(config, frozen_stages, accumulate, remat):
    model, mesh = small_rpn.make_rpn(0, frozen_stages, remat), make_mesh()
    optimizer = make_optimizer(config, make_schedule(config, RATE, 10))
    graphdef, state = init_state(model, optimizer, mesh)
    step = make_train_step(
        graphdef, optimizer, KEY, config=small_rpn.RULES, accumulate=accumulate
    )
    compiled = jax.jit(step)

    def run(state, batch):
        batch = put_batch(batch, mesh)
        images: Any = batch.images
        assert len(images.sharding.device_set) == mesh.size
        return compiled(state, batch)

    return state, run


@jax.jit
def targets_of_image(key, boxes, valid):
    grid = rpn_jax.make_anchors(small_rpn.RULES.anchors, [(4, 5)])
    return rpn_jax.assign_targets(
        key, grid, boxes, valid, config=small_rpn.RULES.targets
    )


@nnx.jit
def loss_and_gradients(model, batch, targets):
    def loss(model):
        output = model(batch.images, batch.image_sizes)
        return rpn_jax.rpn_loss(output, targets, config=small_rpn.RULES.losses).total

    return nnx.value_and_grad(loss)(model)


def gradients_by_parts(model, batch, number):
    """From all predictions and all targets, one image after the other."""
    key = jax.random.fold_in(KEY, number)
    targets = [
        targets_of_image(
            jax.random.fold_in(key, i),
            batch.gt_boxes[i],
            batch.gt_valid[i] & ~batch.gt_ignore[i],
        )
        for i in range(len(batch.images))
    ]
    stacked = jax.tree.map(lambda *rows: np.stack(rows), *targets)
    return loss_and_gradients(model, batch, stacked)


def leaves(tree):
    return [np.asarray(x) for x in jax.tree.leaves(nnx.to_pure_dict(tree))]


def test_two_steps_are_momentum_by_hand():
    model, (state, step) = small_rpn.make_rpn(), start()
    weights = leaves(nnx.state(model, nnx.Param))
    speed = [np.zeros_like(w) for w in weights]
    for number in range(2):
        batch = small_rpn.make_batch(SIZE, number)
        expected_loss, gradients = gradients_by_parts(model, batch, number)
        for i, gradient in enumerate(leaves(gradients)):
            decay = PLAIN.weight_decay if weights[i].ndim > 1 else 0.0
            speed[i] = 0.9 * speed[i] + gradient + decay * weights[i]
            weights[i] = weights[i] - RATE * speed[i]
        state, metrics = step(state, batch)
        np.testing.assert_allclose(metrics.loss, expected_loss, rtol=1e-5)
        norm = np.sqrt(sum(np.sum(g.astype(float) ** 2) for g in leaves(gradients)))
        np.testing.assert_allclose(metrics.gradient_norm, norm, rtol=1e-4)
        for actual, expected in zip(leaves(state.params), weights, strict=True):
            np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-6)
        nnx.update(model, state.params)
    assert int(state.step) == 2


@pytest.mark.parametrize("ignore_iof", [None, 0.5])
def test_gt_ignore_without_a_rule_or_without_regions_changes_no_target(ignore_iof):
    batch = small_rpn.make_batch(SIZE)
    rules = dataclasses.replace(small_rpn.RULES.targets, ignore_iof=ignore_iof)
    anchors = rpn_jax.make_anchors(small_rpn.RULES.anchors, [(4, 5)])
    assign = jax.jit(functools.partial(rpn_jax.assign_targets, config=rules))
    rows = batch.gt_boxes, batch.gt_valid, batch.gt_ignore
    for boxes, valid, gt_ignore in zip(*rows, strict=True):
        ignored = gt_ignore if ignore_iof is None else np.zeros_like(gt_ignore)
        with_mask = assign(KEY, anchors, boxes, valid, gt_ignore=ignored)
        left_out = assign(KEY, anchors, boxes, valid & ~ignored)
        jax.tree.map(np.testing.assert_array_equal, with_mask, left_out)


def test_ignored_regions_are_left_out_unless_the_rules_use_them():
    batch = small_rpn.make_batch(SIZE)
    state, step = start()
    without = batch._replace(
        gt_valid=batch.gt_valid & ~batch.gt_ignore,
        gt_ignore=np.zeros_like(batch.gt_ignore),
    )
    losses = [float(step(state, b)[1].loss) for b in (batch, without)]
    assert losses[0] == losses[1]
    as_objects = batch._replace(gt_ignore=without.gt_ignore)
    assert float(step(state, as_objects)[1].loss) != losses[0]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_step_without_finite_gradients_changes_nothing_and_is_counted(bad):
    state, step = start()
    # A weight that is not finite stands for all that can go wrong before the loss.
    params = jax.tree.map(lambda x: x, state.params)
    kernel = params["backbone"]["body"]["first"]["kernel"]
    params["backbone"]["body"]["first"]["kernel"] = kernel.replace(
        kernel[...].at[0, 0, 0, 0].set(bad)
    )
    batch = small_rpn.make_batch(SIZE)
    broken = state._replace(params=params)
    for number in (1, 2):
        before = leaves(broken.params)
        broken, metrics = step(broken, batch)
        np.testing.assert_equal(leaves(broken.params), before)
        assert [int(x) for x in count_skipped(broken.optimizer)] == [number, number]
        assert int(metrics.skipped_in_a_row) == number
    healed, metrics = step(broken._replace(params=state.params), batch)
    assert (int(metrics.skipped_in_a_row), int(metrics.skipped)) == (0, 2)
    assert int(healed.step) == 3


def test_parts_of_a_batch_add_up_to_the_mean_of_their_gradients():
    batch = small_rpn.make_batch(SIZE)
    state, step = start(accumulate=2, remat=True)
    after, _ = step(state, batch)
    model, key = small_rpn.make_rpn(), jax.random.fold_in(KEY, 0)

    @jax.jit
    def gradients(rows):
        part = jax.tree.map(lambda x: jnp.asarray(x)[rows], batch)

        def loss(params):
            network = nnx.merge(nnx.graphdef(model), params, state.frozen)
            out = rpn_jax.compute_losses(
                network.head,
                key,
                network.features(part.images, part.image_sizes),
                rpn_jax.make_anchors(small_rpn.RULES.anchors, [(4, 5)]),
                part.gt_boxes,
                part.gt_valid & ~part.gt_ignore,
                image_index=rows,
                config=small_rpn.RULES,
            )
            return out.losses.total

        return jax.grad(loss)(state.params)

    # Every second image, so that each device keeps its own.
    halves = [leaves(gradients(np.arange(first, SIZE, 2))) for first in (0, 1)]
    means = [(a + b) / 2 for a, b in zip(*halves, strict=True)]
    before = leaves(state.params)
    for actual, weight, mean in zip(leaves(after.params), before, means, strict=True):
        decay = PLAIN.weight_decay if weight.ndim > 1 else 0.0
        expected = weight - RATE * (mean + decay * weight)
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-7)


def test_frozen_stages_stay_as_they_are():
    state, step = start(TIGHT, frozen_stages=1)
    after, _ = step(state, small_rpn.make_batch(SIZE))
    frozen = nnx.to_pure_dict(state.frozen)["backbone"]["body"]
    assert set(frozen) == {"first"}
    np.testing.assert_equal(leaves(after.frozen), leaves(state.frozen))
    assert "first" not in nnx.to_pure_dict(after.params)["backbone"]["body"]
    moved = [
        (a != b).any()
        for a, b in zip(leaves(after.params), leaves(state.params), strict=True)
    ]
    assert all(moved)


def test_clipping_bounds_the_step():
    state, step = start(TIGHT, frozen_stages=1)
    after, metrics = step(state, small_rpn.make_batch(SIZE))
    pairs = zip(leaves(after.params), leaves(state.params), strict=True)
    moved = np.sqrt(sum(np.sum(np.square(a - b, dtype=float)) for a, b in pairs))
    assert float(metrics.gradient_norm) > 1e-2
    np.testing.assert_allclose(moved, RATE * 1e-3, rtol=1e-3)


def updates_of(config, gradients, params):
    """The updates of the first step, by name."""
    optimizer = make_optimizer(config, make_schedule(config, RATE, 1))

    @jax.jit
    def run(gradients, params):
        return optimizer.update(gradients, optimizer.init(params), params)[0]

    with jax.numpy_dtype_promotion("standard"):
        found = jax.device_get(jax.tree.leaves(run(gradients, params)))
    return dict(zip(sorted(params), found, strict=True))


def test_adamw_moves_every_weight_by_the_learning_rate_at_first():
    config = dataclasses.replace(PLAIN, name="adamw", weight_decay=0.0)
    rng = np.random.default_rng(0)
    params = {"kernel": np.zeros((3, 3, 2, 4), np.float32), "bias": np.ones(7, "f4")}
    gradients = {k: rng.standard_normal(x.shape, "f4") for k, x in params.items()}
    for update in jax.tree.leaves(updates_of(config, gradients, params)):
        # The weights whose gradient is far above epsilon.
        np.testing.assert_allclose(np.abs(update).max(), RATE, rtol=1e-2)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_two_updates_of_a_bias_are_those_of_adam(name):
    options = {"momentum": 0.8, "beta2": 0.5, "weight_decay": 0.0}
    config = dataclasses.replace(PLAIN, name=name, **options)
    optimizer = make_optimizer(config, make_schedule(config, RATE, 2))
    rng = np.random.default_rng(0)
    params = {"bias": np.zeros(5, np.float32)}
    state, mean, square = jax.jit(optimizer.init)(params), 0.0, 0.0
    update = jax.jit(optimizer.update)
    for number in (1, 2):
        gradient = rng.standard_normal(5).astype(np.float32)
        with jax.numpy_dtype_promotion("standard"):
            found, state = update({"bias": gradient}, state, params)
        mean = 0.8 * mean + 0.2 * gradient
        square = 0.5 * square + 0.5 * gradient**2
        direction = mean / (1 - 0.8**number)
        if name == "muon":  # with Nesterov's momentum
            direction = 0.8 * mean / (1 - 0.8 ** (number + 1))
            direction += 0.2 * gradient / (1 - 0.8**number)
        expected = -RATE * direction / np.sqrt(square / (1 - 0.5**number))
        np.testing.assert_allclose(found["bias"], expected, rtol=1e-4)


def test_muon_makes_orthogonal_updates_of_kernels_and_adamw_all_others():
    config = dataclasses.replace(PLAIN, name="muon", weight_decay=0.0)
    rng = np.random.default_rng(0)
    shapes = {"dense": (3, 3, 8, 16), "depthwise": (3, 3, 1, 5), "bias": (7,)}
    params = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    gradients = {
        name: rng.standard_normal(shape).astype(np.float32)
        for name, shape in shapes.items()
    }
    updates = updates_of(config, gradients, params)
    nesterov = 1 + 0.9 * 0.1 / (1 - 0.9**2)  # of the first step of Adam
    np.testing.assert_allclose(np.abs(updates["bias"]), RATE * nesterov, rtol=1e-4)
    # The polar factor of the gradient has no other singular values than 1; the
    # three steps of Newton and Schulz that Muon makes leave them around it.
    dense = updates["dense"].reshape(72, 16) / (RATE * 0.2 * np.sqrt(72))
    values = np.linalg.svd(dense)[1]
    assert values.min() > 0.6
    assert values.max() < 1.3
    left, _, right = np.linalg.svd(gradients["dense"].reshape(72, 16), False)
    assert -np.sum(dense * (left @ right)) / 16 > 0.8  # their cosine
    norms = np.linalg.norm(updates["depthwise"].reshape(9, 5), axis=0)
    assert np.all((norms > 0.6 * RATE * 0.6) & (norms < 1.3 * RATE * 0.6))


@pytest.mark.parametrize("name", ["sgd", "adamw", "muon"])
def test_the_trunk_can_have_a_lower_learning_rate(name):
    config = dataclasses.replace(PLAIN, name=name, weight_decay=0.5)
    schedule = make_schedule(config, RATE, 1)
    model = small_rpn.make_rpn()
    params = nnx.split(model, model.is_trainable, ...)[1]

    def updates(scale):
        optimizer = make_optimizer(config, schedule, trunk_lr_scale=scale)
        return optimizer.update(params, optimizer.init(params), params)

    with jax.numpy_dtype_promotion("standard"):
        full, scaled = jax.jit(lambda: (updates(1.0), updates(0.25)))()
    assert jax.tree.structure(full) == jax.tree.structure(scaled)
    leaves = jax.tree.leaves(scaled[0])
    parts = set()
    for (path, x), y in zip(jax.tree.leaves_with_path(full[0]), leaves, strict=True):
        part = jax.tree_util.keystr(path[:2], simple=True, separator=".")
        factor = 0.25 if part == "backbone.body" else 1.0
        np.testing.assert_allclose(y, factor * x, rtol=1e-6, err_msg=str(path))
        parts.add(part)
    assert parts >= {"backbone.body", "head.convs", "head.logits"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"schedule": "constant", "warmup_steps": 0}, {0: 1.0, 5: 1.0, 19: 1.0}),
        ({"schedule": "constant", "warmup_steps": 4}, {0: 0.2, 1: 0.4, 4: 1.0}),
        ({"schedule": "step", "warmup_steps": 2}, {12: 1.0, 13: 0.1, 17: 0.01}),
        ({"schedule": "cosine", "warmup_steps": 0}, {0: 1.0, 10: 0.5, 20: 0.0}),
        ({"schedule": "cosine", "warmup_steps": 99}, {3: 0.8, 4: 1.0, 20: 0.0}),
    ],
)
def test_learning_rates_rise_and_fall_as_they_should(options, expected):
    schedule = make_schedule(OptimizerConfig(**options), 1.0, 20)
    actual = {step: np.asarray(schedule(step)).item() for step in expected}
    assert actual == pytest.approx(expected, abs=1e-6)


DEVICES = """
import sys
sys.path[:0] = [".", "train"]
import test_step as t
print(*t.loss_curve(8, accumulate=2))
print(*t.curve_of_spread_state())
"""


def loss_curve(num_devices, accumulate):
    assert make_mesh().size == num_devices
    state, step = start(accumulate=accumulate)
    losses = []
    for number in range(5):
        state, metrics = step(state, small_rpn.make_batch(SIZE, number))
        losses.append(float(metrics.loss))
    return losses


def curve_of_spread_state():
    """The curve of a state that lies on two devices, half on each, with `remat`."""
    auto = (jax.sharding.AxisType.Auto,)
    mesh = jax.make_mesh((2,), ("data",), auto, devices=jax.devices()[:2])
    optimizer = make_optimizer(PLAIN, make_schedule(PLAIN, RATE, 10))
    model = small_rpn.make_rpn(remat=True)
    graphdef, state = init_state(model, optimizer, mesh, spread=True)
    step = make_train_step(graphdef, optimizer, KEY, config=small_rpn.RULES, mesh=mesh)
    compiled = jax.jit(step, donate_argnums=0)
    losses = []
    for number in range(5):
        batch = put_batch(small_rpn.make_batch(SIZE, number), mesh)
        state, metrics = compiled(state, batch)
        losses.append(float(metrics.loss))
    shares = [
        x.addressable_shards[0].data.size / x.size for x in jax.tree.leaves(state)
    ]
    is_even = [any(n % 2 == 0 for n in x.shape) for x in jax.tree.leaves(state)]
    assert shares == [0.5 if even else 1.0 for even in is_even]
    assert sum(is_even) > 10
    model = copied_model(graphdef, state)
    arrays = jax.tree.leaves(nnx.state(model))
    assert all(x.sharding.is_fully_replicated for x in arrays)
    return losses


@pytest.fixture(scope="module")
def curves_of_eight():
    """The curves of eight devices, for two parts of a batch, and of a spread state."""
    flags = os.environ.get("XLA_FLAGS", "")
    flags += " --xla_force_host_platform_device_count=8"
    done = subprocess.run(
        [sys.executable, "-c", DEVICES],
        check=False,
        capture_output=True,
        text=True,
        cwd=os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
        env=os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [list(map(float, line.split())) for line in done.stdout.splitlines()]


def test_the_loss_curve_of_eight_devices_is_that_of_one(curves_of_eight):
    of_one = loss_curve(1, accumulate=2)
    np.testing.assert_allclose(curves_of_eight[0], of_one, rtol=1e-5)
    assert len(set(of_one)) == 5


def test_the_loss_curve_of_a_spread_state_is_that_of_copies(curves_of_eight):
    of_one = loss_curve(1, accumulate=1)
    np.testing.assert_allclose(curves_of_eight[1], of_one, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"momentum": 1.0}, "momentum"),
        ({"beta2": 1.0}, "beta2"),
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"weight_decay": float("nan")}, "weight_decay"),
        ({"decay_factor": 0.0}, "decay_factor"),
        ({"clip_norm": 0.0}, "clip_norm > 0"),
        ({"milestones": (1.0,)}, "milestones"),
    ],
)
def test_settings_of_the_optimizer_that_mean_nothing_are_refused(options, named):
    with pytest.raises(ValueError, match=f"OptimizerConfig needs .*{named}"):
        OptimizerConfig(**options)
