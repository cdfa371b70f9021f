"""Sums of pytrees whose order does not depend on how they are spread over devices."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from ..core._typing import Int
from ..devices import AXIS


def sum_in_order(
    leaf_of: Callable[[Int[jax.Array, ""]], Any], number: int, stop: Int[jax.Array, ""]
) -> Any:
    """The sum of `leaf_of(0)` to `leaf_of(number - 1)`, by a tree.

    Args:
        leaf_of: makes a pytree of arrays.
        number: number of leaves.
        stop: the same number, unknown to the compiler.

    Returns:
        The sum. Besides, the memory holds one pytree per level of the tree.
    """
    # `number & -number` is the largest power of two that divides it.
    halvings = (number & -number).bit_length() - 1
    group = number >> halvings
    sizes = [2] * halvings if group == 1 else [group, *[2] * halvings]
    like = jax.eval_shape(leaf_of, jnp.int32(0))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like)

    # A leaf is added one turn after it was computed. So it was stored in between, and
    # no compiler can fuse the addition with what computes it.
    def turn(carry):
        i, last, sums = carry
        return i + 1, leaf_of(i), _added(sums, last, i - 1, sizes)

    start = jnp.int32(0), zeros, [zeros] * len(sizes)
    _, last, sums = jax.lax.while_loop(lambda carry: carry[0] < stop, turn, start)
    whole = _added(sums, last, stop - 1, sizes)[-1] if sizes else last
    return jax.lax.optimization_barrier(whole)


def sum_of_devices(tree: Any, num_devices: int) -> Any:
    """The sum over all devices, by a tree over their numbers; under `shard_map`.

    Each device adds a piece of all trees, and all gather the pieces. So as many bytes
    travel as in an all-reduce, and the memory holds two trees more.

    Args:
        tree: float32 arrays of this device.
        num_devices: number of devices, a power of two.
    """
    if num_devices == 1:
        return tree
    flat, unravel = ravel_pytree(tree)
    pieces = jnp.pad(flat, (0, -len(flat) % num_devices)).reshape(num_devices, -1)
    # Device d now gets piece d of every device, in the order of the devices.
    rows = jax.lax.all_to_all(pieces, AXIS, 0, 0)
    while len(rows) > 1:
        rows = rows[::2] + rows[1::2]
    whole = jax.lax.all_gather(rows[0], AXIS, tiled=True)
    return jax.lax.optimization_barrier(unravel(whole[: len(flat)]))


def _added(
    sums: list[Any], leaf: Any, index: Int[jax.Array, ""], sizes: list[int]
) -> list[Any]:
    """The sums of all levels after another leaf.

    Args:
        sums: the unfinished sum of every level, the leaves' first.
        leaf: the new leaf.
        index: its number; -1 before the first leaf, which then overwrites all.
        sizes: number of branches that the levels join.
    """
    # As digits of a number: a level that is full is added to the next one.
    after, value, is_whole = [], leaf, jnp.bool_(True)
    for size, width, before in zip(sizes, _widths(sizes), sums, strict=True):
        digit = index // width % size

        def grown(old, new, digit=digit):
            return jnp.where(digit == 0, new, old + new)

        def kept(old, new, is_whole=is_whole):
            return jnp.where(is_whole, new, old)

        value = jax.tree.map(grown, before, value)
        after.append(jax.tree.map(kept, before, value))
        is_whole &= digit == size - 1
    return after


def _widths(sizes: list[int]) -> list[int]:
    """Number of leaves under a branch of every level."""
    return [math.prod(sizes[:level]) for level in range(len(sizes))]
