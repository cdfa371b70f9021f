"""Non-maximum suppression with a static number of outputs: greedy, and exact."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ._arguments import lenient_jit
from ._typing import Array, ArrayLike, Bool, Float, Int, UInt32
from .boxes import area, finite_boxes
from .nms_kernels import STRIP, Columns, Rule, keep_by_collecting, keep_by_masking
from .platforms import by_platform, portable_forms

TINY = np.float32(1e-30)  # square pixels; what a box without area has, to divide by


class NMSResult(NamedTuple):
    """The boxes that survive suppression.

    Attributes:
        indices: `[k]` rows of the boxes in the input, from the highest score down; 0 in
            the padding.
        valid: `[k]` which entries are boxes; the padding comes last.

    >>> NMSResult(np.array([2, 0]), np.array([True, False])).indices.tolist()
    [2, 0]
    """

    indices: Int[Array, " k"]
    valid: Bool[Array, " k"]


@lenient_jit(
    static_argnames=(
        "iou_threshold",
        "max_outputs",
        "inclusive_threshold",
        "pixel_offset",
    ),
)
def nms(
    boxes: Float[ArrayLike, "n 4"],
    scores: Float[ArrayLike, " n"],
    *,
    iou_threshold: float,
    max_outputs: int,
    valid: Bool[ArrayLike, " n"] | None = None,
    groups: Int[ArrayLike, " n"] | None = None,
    inclusive_threshold: bool = False,
    pixel_offset: float = 0.0,
) -> NMSResult:
    """Keeps boxes from the highest score down, dropping those that overlap a kept one.

    Equal scores are visited in the order of their rows. A row does not exist if it is
    not `valid`, if a coordinate is not finite, or if its score is NaN or `-inf`, the
    usual mark of a masked row. Such a row is never kept and suppresses nothing. Boxes
    without area, such as inverted ones, overlap nothing: they are kept and suppress
    nothing.

    The overlap is computed in float32, whatever the dtype of the boxes, and rounded as
    torchvision's kernel rounds it. No gradient passes through the selection.

    Args:
        boxes: `(x0, y0, x1, y1)`, anywhere in the plane.
        scores: any real numbers; higher ones are visited first. Under
            `jax_enable_x64`, scores in float64 are compared in float64.
        iou_threshold: IoU above which the box with the lower score is dropped.
        max_outputs: number of entries of the result; it may exceed the number of boxes.
        valid: which rows exist; None means all.
        groups: a number per box. Boxes of different groups (levels, classes or images)
            never suppress each other.
        inclusive_threshold: also drops boxes with an IoU of exactly the threshold, as
            TensorFlow does. The threshold is then rounded to float32. Otherwise it is
            compared as written, in float64, as in torchvision.
        pixel_offset: added to `x1 - x0` to get the width; 1.0 in the legacy inclusive
            convention.

    Returns:
        The rows of the first `max_outputs` boxes that are kept.

    Raises:
        ValueError: `iou_threshold` is outside `[0, 1]`, or `max_outputs` is below 1.

    >>> boxes = np.array([[0, 0, 9, 9], [0, 0, 10, 10], [5, 5, 15, 15]], np.float32)
    >>> scores = np.array([0.8, 0.9, 0.7], np.float32)
    >>> nms(boxes, scores, iou_threshold=0.5, max_outputs=3).indices.tolist()
    [1, 2, 0]
    """
    boxes, scores = lax.stop_gradient((jnp.asarray(boxes), jnp.asarray(scores)))
    # NaN and -inf mark rows that do not exist.
    exists = scores >= float(jnp.finfo(scores.dtype).min)
    exists = exists if valid is None else exists & jnp.asarray(valid)
    order = _rank(scores, exists)
    kept = suppress_ranked(
        boxes[order],
        exists[order],
        None if groups is None else jnp.asarray(groups)[order],
        iou_threshold=iou_threshold,
        max_outputs=max_outputs,
        inclusive_threshold=inclusive_threshold,
        pixel_offset=pixel_offset,
    )
    if len(order) == 0:
        return kept
    return NMSResult(jnp.where(kept.valid, order[kept.indices], 0), kept.valid)


def suppress_ranked(
    boxes: Float[Array, "n 4"],
    valid: Bool[Array, " n"],
    groups: Int[Array, " n"] | None = None,
    *,
    iou_threshold: float,
    max_outputs: int,
    inclusive_threshold: bool = False,
    pixel_offset: float = 0.0,
) -> NMSResult:
    """`nms` of boxes that are sorted by score already; its arguments are the same."""
    if not 0.0 <= iou_threshold <= 1.0 or max_outputs < 1:
        raise ValueError(
            "nms needs iou_threshold in [0, 1] and max_outputs of at least 1, got "
            f"{iou_threshold} and {max_outputs}."
        )
    rule = Rule(largest_tolerated(iou_threshold, inclusive_threshold), pixel_offset)
    limits = {"rule": rule, "number": min(max_outputs, len(boxes))}
    kept = by_platform(
        *_to_columns(boxes, valid, groups, pixel_offset),
        # A batched loop runs until the last image is done, and computes all images in
        # every iteration. So on a CPU, `vmap` handles one image after the other.
        cpu=jax.custom_batching.sequential_vmap(
            functools.partial(keep_by_collecting, **limits)
        ),
        default=functools.partial(keep_by_masking, **limits),
    )
    entries = jnp.arange(max_outputs, dtype=jnp.int32)
    ranks = jnp.pad(kept.ranks, (0, max_outputs - len(kept.ranks)))
    return NMSResult(jnp.where(entries < kept.size, ranks, 0), entries < kept.size)


def largest_tolerated(iou_threshold: float, inclusive: bool) -> float:
    """The largest IoU in float32 that does not suppress; at least 0.

    IoUs are float32 numbers, so comparing them with this number decides the same as
    comparing them with the threshold in float64, and needs no float64.
    """
    limit = np.float32(iou_threshold)
    if inclusive or float(limit) > iou_threshold:
        limit = np.nextafter(limit, np.float32(-1.0))
    return max(float(limit), 0.0)


def _to_columns(
    boxes: Float[Array, "n 4"],
    valid: Bool[Array, " n"],
    groups: Int[Array, " n"] | None,
    pixel_offset: float,
) -> tuple[Columns, Bool[jax.Array, " padded"]]:
    """The boxes and which of them may be kept, padded to whole strips."""
    valid = valid & jnp.isfinite(boxes).all(axis=-1)
    boxes = finite_boxes(boxes)
    columns = Columns(
        x0=boxes[:, 0],
        y0=boxes[:, 1],
        x1=boxes[:, 2],
        y1=boxes[:, 3],
        area=area(boxes, pixel_offset=pixel_offset),
        group=None if groups is None else jnp.asarray(groups),
    )
    strips = max(-(-len(boxes) // STRIP), 1)
    padding = (0, strips * STRIP - len(boxes))
    columns = jax.tree.map(lambda x: jnp.pad(x, padding), columns)
    columns = columns._replace(area=jnp.maximum(columns.area, TINY))
    return columns, jnp.pad(valid, padding)


def _rank(
    scores: Float[Array, " n"], exists: Bool[Array, " n"]
) -> Int[jax.Array, " n"]:
    """The rows from the highest score down; those that do not exist come last."""
    if not portable_forms.value:
        if scores.dtype == jnp.float64:  # under jax_enable_x64
            last = jnp.finfo(jnp.float64).max
            return jnp.argsort(jnp.where(exists, -scores, last)).astype(jnp.int32)
        return _argsort(_descending_keys(scores, exists))
    # No other runtime reads the bits of a float, but all rank floats, ties by row.
    scores = scores.astype(jnp.float32)
    scores = jnp.where(scores == 0.0, 0.0, scores)  # -0.0 ties with 0.0
    return lax.top_k(jnp.where(exists, scores, -jnp.inf), len(scores))[1]


def _descending_keys(
    scores: Float[Array, " n"], exists: Bool[Array, " n"]
) -> UInt32[jax.Array, " n"]:
    """Integers that rise as the scores fall; the largest marks what does not exist.

    The bits of a positive float, read as an integer, rise with the float. Those of a
    negative float fall with it and have the highest bit set.
    """
    bits = lax.bitcast_convert_type(scores.astype(jnp.float32), jnp.uint32)
    sign = np.uint32(1 << 31)
    bits = jnp.where(bits == sign, np.uint32(0), bits)  # -0.0 ties with 0.0
    keys = jnp.where(bits < sign, sign - np.uint32(1) - bits, bits)
    return jnp.where(exists, keys, np.uint32(2**32 - 1))


def _argsort(keys: UInt32[jax.Array, " n"]) -> Int[jax.Array, " n"]:
    """The stable ascending order of the keys."""
    if len(keys) > 2**16:  # a position has to fit into 16 bits below
        return _argsort_at_once(keys)
    return lax.platform_dependent(
        keys, cpu=_argsort_by_halves, default=_argsort_at_once
    )


def _argsort_at_once(keys: UInt32[jax.Array, " n"]) -> Int[jax.Array, " n"]:
    return jnp.argsort(keys).astype(jnp.int32)


def _argsort_by_halves(keys: UInt32[jax.Array, " n"]) -> Int[jax.Array, " n"]:
    """Sorts by the lower 16 bits, then by the upper, each in a word with the position.

    XLA's CPU backend sorts one array of integers faster than keys with their positions:
    two such sorts took 1.0 ms, and `jnp.argsort` 2.7 ms, for 12,000 keys on two CPU
    cores.
    """
    # A sort by the lower half, and then a stable one by the upper half, is a sort by
    # both. With the position in the other 16 bits of the word, no two words are equal,
    # so each sort is stable and carries the order along.
    low = np.uint32(2**16 - 1)
    positions = jnp.arange(len(keys), dtype=jnp.uint32)
    order = jnp.sort((keys << 16) | positions) & low
    order = order[jnp.sort((keys[order] & ~low) | positions) & low]
    return order.astype(jnp.int32)
