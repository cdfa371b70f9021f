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
from rpn_jax.models.layers import Builder, FrozenBatchNorm, GroupNorm
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
    return jnp.asarray(rng.standard_normal(shape).astype(np.float32))


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


def limits_of_whole_maps(is_dense):
    """The limits to test: only dense kernels have a gradient in bands."""
    return [0, convolution.PATCHES] if is_dense else [convolution.PATCHES]


@pytest.mark.parametrize("shape", SHAPES)
def test_convolution_and_its_gradients_equal_those_of_xla(shape, monkeypatch):
    height, width, inputs, outputs, size, stride, is_depthwise = shape
    groups = inputs if is_depthwise else 1
    x = draw(2, height, width, inputs)
    kernel = draw(size, size, inputs // groups, outputs, seed=1)
    cotangent = draw(2, -(-height // stride), -(-width // stride), outputs, seed=2)

    @jax.jit
    def run(x, kernel, cotangent):
        def of(forward):
            y, pull = jax.vjp(forward, x, kernel)
            return y, pull(cotangent)

        found = []
        for limit in limits_of_whole_maps(not is_depthwise and size > 1):
            monkeypatch.setattr(convolution, "PATCHES", limit)
            found.append(
                of(lambda x, kernel: convolve(x, kernel, stride=stride, groups=groups))
            )
        return found, of(lambda x, kernel: xla_convolution(x, kernel, stride, groups))

    found, (expected, expected_gradients) = run(x, kernel, cotangent)
    for actual, gradients in found:
        chex.assert_trees_all_close(actual, expected, rtol=1e-4, atol=1e-4)
        chex.assert_trees_all_close(gradients, expected_gradients, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_shifted_products_equal_the_convolution_on_every_backend(stride):
    x, kernel = draw(2, 10, 7, 4), draw(3, 3, 1, 4, seed=1)
    cotangent = draw(2, -(-10 // stride), -(-7 // stride), 4, seed=2)

    @jax.jit
    def run(x, kernel, cotangent):
        expected, pull = jax.vjp(
            lambda x, k: xla_convolution(x, k, stride, 4), x, kernel
        )
        gradients = [
            of(x, kernel, cotangent, stride=stride)
            for of in (depthwise_input_gradient, depthwise_kernel_gradient)
        ]
        actual = depthwise(x, kernel, stride=stride)
        return (actual, expected), list(zip(gradients, pull(cotangent), strict=True))

    (actual, expected), gradients = run(x, kernel, cotangent)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)
    for of_products, of_xla in gradients:
        np.testing.assert_allclose(of_products, of_xla, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("groups", [1, 4])
def test_bfloat16_gradients_have_the_dtype_of_what_they_are_of(groups, monkeypatch):
    x, weights = draw(1, 80, 40, 4), draw(3, 3, 4 // groups, 4, seed=1)

    def run(x, weights, cotangent, dtype):
        rounded = (v.astype(jnp.bfloat16).astype(dtype) for v in (x, weights))
        y, pull = jax.vjp(lambda x, k: convolve(x, k, groups=groups), *rounded)
        return y, *pull(y if cotangent is None else cotangent.astype(dtype))

    for limit in limits_of_whole_maps(is_dense=groups == 1):
        monkeypatch.setattr(convolution, "PATCHES", limit)
        in_bfloat16 = jax.jit(functools.partial(run, dtype=jnp.bfloat16))
        y, *gradients = in_bfloat16(x, weights, None)
        chex.assert_type((y, *gradients), jnp.bfloat16)
        _, *exact = jax.jit(functools.partial(run, dtype=jnp.float32))(x, weights, y)
        for a, b in zip(gradients, exact, strict=True):
            scale = np.abs(b).max()
            np.testing.assert_allclose(np.float32(a), b, atol=0.03 * scale)


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
    actual = jax.jit(lambda norm, x: norm(x))(norm, x)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


def test_group_norm_takes_fewer_groups_where_channels_do_not_divide():
    assert [GroupNorm(n).num_groups for n in (16, 32, 48, 64, 7)] == [16, 32, 24, 32, 7]


def test_a_frozen_norm_has_no_parameter_and_follows_its_formula():
    norm, x = FrozenBatchNorm(3, epsilon=0.5), draw(2, 2, 2, 3)
    norm.scale[...], norm.bias[...] = draw(3, seed=1), draw(3, seed=2)
    norm.mean[...], norm.var[...] = draw(3, seed=3), draw(3, seed=4) ** 2
    scale, bias, mean, var = (
        np.asarray(v[...]) for v in (norm.scale, norm.bias, norm.mean, norm.var)
    )
    expected = (np.asarray(x) - mean) / np.sqrt(var + 0.5) * scale + bias
    actual = jax.jit(lambda norm, x: norm(x))(norm, x)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)
    assert not jax.tree.leaves(nnx.state(norm, nnx.Param))


@pytest.mark.parametrize(("height", "width"), [(8, 12), (7, 9)])
def test_space_to_depth_puts_the_pixels_of_a_patch_side_by_side(height, width):
    x = np.asarray(draw(2, height, width, 3))
    found = np.asarray(jax.jit(space_to_depth)(x))
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

    @jax.jit
    def run(fpn, maps):
        lateral, below = (b(x) for b, x in zip(fpn.inner_blocks, maps, strict=True))
        twice = jnp.repeat(jnp.repeat(below, 2, axis=1), 2, axis=2)
        return fpn(maps), (lateral + twice, fpn.layer_blocks[1](below))

    (fine, coarse, coarsest), expected = run(fpn, maps)
    chex.assert_trees_all_close((fine, coarse), expected, rtol=1e-6)
    chex.assert_shape(coarsest, (1, 1, 2, 8))


@pytest.mark.parametrize(("size", "groups"), [(3, 6), (3, 1), (1, 1)])
def test_convolutions_work_under_shard_map(size, groups):
    mesh = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,))
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 70, 40, 6)).astype(np.float32)
    kernel = rng.normal(size=(size, size, 6 // groups, 6)).astype(np.float32)
    run = functools.partial(convolve, groups=groups)
    split = PartitionSpec("data")
    mapped = jax.shard_map(
        run, mesh=mesh, in_specs=(split, PartitionSpec()), out_specs=split
    )
    both = jax.jit(lambda x, kernel: (mapped(x, kernel), run(x, kernel)))
    actual, expected = both(x, kernel)
    np.testing.assert_allclose(actual, expected, 1e-5, 1e-5)
