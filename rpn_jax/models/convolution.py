"""Convolution of channel-last maps, in the form that the backend is fast at.

XLA's own convolutions are fast on GPUs and TPUs. On CPUs they take 10 to 40 times the
time of the forms below where the convolution is depthwise, and 4 times for the gradient
of a dense kernel over a large map. All forms give the same numbers within rounding.
"""

import functools
import itertools

import jax
import jax.numpy as jnp

from ..core._typing import Float
from .depthwise import (
    depthwise,
    depthwise_input_gradient,
    depthwise_kernel_gradient,
    zeros_like,
)

LAYOUT = ("NHWC", "HWIO", "NHWC")
BAND = 2048  # cells of a batch of maps that one product of matrices sums over
PATCHES = 24_000_000  # numbers under all windows, up to which XLA's own is faster

Maps = Float[jax.Array, "b _ _ _"]
Kernel = Float[jax.Array, "k k _ _"]
Matrix = Float[jax.Array, "_ _"]


def convolve(x: Maps, kernel: Kernel, *, stride: int = 1, groups: int = 1) -> Maps:
    """Convolves maps with `k // 2` zeros around them, as PyTorch's networks do.

    Only reverse-mode derivatives are defined.

    Args:
        x: maps `[b h w i]`.
        kernel: `[k k i d]` with an odd `k`, or `[k k 1 i]` for a depthwise convolution.
        stride: in both directions.
        groups: 1, or `i` for a depthwise convolution.

    Returns:
        Maps `[b h w d]`, divided by the stride and rounded up.
    """
    return _convolve(x, kernel, stride, groups)


def _pointwise(x: Maps, kernel: Kernel, *, stride: int) -> Maps:
    """A convolution with a 1x1 kernel, as one product of matrices."""
    x = x[:, ::stride, ::stride]
    y = _matmul(x.reshape(-1, x.shape[-1]), kernel[0, 0])
    return y.reshape(*x.shape[:3], -1)


@jax.custom_vjp
def _matmul(x: Matrix, weights: Matrix) -> Matrix:
    return x @ weights


def _matmul_backward(
    saved: tuple[Matrix, Matrix], gradient: Matrix
) -> tuple[Matrix, Matrix]:
    x, weights = saved
    return gradient @ weights.T, _of_weights(x, gradient).astype(weights.dtype)


def _of_weights(x: Matrix, gradient: Matrix) -> Matrix:
    """`x.T @ gradient`, in float32.

    In the form that JAX's own rule gives it, XLA would transpose `gradient`, which
    takes longer than the product.
    """
    rows = (((0,), (0,)), ((), ()))
    return jax.lax.dot_general(x, gradient, rows, preferred_element_type=jnp.float32)


