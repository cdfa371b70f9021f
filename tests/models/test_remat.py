"""Blocks that are computed again in the backward pass: which they are, and the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from support.filled import filled

from rpn_jax.models import Backbone, Trunk, backbone_spec
from rpn_jax.models.layers import Builder, Sequential
from rpn_jax.models.remat import split_blocks
from rpn_jax.models.resnet import POOL, BasicBlock
from rpn_jax.models.shapes_only import shapes_only

BLOCKS = {
    "tiny_fpn": [1, 1, 1, 1, 1],
    "vgg16": [1, 1, 1, 1, 1],
    "resnet18_c4": [1, 2, 2, 2],  # as in Table 1 of the paper, behind the stem
    "mobilenet_v2_fpn": [2, 2, 3, 7, 4],
}


def number_of_arrays(module):
    return len(jax.tree.leaves(nnx.state(module)))


@pytest.mark.parametrize("name", BLOCKS)
def test_a_stage_is_split_at_its_residual_blocks_and_loses_no_layer(name):
    stages = []

    def make(rngs):
        spec = backbone_spec(name)
        trunk = spec.make_trunk(Builder(spec.norm, None, rngs))
        stages.extend(trunk.stages)
        return trunk.layers

    layers = shapes_only(make)
    numbers = []
    for stage in stages:
        steps = [layers[x] if isinstance(x, str) else x for x in stage]
        blocks = split_blocks(steps)
        numbers.append(len(blocks))
        parts = nnx.List([part for block in blocks for part in block])
        assert number_of_arrays(parts) == number_of_arrays(nnx.List(steps))
    assert numbers == BLOCKS[name]


def make_maps(remat, dtype=None):
    """The maps of a stem and a residual block, as a function, and its parameters."""

    def make(rngs):
        build = Builder("group", dtype, rngs)
        layers = {
            "0": build.conv_norm(3, 4, activation=jax.nn.relu),
            "1": Sequential([BasicBlock(build, 4, 8, 2), BasicBlock(build, 8, 8, 1)]),
        }
        stages = ((POOL, "0"), ("1",))
        trunk = Trunk(
            layers=nnx.Dict(layers), stages=stages, widths=(4, 8), strides=(2, 4)
        )
        return Backbone(trunk, remat=remat)

    graph, params = nnx.split(filled(make))
    return lambda params, images: nnx.merge(graph, params)(images)[0], params


def test_only_the_maps_between_blocks_are_kept():
    images = jax.ShapeDtypeStruct((1, 400, 600, 3), jnp.float32)
    sizes = []
    for remat in (True, False):
        maps, params = make_maps(remat)
        kept = jax.eval_shape(lambda *x, f=maps: jax.vjp(f, *x)[1], params, images)
        sizes.append(sum(x.size for x in jax.tree.leaves(kept)))
    # The images, the maps of the stem, and those of the first block.
    assert sizes[0] < 400 * 600 * 3 + 200 * 300 * 4 + 100 * 150 * 8 + 10_000
    assert sizes[0] < 0.5 * sizes[1]


@pytest.mark.parametrize("dtype", [None, "bfloat16"])
def test_gradients_are_the_same(dtype):
    images = np.random.default_rng(0).standard_normal((2, 16, 24, 3), np.float32)
    found = []
    for remat in (True, False):
        maps, params = make_maps(remat, dtype)

        def total(params, f=maps):
            return jnp.sum(jnp.square(f(params, images).astype(jnp.float32)))

        found.append(jax.tree.leaves(jax.jit(jax.grad(total))(params)))
    tolerance = 1e-5 if dtype is None else 2e-2
    for again, plain in zip(*found, strict=True):
        limit = tolerance * np.abs(plain).max()
        np.testing.assert_allclose(again, plain, rtol=0, atol=limit)
