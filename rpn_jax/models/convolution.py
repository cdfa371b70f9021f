"""Convolution of channel-last maps, in the form that is fastest on each backend.

XLA's own convolutions are fast on GPUs and TPUs, but not on CPUs. There a depthwise
convolution takes 10 to 40 times the time of the forms below, and the gradient of a
dense kernel over a large map takes 4 times theirs. All forms give the same numbers
within rounding.
"""

import functools
import itertools

import jax
import jax.numpy as jnp

from ..core._typing import Float
from ..core.platforms import portable_forms
from .depthwise import (
    depthwise,
    depthwise_input_gradient,
    depthwise_kernel_gradient,
    zeros_like,
)

LAYOUT = ("NHWC", "HWIO", "NHWC")

# Cells of the result, over all images, that one matmul of a kernel gradient sums over.
# Smaller bands make thin matmuls; the patches of larger ones leave the cache. It was
# measured on two busy CPU cores, with 64 channels and 44 to 111 million numbers in the
# patches. Bands of 2,048 took up to 1.8 times as long as the best of 512, 2,048 and
# 8,192. XLA's gradient took three times as long or more.
BAND = 2048

# Numbers in all patches (windows of the input) up to which the gradient of a dense
# kernel is left to XLA. In a training step on scenes, whose maps are below, sums over
# bands took two to three times as long when this was chosen. On 4 maps of 120 x 160
# cells and 64 channels, 44 million numbers, XLA takes three times as long or more.
PATCHES = 24_000_000

Maps = Float[jax.Array, "b _ _ _"]
Kernel = Float[jax.Array, "k k _ _"]
Matrix = Float[jax.Array, "_ _"]


def convolve(x: Maps, kernel: Kernel, *, stride: int = 1, groups: int = 1) -> Maps:
    """Convolves maps with `k // 2` zeros around them, as PyTorch's networks do.

    Only reverse-mode derivatives are defined.

    Args:
        x: maps `[b h w i]`.
        kernel: `[k k i d]` with an odd `k`, or `[k k 1 i]` for a depthwise convolution.
        stride: stride in both directions.
        groups: 1, or `i` for a depthwise convolution.

    Returns:
        Maps `[b h w d]`; height and width are divided by the stride and rounded up.
    """
    if portable_forms.value:
        return _plain(x, kernel, stride=stride, groups=groups)
    return _convolve(x, kernel, stride, groups)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve(x: Maps, kernel: Kernel, stride: int, groups: int) -> Maps:
    plain = functools.partial(_plain, stride=stride, groups=groups)
    # XLA is fast at the forward pass of a dense kernel on CPUs too.
    if groups == 1 and not _is_pointwise(kernel):
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
    """The gradients by the maps and by the kernel."""
    if groups > 1:
        form = _depthwise_gradients
    elif _is_pointwise(saved[1]):
        form = _pointwise_gradients
    else:
        form = _dense_gradients
    on_cpu = functools.partial(form, stride=stride)
    plain = functools.partial(_plain_gradients, stride=stride, groups=groups)
    return jax.lax.platform_dependent(*saved, gradient, cpu=on_cpu, default=plain)


_convolve.defvjp(_forward, _backward)


def _is_pointwise(kernel: Kernel) -> bool:
    return kernel.shape[:2] == (1, 1)


def _plain(x: Maps, kernel: Kernel, *, stride: int, groups: int = 1) -> Maps:
    """XLA's own convolution."""
    reach = kernel.shape[0] // 2
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        [(reach, reach)] * 2,
        dimension_numbers=LAYOUT,
        feature_group_count=groups,
    )


def _plain_gradients(
    x: Maps, kernel: Kernel, gradient: Maps, *, stride: int, groups: int = 1
) -> tuple[Maps, Kernel]:
    """XLA's own gradients. One that is not used is not computed under `jit`."""
    plain = functools.partial(_plain, stride=stride, groups=groups)
    return jax.vjp(plain, x, kernel)[1](gradient)


def _depthwise_gradients(
    x: Maps, kernel: Kernel, gradient: Maps, *, stride: int
) -> tuple[Maps, Kernel]:
    d_input = depthwise_input_gradient(x, kernel, gradient, stride=stride)
    return d_input, depthwise_kernel_gradient(x, kernel, gradient, stride=stride)


def _pointwise(x: Maps, kernel: Kernel, *, stride: int) -> Maps:
    """A convolution with a 1x1 kernel: every cell is a row of one matmul."""
    x = x[:, ::stride, ::stride]
    y = _matmul(x.reshape(-1, x.shape[-1]), kernel[0, 0])
    return y.reshape(*x.shape[:3], -1)


