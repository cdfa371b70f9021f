"""Depthwise convolution row by row, as sums of shifted products.

With one input channel per output channel there is no matmul to use. Each row of the
result is a sum over taps, the positions in the kernel: a tap adds a shifted row of the
input times its weights. CPUs do this at memory speed.

The rows are in a loop on purpose. Without it, XLA would fuse the operations before and
after into the products, and compute them once per tap.
"""

import itertools

import jax
import jax.numpy as jnp

from ..core._typing import Float

Maps = Float[jax.Array, "b _ _ c"]
Kernel = Float[jax.Array, "k k 1 c"]


def depthwise(x: Maps, kernel: Kernel, *, stride: int) -> Maps:
    """Convolves every channel with its own `k x k` kernel and `k // 2` zeros around.

    Args:
        x: maps.
        kernel: weights; `k` is odd.
        stride: stride in both directions.

    Returns:
        Maps; height and width are divided by the stride and rounded up.
    """
    size = kernel.shape[0]
    height, width = (-(-n // stride) for n in x.shape[1:3])
    padded = _pad(x, size // 2)

    def set_row(row: jax.Array, maps: Maps) -> Maps:
        # Result row `row` sees `size` rows of the padded input. Its cell `column` is
        # the sum over taps `(i, j)` of the input at `(i, column * stride + j)`.
        seen = _slice_rows(padded, row * stride, size)
        parts = [
            seen[:, i, _every(j, stride, width)] * kernel[i, j].reshape(1, 1, -1)
            for i, j in _taps(kernel)
        ]
        return _update_rows(maps, sum(parts[1:], parts[0])[:, None], row)

    maps = zeros_like(x, (x.shape[0], height, width, x.shape[3]))
    return jax.lax.fori_loop(0, height, set_row, maps)


def depthwise_input_gradient(
    x: Maps, kernel: Kernel, gradient: Maps, *, stride: int
) -> Maps:
    """The gradient of `depthwise` by `x`.

    An input cell at `p` got into the result at `q` through tap `i` if
    `p + reach == q * stride + i`, in each direction. So its gradient is a sum over the
    taps for which `p + reach - i` is a multiple of the stride. These taps depend only
    on `p` modulo the stride, the phase of the cell: all cells of one phase are computed
    together, as sums of shifted rows, and the phases are interleaved.

    Args:
        x: as in `depthwise`.
        kernel: as in `depthwise`.
        gradient: gradient of the loss by the result of `depthwise`.
        stride: as in `depthwise`.

    Returns:
        Maps of the shape of `x`.
    """
    size, reach, (b, height, width, c) = kernel.shape[0], kernel.shape[0] // 2, x.shape
    down, right = gradient.shape[1:3]
    padded = _pad(gradient, reach)

    def phase(seen: Maps, row: int, column: int) -> Float[jax.Array, "b _ c"]:
        """The input cells at `row` and `column` modulo the stride, of one row."""
        total = jnp.zeros((b, right, c), x.dtype)
        # The first tap of a phase is the one that makes `row + reach - i` a multiple of
        # the stride. `y` and `z` are how far `q` lies below and to the right of the
        # cell `p // stride`; `+ reach` is for the padding of `gradient`.
        for i in range((row + reach) % stride, size, stride):
            for j in range((column + reach) % stride, size, stride):
                y, z = (row + reach - i) // stride, (column + reach - j) // stride
                part = seen[:, y + reach, z + reach : z + reach + right]
                total = total + part * kernel[i, j].reshape(1, 1, -1)
        return total

    def set_rows(row: jax.Array, maps: Maps) -> Maps:
        # One row of the gradient, with `reach` rows above and below, gives `stride`
        # rows of input cells. Stacking the phases behind the columns, and those behind
        # the rows, interleaves them when the axes are merged.
        seen = _slice_rows(padded, row, 2 * reach + 1)
        rows = [
            jnp.stack([phase(seen, i, j) for j in range(stride)], axis=2)
            for i in range(stride)
        ]
        rows = jnp.stack(rows, axis=1).reshape(b, stride, right * stride, c)
        return _update_rows(maps, rows, row * stride)

    # The result has whole phases, so up to `stride - 1` cells more than the input.
    maps = zeros_like(gradient, (b, down * stride, right * stride, c)).astype(x.dtype)
    maps = jax.lax.fori_loop(0, down, set_rows, maps)
    return maps[:, :height, :width]


def depthwise_kernel_gradient(
    x: Maps, kernel: Kernel, gradient: Maps, *, stride: int
) -> Kernel:
    """The gradient of `depthwise` by `kernel`, summed in float32.

    The gradient of a tap is the sum over all cells of the result: their gradients times
    the input cells that the tap was multiplied with.

    Args:
        x: as in `depthwise`.
        kernel: as in `depthwise`.
        gradient: gradient of the loss by the result of `depthwise`.
        stride: as in `depthwise`.

    Returns:
        Weights of the shape of `kernel`.
    """
    size, (b, height, width, c) = kernel.shape[0], gradient.shape
    padded = _pad(x, size // 2)

    def add_row(row: jax.Array, totals: list[jax.Array]) -> list[jax.Array]:
        # The same slices as in `depthwise`, one total per tap. A total keeps its images
        # and columns apart, so that the loop adds whole rows. XLA's CPU backend adds
        # one number at a time if it sums over all three axes.
        slope = _slice_rows(gradient, row, 1)[:, 0].astype(jnp.float32)
        seen = _slice_rows(padded, row * stride, size).astype(jnp.float32)
        return [
            total + seen[:, i, _every(j, stride, width)] * slope
            for total, (i, j) in zip(totals, _taps(kernel), strict=True)
        ]

    zero = zeros_like(gradient, (b, width, c)).astype(jnp.float32)
    totals = jax.lax.fori_loop(0, height, add_row, [zero for _ in _taps(kernel)])
    sums = jnp.stack([jnp.sum(total, axis=(0, 1)) for total in totals])
    return sums.reshape(kernel.shape).astype(kernel.dtype)


def zeros_like(maps: Maps, shape: tuple[int, ...]) -> jax.Array:
    """Zeros to start a loop from, made from `maps`.

    Under `shard_map`, the state of a loop has to vary over devices if its results do,
    so a constant is not enough.

    Args:
        maps: the maps that the results are computed from.
        shape: shape of the zeros.
    """
    return jnp.full(shape, jnp.zeros_like(maps[0, 0, 0, 0]))


def _pad(x: Maps, reach: int) -> Maps:
    """Adds `reach` rows and columns of zeros on every side."""
    return jnp.pad(x, ((0, 0), (reach, reach), (reach, reach), (0, 0)))


def _slice_rows(x: Maps, first: jax.Array, number: int) -> Maps:
    return jax.lax.dynamic_slice_in_dim(x, first, number, axis=1)


def _update_rows(x: Maps, rows: Maps, first: jax.Array) -> Maps:
    return jax.lax.dynamic_update_slice_in_dim(x, rows, first, axis=1)


def _taps(kernel: Kernel) -> itertools.product:
    """The row and column of every weight of the kernel."""
    return itertools.product(*map(range, kernel.shape[:2]))


def _every(first: int, stride: int, number: int) -> slice:
    """A slice of `number` cells from `first` on, `stride` apart."""
    return slice(first, first + (number - 1) * stride + 1, stride)
