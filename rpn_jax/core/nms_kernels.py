"""Greedy suppression of boxes that are sorted by rank, in two forms that agree.

Boxes are visited in tiles of 32, the best first. A tile first meets the boxes kept so
far. Suppression among the boxes that are left works on 32-bit words: bit `j` of the
word of box `i` says that box `j` would suppress it. The greedy decision for a box is a
single AND with the word of the boxes kept.

The forms differ in how a tile meets the boxes kept so far. A CPU collects these boxes,
and stops when it has enough of them. GPUs and TPUs compare a tile with all boxes at
once, under a mask. Their loop has a fixed length, so it asks neither the host nor the
other devices of a sharded batch whether to continue. Neither form stores a matrix of
all pairs.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ._typing import Bool, Float, Int, UInt32

TILE = 32  # boxes in a tile: one for each bit of a word
# Boxes are padded to a multiple of this. The collecting form compares a strip of four
# tiles with the boxes kept before in one go. A longer strip has longer vectors, but
# starts more work beyond the last box that is wanted. 1 to 8 tiles were equally fast,
# within a noise of 25 %, for 2,000 and 12,000 boxes on two CPU cores; 16 were slower
# for 2,000.
STRIP = 4 * TILE

_State = TypeVar("_State")
_Rows = TypeVar("_Rows")  # arrays with one row for each box
_Index = int | Int[jax.Array, ""]  # an int where loops run without `jit`


class Columns(NamedTuple):
    """Boxes as one array for each coordinate, so that arithmetic on them vectorises.

    Attributes:
        x0: left edges.
        y0: top edges.
        x1: right edges.
        y1: bottom edges.
        area: areas, at least a tiny one.
        group: groups, or None where all boxes may meet.
    """

    x0: Float[jax.Array, "*n"]
    y0: Float[jax.Array, "*n"]
    x1: Float[jax.Array, "*n"]
    y1: Float[jax.Array, "*n"]
    area: Float[jax.Array, "*n"]
    group: Int[jax.Array, "*n"] | None


class Rule(NamedTuple):
    """Decides whether two boxes are too close for both to stay.

    Attributes:
        limit: the largest IoU that does not suppress.
        pixel_offset: added to `x1 - x0` to get the width.
    """

    limit: float
    pixel_offset: float

    def meet(self, a: Columns, b: Columns) -> Bool[jax.Array, "p q"]:
        """Whether each box in `a` is too close to each in `b`.

        The operations and their order are torchvision's, and with them the rounding,
        which decides between boxes that lie on a grid.
        """
        a = jax.tree.map(lambda x: x[:, None], a)
        b = jax.tree.map(lambda x: x[None, :], b)
        width = jnp.minimum(a.x1, b.x1) - jnp.maximum(a.x0, b.x0) + self.pixel_offset
        height = jnp.minimum(a.y1, b.y1) - jnp.maximum(a.y0, b.y0) + self.pixel_offset
        overlap = jnp.maximum(width, 0.0) * jnp.maximum(height, 0.0)
        # Areas are positive, so that two boxes without any do not give 0 / 0.
        exceeds = overlap / (a.area + b.area - overlap) > self.limit
        return exceeds if a.group is None else exceeds & (a.group == b.group)


class Kept(NamedTuple):
    """The boxes that stay.

    Attributes:
        ranks: `[k]` their rows, in ascending order; meaningless from `size` on.
        size: number of boxes that stay; it may exceed `k`.
    """

    ranks: Int[jax.Array, " k"]
    size: Int[jax.Array, ""]


@functools.partial(jax.jit, static_argnames=("rule", "number"))
def keep_by_collecting(
    boxes: Columns, valid: Bool[jax.Array, " n"], *, rule: Rule, number: int
) -> Kept:
    """The form for CPUs: every box meets the kept ones alone, until `number` are kept.

    Args:
        boxes: the boxes, sorted by rank and padded to whole strips.
        valid: which of them may be kept.
        rule: when two boxes are too close.
        number: how many boxes are wanted; the loop stops as soon as it has them.
    """
    # The row after the last valid one, where the loop ends in any case.
    end = jnp.max(jnp.where(valid, jnp.arange(1, len(valid) + 1, dtype=jnp.int32), 0))

    def visit_strip(state: tuple[jax.Array, _Collection]) -> tuple:
        start, kept = state
        before = kept.size
        # The whole strip meets the boxes that were kept before it.
        strip, left = _slice((boxes, valid), start, STRIP)
        left &= ~_meets_any(strip, kept.boxes, 0, before, rule)

        # Each tile meets what the tiles before it in the strip have added.
        def visit_tile(i: _Index, kept: _Collection) -> _Collection:
            tile, alive = _slice((strip, left), i * TILE, TILE)
            alive &= ~_meets_any(tile, kept.boxes, before, kept.size, rule)
            return _append(kept, tile, start + i * TILE, _settle(tile, alive, rule))

        return start + STRIP, _loop(STRIP // TILE, visit_tile, kept)

    # Room for the wanted boxes in whole tiles, and for one strip that exceeds them.
    room = number + STRIP + -number % TILE
    # Made from inputs: under `shard_map`, a loop's state has to vary like its results.
    zero = jnp.zeros_like(end)
    nothing = _Collection(
        boxes=jax.tree.map(lambda x: jnp.full(room, jnp.zeros_like(x[0])), boxes),
        ranks=jnp.full(room, zero),
        size=zero,
    )
    _, kept = lax.while_loop(
        lambda state: (state[0] < end) & (state[1].size < number),
        visit_strip,
        (zero, nothing),
    )
    return Kept(kept.ranks[:number], kept.size)


@functools.partial(jax.jit, static_argnames=("rule", "number"))
def keep_by_masking(
    boxes: Columns, valid: Bool[jax.Array, " n"], *, rule: Rule, number: int
) -> Kept:
    """The form for GPUs and TPUs: every tile meets all boxes, masked to the kept ones.

    Args:
        boxes: the boxes, sorted by rank and padded to whole strips.
        valid: which of them may be kept.
        rule: when two boxes are too close.
        number: how many boxes are wanted.
    """

    def visit_tile(i: _Index, keep: Bool[jax.Array, " n"]) -> Bool[jax.Array, " n"]:
        tile, alive = _slice((boxes, valid), i * TILE, TILE)
        alive &= ~jnp.any(rule.meet(tile, boxes) & keep[None, :], axis=1)
        bits = _unpack(_settle(tile, alive, rule))
        return lax.dynamic_update_slice_in_dim(keep, bits, i * TILE, axis=0)

    keep = _loop(len(valid) // TILE, visit_tile, jnp.zeros_like(valid))
    # The rows of the kept boxes in ascending order, then numbers beyond the last row.
    ranks = jnp.where(keep, jnp.arange(len(keep), dtype=jnp.int32), len(keep))
    return Kept(jnp.sort(ranks)[:number], jnp.sum(keep, dtype=jnp.int32))


class _Collection(NamedTuple):
    """The boxes kept so far, with room for more.

    Attributes:
        boxes: the boxes.
        ranks: `[n]` their ranks.
        size: number of boxes kept so far.
    """

    boxes: Columns
    ranks: Int[jax.Array, " n"]
    size: Int[jax.Array, ""]


def _meets_any(
    boxes: Columns,
    others: Columns,
    start: _Index,
    stop: Int[jax.Array, ""],
    rule: Rule,
) -> Bool[jax.Array, " n"]:
    """Whether each box is too close to one of the rows `start` to `stop` of the others.

    Whole tiles are compared, which may include some rows before `start`. XLA's CPU
    backend fuses a reduction over the 32 elements of a tile with the comparison. For a
    longer reduction it would store the operand, which costs several times as much.
    """
    lanes = jnp.arange(TILE, dtype=jnp.int32)

    def compare(i: _Index, met: Bool[jax.Array, " n"]) -> Bool[jax.Array, " n"]:
        exists = i * TILE + lanes < stop
        meets = rule.meet(boxes, _slice(others, i * TILE, TILE)) & exists[None, :]
        return met | jnp.any(meets, axis=1)

    none = jnp.zeros_like(boxes.x0, bool)
    first = jnp.asarray(start // TILE, jnp.int32)
    return lax.fori_loop(first, (stop + TILE - 1) // TILE, compare, none)


@functools.partial(jax.jit, static_argnames="rule")
def _settle(
    tile: Columns, alive: Bool[jax.Array, " n"], rule: Rule
) -> UInt32[jax.Array, ""]:
    """Greedy suppression inside a tile: a word with the bits of the boxes that stay."""
    # Bit j of rivals[i] says that boxes i and j of the tile are too close.
    flags = jnp.left_shift(np.uint32(1), jnp.arange(TILE, dtype=jnp.uint32))
    meets = rule.meet(tile, tile)
    rivals = jnp.sum(jnp.where(meets, flags[None, :], 0), axis=1, dtype=jnp.uint32)
    # From the best box down: a box stays if no box that stays is its rival. Boxes after
    # it are not in the word yet, so they cannot suppress it.
    word = jnp.uint32(0)
    for lane in range(TILE):
        stays = alive[lane] & (rivals[lane] & word == 0)
        word |= jnp.where(stays, np.uint32(1 << lane), np.uint32(0))
    return word


def _append(
    kept: _Collection,
    tile: Columns,
    rank: Int[jax.Array, ""],
    word: UInt32[jax.Array, ""],
) -> _Collection:
    """Adds the boxes of a tile whose bits are set. The first has the given rank."""
    # The slot of a box is the number of set bits below its own bit. For each slot, the
    # sum finds the one box that moves there: the tile is compacted without a sort.
    lanes = jnp.arange(TILE, dtype=jnp.int32)
    better = jnp.left_shift(np.uint32(1), lanes.astype(jnp.uint32)) - np.uint32(1)
    slots = lax.population_count(word & better).astype(jnp.int32)
    moves = _unpack(word)[:, None] & (slots[:, None] == lanes[None, :])
    sources = jnp.sum(jnp.where(moves, lanes[:, None], 0), axis=0, dtype=jnp.int32)

    def append(x: jax.Array, new: jax.Array) -> jax.Array:
        return lax.dynamic_update_slice_in_dim(x, new[sources], kept.size, axis=0)

    return _Collection(
        boxes=jax.tree.map(append, kept.boxes, tile),
        ranks=append(kept.ranks, rank + lanes),
        size=kept.size + lax.population_count(word).astype(jnp.int32),
    )


def _loop(number: int, visit: Callable[..., _State], state: _State) -> _State:
    """`fori_loop` with a counter of 32 bits, also where JAX has 64."""
    return lax.fori_loop(np.int32(0), np.int32(number), visit, state)


def _unpack(word: UInt32[jax.Array, ""]) -> Bool[jax.Array, " n"]:
    lanes = jnp.arange(TILE, dtype=jnp.uint32)
    return jnp.right_shift(word, lanes) & np.uint32(1) == 1


def _slice(arrays: _Rows, start: _Index, size: int) -> _Rows:
    return jax.tree.map(lambda x: lax.dynamic_slice_in_dim(x, start, size), arrays)