def _pointwise_gradients(
    x: Maps, kernel: Kernel, gradient: Maps, *, stride: int
) -> tuple[Maps, Kernel]:
    return jax.vjp(functools.partial(_pointwise, stride=stride), x, kernel)[1](gradient)


@jax.custom_vjp
def _matmul(x: Matrix, weights: Matrix) -> Matrix:
    return x @ weights


def _matmul_forward(x: Matrix, weights: Matrix) -> tuple[Matrix, tuple[Matrix, Matrix]]:
    return x @ weights, (x, weights)


def _matmul_backward(
    saved: tuple[Matrix, Matrix], gradient: Matrix
) -> tuple[Matrix, Matrix]:
    x, weights = saved
    d_weights = _contract_rows(x, gradient).astype(weights.dtype)
    return gradient @ weights.T, d_weights


_matmul.defvjp(_matmul_forward, _matmul_backward)


def _contract_rows(x: Matrix, gradient: Matrix) -> Matrix:
    """`x.T @ gradient`, in float32: the gradient of a matmul by its weights.

    In the form of JAX's own rule, XLA's CPU backend transposes `gradient`, which takes
    longer than the matmul.
    """
    rows = (((0,), (0,)), ((), ()))
    return jax.lax.dot_general(x, gradient, rows, preferred_element_type=jnp.float32)


def _dense_gradients(
    x: Maps, kernel: Kernel, gradient: Maps, *, stride: int
) -> tuple[Maps, Kernel]:
    """XLA's gradients, but a sum over bands for the kernel if the map is large."""
    d_input, d_kernel = _plain_gradients(x, kernel, gradient, stride=stride)
    images, height, width, _ = gradient.shape
    if kernel.shape[0] ** 2 * x.shape[3] * images * height * width > PATCHES:
        d_kernel = _kernel_gradient_in_bands(x, kernel, gradient, stride=stride)
    return d_input, d_kernel


def _kernel_gradient_in_bands(
    x: Maps, kernel: Kernel, gradient: Maps, *, stride: int
) -> Kernel:
    """The gradient of a dense kernel, summed over bands of rows of the result.

    In each band, the windows of the input become the rows of a matrix (`im2col`), so
    that the sum over cells is a matmul. XLA's CPU backend has no fast convolution
    inside of a loop, and the windows of the whole map would not fit into the cache.
    """
    # A band has the rows of the result that hold about BAND cells, but at least one.
    size, (images, height, width, _) = kernel.shape[0], gradient.shape
    rows = min(height, max(1, BAND // (images * width)))
    num_bands = -(-height // rows)

    # Pad the input by `reach` on every side, as the convolution does, and at the bottom
    # by the rows that the last band sees beyond. The result is padded to whole bands;
    # its zeros add nothing to the sum.
    reach, seen = size // 2, (rows - 1) * stride + size
    below = (num_bands * rows - 1) * stride + size - x.shape[1] - reach
    x = jnp.pad(x, ((0, 0), (reach, max(0, below)), (reach, reach), (0, 0)))
    missing = num_bands * rows - height
    gradient = jnp.pad(gradient, ((0, 0), (0, missing), (0, 0), (0, 0)))

    taps = list(itertools.product(range(size), repeat=2))

    def add_band(total: jax.Array, first: jax.Array) -> tuple[jax.Array, None]:
        # Row `r` of the result sees rows `r * stride` to `r * stride + size - 1` of the
        # padded input. Shifted by a tap `(i, j)`, every stride-th cell of the band is
        # what that tap is multiplied with; the taps go side by side into the channels.
        band = jax.lax.dynamic_slice_in_dim(x, first * stride, seen, axis=1)
        shifted = [band[:, i::stride, j::stride][:, :rows, :width] for i, j in taps]
        patches = jnp.concatenate(shifted, axis=3)
        slopes = jax.lax.dynamic_slice_in_dim(gradient, first, rows, axis=1)
        part = _contract_rows(
            patches.reshape(-1, total.shape[0]), slopes.reshape(-1, total.shape[1])
        )
        return total + part, None

    start = zeros_like(gradient, (size * size * x.shape[3], gradient.shape[3]))
    firsts = rows * jnp.arange(num_bands)
    total, _ = jax.lax.scan(add_band, start.astype(jnp.float32), firsts)
    return total.reshape(kernel.shape).astype(kernel.dtype)
