"""Depthwise convolution row by row, as sums of shifted products.

CPUs run these loops at memory speed. That they are loops matters: XLA would else fuse
what comes before and after into them, and compute that once for each of the products.
"""

import itertools

import jax
import jax.numpy as jnp

from ..core._typing import Float

Maps = Float[jax.Array, "b _ _ c"]
Kernel = Float[jax.Array, "k k 1 c"]


def depthwise(x: Maps, kernel: Kernel, *, stride: int) -> Maps:
    """Every channel by its own `k x k` weights, with `k // 2` zeros around the maps.

    Args:
        x: maps.
        kernel: weights; `k` is odd.
        stride: in both directions.

    Returns:
        Maps, divided by the stride and rounded up.
    """
    size = kernel.shape[0]
    height, width = (-(-n // stride) for n in x.shape[1:3])
    padded = _pad(x, size // 2)

    def set_row(row: jax.Array, maps: Maps) -> Maps:
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
    """The gradient of `depthwise` in `x`.

    Args:
        x: as in `depthwise`.
        kernel: as in `depthwise`.
        gradient: that of its result.
        stride: as in `depthwise`.

    Returns:
        Maps of the shape of `x`.
    """
    size, reach, (b, height, width, c) = kernel.shape[0], kernel.shape[0] // 2, x.shape
    down, right = gradient.shape[1:3]
    padded = _pad(gradient, reach)

    def phase(seen: Maps, row: int, column: int) -> Float[jax.Array, "b _ c"]:
        """The cells at `row` and `column` modulo the stride."""
        total = jnp.zeros((b, right, c), x.dtype)
        for i in range((row + reach) % stride, size, stride):
            for j in range((column + reach) % stride, size, stride):
                y, z = (row + reach - i) // stride, (column + reach - j) // stride
                part = seen[:, y + reach, z + reach : z + reach + right]
                total = total + part * kernel[i, j].reshape(1, 1, -1)
        return total

    def set_rows(row: jax.Array, maps: Maps) -> Maps:
        seen = _slice_rows(padded, row, 2 * reach + 1)
        rows = [
            jnp.stack([phase(seen, i, j) for j in range(stride)], axis=2)
            for i in range(stride)
        ]
        rows = jnp.stack(rows, axis=1).reshape(b, stride, right * stride, c)
        return _update_rows(maps, rows, row * stride)

    maps = zeros_like(gradient, (b, down * stride, right * stride, c)).astype(x.dtype)
    maps = jax.lax.fori_loop(0, down, set_rows, maps)
    return maps[:, :height, :width]


def depthwise_kernel_gradient(
    x: Maps, kernel: Kernel, gradient: Maps, *, stride: int
) -> Kernel:
    """The gradient of `depthwise` in `kernel`, summed in float32.

    Args:
        x: as in `depthwise`.
        kernel: as in `depthwise`.
        gradient: that of its result.
        stride: as in `depthwise`.

    Returns:
        Weights of the shape of `kernel`.
    """
    size, (b, height, width, c) = kernel.shape[0], gradient.shape
    padded = _pad(x, size // 2)

    # Whole rows of cells are added; only their sums are summed over the row. XLA's CPU
    # backend adds one number at a time where it sums over all three axes.
    def add_row(row: jax.Array, totals: list[jax.Array]) -> list[jax.Array]:
        slope = _slice_rows(gradient, row, 1)[:, 0].astype(jnp.float32)
        seen = _slice_rows(padded, row * stride, size).astype(jnp.float32)
        return [
            total + seen[:, i, _every(j, stride, width)] * slope
            for total, (i, j) in zip(totals, _taps(kernel), strict=True)
        ]

    zero = zeros_like(gradient, (b, width, c)).astype(jnp.float32)
    zeros = [zero for _ in _taps(kernel)]
    totals = jax.lax.fori_loop(0, height, add_row, zeros)
    sums = jnp.stack([jnp.sum(total, axis=(0, 1)) for total in totals])
    return sums.reshape(kernel.shape).astype(kernel.dtype)


def zeros_like(maps: Maps, shape: tuple[int, ...]) -> jax.Array:
    """Zeros to start a loop from, made from `maps`.

    Under `shard_map`, the state of a loop has to vary over devices as its results do.

    Args:
        maps: what the results are computed from.
        shape: of the zeros.
    """
    return jnp.full(shape, jnp.zeros_like(maps[0, 0, 0, 0]))


def _pad(x: Maps, reach: int) -> Maps:
    return jnp.pad(x, ((0, 0), (reach, reach), (reach, reach), (0, 0)))


def _slice_rows(x: Maps, first: jax.Array, number: int) -> Maps:
    return jax.lax.dynamic_slice_in_dim(x, first, number, axis=1)


def _update_rows(x: Maps, rows: Maps, first: jax.Array) -> Maps:
    return jax.lax.dynamic_update_slice_in_dim(x, rows, first, axis=1)


def _taps(kernel: Kernel) -> itertools.product:
    return itertools.product(*map(range, kernel.shape[:2]))


def _every(first: int, stride: int, number: int) -> slice:
    return slice(first, first + (number - 1) * stride + 1, stride)
