"""Layers against their definitions, and the forms of one layer against each other."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType, PartitionSpec

from rpn_jax.models import convolution
from rpn_jax.models.convolution import convolve
from rpn_jax.models.depthwise import (
    depthwise,
    depthwise_input_gradient,
    depthwise_kernel_gradient,
)
from rpn_jax.models.fpn import FPN
from rpn_jax.models.layers import Builder, FrozenBatchNorm, GroupNorm, max_pool
from rpn_jax.models.tiny import space_to_depth

SHAPES = [  # height, width, channels in and out, size of the kernel, stride, depthwise
    (9, 12, 6, 6, 3, 1, True),
    (9, 12, 6, 6, 3, 2, True),
    (10, 7, 4, 4, 5, 2, True),
    (9, 12, 3, 5, 1, 1, False),
    (9, 12, 3, 5, 1, 2, False),
    (9, 12, 3, 5, 7, 2, False),
    (70, 41, 3, 4, 3, 1, False),  # several bands of rows
    (71, 90, 3, 4, 3, 2, False),
]


def draw(*shape, seed=0):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.standard_normal(shape), jnp.float32)


def xla_convolution(x, kernel, stride, groups):
    reach = kernel.shape[0] // 2
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        [(reach, reach)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


@pytest.fixture(params=[0, convolution.PATCHES], ids=["in bands", "whole"])
def _limit_of_whole_maps(request, monkeypatch):
    monkeypatch.setattr(convolution, "PATCHES", request.param)


@pytest.mark.usefixtures("_limit_of_whole_maps")
@pytest.mark.parametrize("shape", SHAPES)
def test_convolution_and_its_gradients_equal_those_of_xla(shape):
    height, width, inputs, outputs, size, stride, is_depthwise = shape
    groups = inputs if is_depthwise else 1
    x = draw(2, height, width, inputs)
    kernel = draw(size, size, inputs // groups, outputs, seed=1)
    expected, pull = jax.vjp(
        lambda x, kernel: xla_convolution(x, kernel, stride, groups), x, kernel
    )
    cotangent = draw(*expected.shape, seed=2)

    @jax.jit
    def run(x, kernel):
        def forward(x, kernel):
            return convolve(x, kernel, stride=stride, groups=groups)

        y, pull = jax.vjp(forward, x, kernel)
        return y, pull(cotangent)

    actual, gradients = run(x, kernel)
    chex.assert_trees_all_close(actual, expected, rtol=1e-4, atol=1e-4)
    chex.assert_trees_all_close(gradients, pull(cotangent), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_shifted_products_equal_the_convolution_on_every_backend(stride):
    x, kernel = draw(2, 10, 7, 4), draw(3, 3, 1, 4, seed=1)
    expected, pull = jax.vjp(lambda x, k: xla_convolution(x, k, stride, 4), x, kernel)
    cotangent = draw(*expected.shape, seed=2)
    np.testing.assert_allclose(
        depthwise(x, kernel, stride=stride), expected, rtol=1e-4, atol=1e-5
    )
    for gradient, of in zip(
        pull(cotangent),
        (depthwise_input_gradient, depthwise_kernel_gradient),
        strict=True,
    ):
        actual = of(x, kernel, cotangent, stride=stride)
        np.testing.assert_allclose(actual, gradient, rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("_limit_of_whole_maps")
def test_bfloat16_gradients_have_the_dtype_of_what_they_are_of():
    x, kernel = draw(1, 80, 40, 4).astype(jnp.bfloat16), draw(3, 3, 1, 4, seed=1)
    dense = draw(3, 3, 4, 2, seed=2).astype(jnp.bfloat16)
    for groups, weights in ((4, kernel.astype(jnp.bfloat16)), (1, dense)):
        y, pull = jax.vjp(lambda x, k, g=groups: convolve(x, k, groups=g), x, weights)
        gradients = pull(y)
        chex.assert_type((y, *gradients), jnp.bfloat16)
        exact = jax.vjp(
            lambda x, k, g=groups: convolve(x, k, groups=g),
            x.astype(jnp.float32),
            weights.astype(jnp.float32),
        )[1](y.astype(jnp.float32))
        for a, b in zip(gradients, exact, strict=True):
            scale = np.abs(b).max()
            np.testing.assert_allclose(a.astype(jnp.float32), b, atol=0.03 * scale)


def test_group_norm_equals_torch():
    torch = pytest.importorskip("torch")
    x, scale, bias = 3 * draw(2, 5, 7, 64) + 2, draw(64, seed=1), draw(64, seed=2)
    norm = GroupNorm(64)
    norm.scale[...], norm.bias[...] = scale, bias
    peer = torch.nn.GroupNorm(32, 64)
    peer.load_state_dict(
        {"weight": torch.tensor(np.array(scale)), "bias": torch.tensor(np.array(bias))}
    )
    with torch.no_grad():
        expected = peer(torch.tensor(np.array(x)).permute(0, 3, 1, 2))
    expected = expected.permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(norm(x), expected, rtol=1e-4, atol=1e-5)


def test_group_norm_takes_fewer_groups_where_channels_do_not_divide():
    assert [GroupNorm(n).num_groups for n in (16, 32, 48, 64, 7)] == [16, 32, 24, 32, 7]


def test_a_frozen_norm_has_no_parameter_and_follows_its_formula():
    norm, x = FrozenBatchNorm(3, epsilon=0.5), draw(2, 2, 2, 3)
    norm.scale[...], norm.bias[...] = draw(3, seed=1), draw(3, seed=2)
    norm.mean[...], norm.var[...] = draw(3, seed=3), jnp.square(draw(3, seed=4))
    scale, bias, mean, var = (
        np.asarray(v[...]) for v in (norm.scale, norm.bias, norm.mean, norm.var)
    )
    expected = (np.asarray(x) - mean) / np.sqrt(var + 0.5) * scale + bias
    np.testing.assert_allclose(norm(x), expected, rtol=1e-4, atol=1e-5)
    assert not jax.tree.leaves(nnx.state(norm, nnx.Param))


def test_max_pool_ignores_what_lies_outside_and_what_does_not_fit():
    x = -jnp.arange(1.0, 26.0).reshape(1, 5, 5, 1)
    np.testing.assert_array_equal(
        max_pool(x, 3, 2, 1)[0, :, :, 0], [[-1, -2, -4], [-6, -7, -9], [-16, -17, -19]]
    )
    np.testing.assert_array_equal(max_pool(x, 2, 2)[0, :, :, 0], [[-1, -3], [-11, -13]])


@pytest.mark.parametrize(("height", "width"), [(8, 12), (7, 9)])
def test_space_to_depth_puts_the_pixels_of_a_patch_side_by_side(height, width):
    x = np.asarray(draw(2, height, width, 3))
    found = np.asarray(space_to_depth(jnp.asarray(x)))
    expected = np.zeros((2, -(-height // 4), -(-width // 4), 48), np.float32)
    for row, column in np.ndindex(height, width):
        first = 3 * (4 * (row % 4) + column % 4)
        pixels = x[:, row, column]
        expected[:, row // 4, column // 4, first : first + 3] = pixels
    np.testing.assert_array_equal(found, expected)


def test_a_pyramid_may_leave_its_finest_map_unsmoothed():
    build = Builder(norm="group", dtype=None, rngs=nnx.Rngs(0))
    maps = [draw(1, 4, 6, 5), draw(1, 2, 3, 7)]
    fpn = FPN(build, (5, 7), 8, smooths_finest=False)
    fine, coarse, coarsest = fpn(maps)
    below = fpn.inner_blocks[1](maps[1])
    twice = jnp.repeat(jnp.repeat(below, 2, axis=1), 2, axis=2)
    chex.assert_trees_all_close(fine, fpn.inner_blocks[0](maps[0]) + twice, rtol=1e-6)
    chex.assert_trees_all_close(coarse, fpn.layer_blocks[1](below), rtol=1e-6)
    chex.assert_shape(coarsest, (1, 1, 2, 8))


@pytest.mark.parametrize(("size", "groups"), [(3, 6), (3, 1), (1, 1)])
def test_convolutions_work_under_shard_map(size, groups):
    mesh = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,))
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 70, 40, 6)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(size, size, 6 // groups, 6)), jnp.float32)
    run = functools.partial(convolve, groups=groups)
    split = PartitionSpec("data")
    mapped = jax.shard_map(
        run, mesh=mesh, in_specs=(split, PartitionSpec()), out_specs=split
    )
    np.testing.assert_allclose(jax.jit(mapped)(x, kernel), run(x, kernel), 1e-5, 1e-5)
