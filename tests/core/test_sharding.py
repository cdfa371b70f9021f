"""The same samples and losses on one device and on several, which are simulated."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import dataclasses, functools
import jax, jax.numpy as jnp, numpy as np
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
import rpn_jax

assert jax.device_count() == 4
config = rpn_jax.RPNConfig(
    anchors=rpn_jax.AnchorConfig(sizes=(16, 32), strides=(8, 16)),
    targets=rpn_jax.TargetConfig(num_samples=24),
    losses=rpn_jax.LossConfig(num_samples=24),
)
shapes = [(8, 10), (4, 5)]
anchors = rpn_jax.make_anchors(config.anchors, shapes)
rules = rpn_jax.AnchorConfig(sizes=(16,), strides=(8,), aspect_ratios=(1.0,))
one_level = rpn_jax.make_anchors(rules, shapes[:1])
rng = np.random.default_rng(0)
corners = rng.uniform(0, 50, (8, 5, 2))
boxes = np.concatenate([corners, corners + rng.uniform(4, 40, (8, 5, 2))], 2)
boxes, valid = jnp.asarray(boxes, jnp.float32), jnp.asarray(rng.random((8, 5)) < 0.7)
features = [jnp.asarray(rng.normal(size=(8, *s, 6)), jnp.float32) for s in shapes]
head, index = rpn_jax.RPNHead(6, 3, rngs=nnx.Rngs(0)), jnp.arange(8)
key = jax.random.key(7)

# What runs without regions also runs with them. The losses below have none.
regions = dataclasses.replace(config.targets, ignore_iof=0.5)

def assign(index, boxes, valid, anchors=one_level):
    def one(index, boxes, valid):
        of_image = jax.random.fold_in(key, index)
        ignore = jnp.arange(5) == 1
        return rpn_jax.assign_targets(
            of_image, anchors, boxes, valid, gt_ignore=ignore, config=regions
        )
    return jax.vmap(one)(index, boxes, valid)

def loss(head, features, index, boxes, valid):
    out = rpn_jax.compute_losses(
        head, key, features, anchors, boxes, valid, image_index=index, config=config
    )
    return out.losses.total

def assert_equal(actual, expected):
    jax.tree.map(np.testing.assert_array_equal, actual, expected)

mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
by_image = functools.partial(jax.device_put, device=NamedSharding(mesh, P("data")))
whole = index, boxes, valid
shards = jax.tree.map(by_image, whole)
by_device = functools.partial(
    jax.shard_map, mesh=mesh, in_specs=P("data"), out_specs=P("data")
)
of_boxes = functools.partial(assign, anchors=one_level.boxes)
expected = jax.jit(assign)(*whole)
assert (np.asarray(expected.labels) == 1).sum() > 8
for form in (assign, by_device(assign), of_boxes):
    assert_equal(jax.jit(form)(*shards), expected)
jax.eval_shape(by_device(of_boxes), *shards)  # each device runs the program of one

close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7)
def assert_losses_equal(head, loss):
    run = jax.jit(jax.value_and_grad(loss))
    value, gradients = run(head, features, *whole)
    sharded = run(head, jax.tree.map(by_image, features), *shards)
    close(sharded[0], value)
    jax.tree.map(close, sharded[1], gradients)

assert_losses_equal(head, loss)

# A cascade matches anchors that each image has moved in its own way.
config = dataclasses.replace(config, anchors=rules, head="cascade")
anchors, features = one_level, features[:1]
head = rpn_jax.CascadeHead(6, rules, rngs=nnx.Rngs(0))
assert_losses_equal(head, loss)
def predict(*features):
    return rpn_jax.compute_proposals(
        head, features, anchors, jnp.full((len(features[0]), 2), 64.0), config=config
    )
expected = jax.jit(predict)(*features)
for form in (predict, by_device(predict)):
    sharded = jax.jit(form)(*jax.tree.map(by_image, features))
    jax.tree.map(close, sharded, expected)
print("equal")
"""


@pytest.fixture
def environment():
    flags = os.environ.get("XLA_FLAGS", "")
    flags += " --xla_force_host_platform_device_count=4"
    return os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}


def test_samples_losses_and_proposals_do_not_depend_on_the_number_of_devices(
    environment,
):
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env=environment
    )
    assert done.stdout.strip() == "equal", done.stderr[-3000:]