_matmul.defvjp(lambda x, weights: (x @ weights, (x, weights)), _matmul_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve(x: Maps, kernel: Kernel, stride: int, groups: int) -> Maps:
    plain = functools.partial(_plain, stride=stride, groups=groups)
    is_pointwise = kernel.shape[:2] == (1, 1)
    if groups == 1 and not is_pointwise:
        return plain(x, kernel)
    form = _pointwise if groups == 1 else depthwise
    on_cpu = functools.partial(form, stride=stride)
    return jax.lax.platform_dependent(x, kernel, cpu=on_cpu, default=plain)


def _forward(
    x: Maps, kernel: Kernel, stride: int, groups: int
) -> tuple[Maps, tuple[Maps, Kernel]]:
    return _convolve(x, kernel, stride, groups), (x, kernel)


def _backward(
    stride: int, groups: int, saved: tuple[Maps, Kernel], gradient: Maps
) -> tuple[Maps, Kernel]:
    x, kernel = saved
    of_input = functools.partial(_input_gradient, stride=stride, groups=groups)
    of_kernel = functools.partial(_kernel_gradient, stride=stride, groups=groups)
    if groups == 1 and kernel.shape[:2] == (1, 1):

        def of_both(x: Maps, kernel: Kernel, gradient: Maps) -> tuple[Maps, Kernel]:
            return (of_input(x, kernel, gradient), of_kernel(x, kernel, gradient))

        def by_matmul(x: Maps, kernel: Kernel, gradient: Maps) -> tuple[Maps, Kernel]:
            pointwise = functools.partial(_pointwise, stride=stride)
            return jax.vjp(pointwise, x, kernel)[1](gradient)

        return jax.lax.platform_dependent(
            x, kernel, gradient, cpu=by_matmul, default=of_both
        )
    if groups == 1:
        in_bands = functools.partial(_kernel_gradient_in_bands, stride=stride)
        d_kernel = jax.lax.platform_dependent(
            x, kernel, gradient, cpu=in_bands, default=of_kernel
        )
        return of_input(x, kernel, gradient), d_kernel
    d_input = jax.lax.platform_dependent(
        x,
        kernel,
        gradient,
        cpu=functools.partial(depthwise_input_gradient, stride=stride),
        default=of_input,
    )
    d_kernel = jax.lax.platform_dependent(
        x,
        kernel,
        gradient,
        cpu=functools.partial(depthwise_kernel_gradient, stride=stride),
        default=of_kernel,
    )
    return d_input, d_kernel


_convolve.defvjp(_forward, _backward)


def _plain(x: Maps, kernel: Kernel, *, stride: int, groups: int = 1) -> Maps:
    reach = kernel.shape[0] // 2
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        [(reach, reach)] * 2,
        dimension_numbers=LAYOUT,
        feature_group_count=groups,
    )


def _input_gradient(
    x: Maps, kernel: Kernel, gradient: Maps, *, stride: int, groups: int
) -> Maps:
    def run(x: Maps) -> Maps:
        return _plain(x, kernel, stride=stride, groups=groups)

    return jax.linear_transpose(run, x)(gradient)[0]


def _kernel_gradient(
    x: Maps, kernel: Kernel, gradient: Maps, *, stride: int, groups: int
) -> Kernel:
    def run(kernel: Kernel) -> Maps:
        return _plain(x, kernel, stride=stride, groups=groups)

    return jax.linear_transpose(run, kernel)(gradient)[0]


def _kernel_gradient_in_bands(
    x: Maps, kernel: Kernel, gradient: Maps, *, stride: int
) -> Kernel:
    """XLA's program for a small map, the sum over bands of rows for a large one."""
    size, (images, height, width, _) = kernel.shape[0], gradient.shape
    if size * size * x.shape[3] * images * height * width <= PATCHES:
        return _kernel_gradient(x, kernel, gradient, stride=stride, groups=1)
    rows = min(height, max(1, BAND // (images * width)))
    number = -(-height // rows)
    reach, seen = size // 2, (rows - 1) * stride + size
    below = (number * rows - 1) * stride + size - x.shape[1] - reach
    x = jnp.pad(x, ((0, 0), (reach, max(0, below)), (reach, reach), (0, 0)))
    gradient = jnp.pad(gradient, ((0, 0), (0, number * rows - height), (0, 0), (0, 0)))

    taps = list(itertools.product(range(size), repeat=2))

    # Products of matrices: XLA's CPU backend has no fast convolution inside of a loop.
    def add_band(total: jax.Array, first: jax.Array) -> tuple[jax.Array, None]:
        band = jax.lax.dynamic_slice_in_dim(x, first * stride, seen, axis=1)
        shifted = [band[:, i::stride, j::stride][:, :rows, :width] for i, j in taps]
        patches = jnp.concatenate(shifted, axis=3)
        slopes = jax.lax.dynamic_slice_in_dim(gradient, first, rows, axis=1)
        part = _of_weights(
            patches.reshape(-1, total.shape[0]), slopes.reshape(-1, total.shape[1])
        )
        return total + part, None

    start = zeros_like(gradient, (size * size * x.shape[3], gradient.shape[3]))
    total = start.astype(jnp.float32)
    total, _ = jax.lax.scan(add_band, total, rows * jnp.arange(number))
    return total.reshape(kernel.shape).astype(kernel.dtype)
