"""Boxes `(x0, y0, x1, y1)`: area, overlap, and the coding of one box by another.

Geometry is float32 whatever the dtype of the input. Every function and its gradient are
finite for any input: what cannot be computed has a documented outcome instead of a NaN.
Under the legacy convention of py-faster-rcnn, `pixel_offset=1.0`, coordinates name
pixels and a box includes its last one, so that its width is `x1 - x0 + 1`.
"""

import jax
import jax.numpy as jnp

from ._arguments import lenient
from ._typing import ArrayLike, Bool, DeltaWeights, Float, ImageSize
from .config import MAX_LOG_SCALE

_LARGEST_COORDINATE = 1e18  # the areas of two such boxes have a finite sum in float32
_SMALLEST_SIDE = 1e-6  # a side below it encodes to nothing: its inverse would overflow
_LARGEST_LENGTH = 1e38
_LARGEST_LOG_SCALE = 88.0  # exp of more overflows, and its gradient with it


def area(
    boxes: Float[ArrayLike, "n 4"], *, pixel_offset: float = 0.0
) -> Float[jax.Array, " n"]:
    """Area of every box, in square pixels.

    Args:
        boxes: boxes `(x0, y0, x1, y1)`.
        pixel_offset: added to `x1 - x0` to get the width.

    Returns:
        Width times height; 0 for a box that is inverted or not finite.
    """
    sides = _sides(finite_boxes(boxes), pixel_offset)
    return sides[:, 0] * sides[:, 1]


def is_proper(boxes: Float[ArrayLike, "n 4"]) -> Bool[jax.Array, " n"]:
    """Whether every box is finite and has `x0 < x1` and `y0 < y1`."""
    boxes = jnp.asarray(boxes, jnp.float32)
    ordered = (boxes[:, 0] < boxes[:, 2]) & (boxes[:, 1] < boxes[:, 3])
    return ordered & jnp.isfinite(boxes).all(axis=-1)


def finite_boxes(boxes: Float[ArrayLike, "n 4"]) -> Float[jax.Array, "n 4"]:
    """The boxes in float32, without NaN and small enough for finite areas.

    A box with a coordinate that is not finite becomes an inverted box, which overlaps
    nothing under either convention.
    """
    boxes = jnp.asarray(boxes, jnp.float32)
    finite = jnp.isfinite(boxes).all(axis=-1, keepdims=True)
    inverted = jnp.array([[0.0, 0.0, -2.0, -2.0]], jnp.float32)
    within_range = jnp.clip(boxes, -_LARGEST_COORDINATE, _LARGEST_COORDINATE)
    return jnp.where(finite, within_range, inverted)


@lenient
def pairwise_iou(
    a: Float[ArrayLike, "n 4"], b: Float[ArrayLike, "m 4"], *, pixel_offset: float = 0.0
) -> Float[jax.Array, "n m"]:
    """Intersection over union of every box in `a` with every box in `b`.

    Args:
        a: boxes `(x0, y0, x1, y1)`.
        b: boxes `(x0, y0, x1, y1)`.
        pixel_offset: added to `x1 - x0` to get the width.

    Returns:
        The overlap of `a[i]` with `b[j]` at `[i, j]`, in `[0, 1]`. A box without area,
        or with a coordinate that is not finite, overlaps nothing, itself included.

    >>> a, b = jnp.array([[0.0, 0.0, 4.0, 4.0]]), jnp.array([[2.0, 0.0, 6.0, 4.0]])
    >>> pairwise_iou(a, b).round(3)
    Array([[0.333]], dtype=float32)
    """
    a, b = finite_boxes(a), finite_boxes(b)
    top_left = jnp.maximum(a[:, None, :2], b[None, :, :2])
    bottom_right = jnp.minimum(a[:, None, 2:], b[None, :, 2:])
    overlap = jnp.prod(
        jnp.maximum(bottom_right - top_left + pixel_offset, 0.0), axis=-1
    )
    area_a, area_b = (area(x, pixel_offset=pixel_offset) for x in (a, b))
    union = area_a[:, None] + area_b[None, :] - overlap
    # Divide by 1 where the union is empty: `where` alone would leave a NaN gradient.
    return overlap / jnp.where(union > 0.0, union, 1.0)


@lenient
def encode_boxes(
    boxes: Float[ArrayLike, "n 4"],
    anchors: Float[ArrayLike, "n 4"],
    *,
    weights: DeltaWeights = (1.0, 1.0, 1.0, 1.0),
    pixel_offset: float = 0.0,
) -> Float[jax.Array, "n 4"]:
    """Deltas `(dx, dy, dw, dh)` that carry each anchor to its box.

    They are the shift of the centre in units of the anchor's sides, and the logarithm
    of the ratio of sides: Eq. 2 of "Faster R-CNN" by Ren et al.
    (https://arxiv.org/abs/1506.01497).

    Args:
        boxes: boxes to regress to.
        anchors: the anchor that belongs to each box.
        weights: factors that the four deltas are multiplied by.
        pixel_offset: added to `x1 - x0` to get the width.

    Returns:
        One row of deltas per box. A delta that cannot be computed is 0: all four where
        a coordinate is not finite, and those along a side that is shorter than a
        millionth of a pixel.

    >>> encode_boxes([[0.0, 0, 10, 10]], [[5.0, 0, 15, 10]]).tolist()
    [[-0.5, 0.0, 0.0, 0.0]]
    """
    # Decide first what can be computed, then compute with safe numbers in place of the
    # rest: a `where` after the division would leave NaN in the gradient.
    boxes, anchors = jnp.asarray(boxes), jnp.asarray(anchors)
    exists = (jnp.isfinite(boxes) & jnp.isfinite(anchors)).all(axis=-1, keepdims=True)
    boxes, anchors = finite_boxes(boxes), finite_boxes(anchors)
    box_sides, anchor_sides = (_sides(x, pixel_offset) for x in (boxes, anchors))
    can_shift = exists & (anchor_sides > _SMALLEST_SIDE)
    can_scale = can_shift & (box_sides > _SMALLEST_SIDE)
    unit = jnp.where(can_shift, anchor_sides, 1.0)
    shift = (_centers(boxes, pixel_offset) - _centers(anchors, pixel_offset)) / unit
    log_scale = jnp.log(
        jnp.where(can_scale, box_sides, 1.0) / jnp.where(can_scale, unit, 1.0)
    )
    deltas = [jnp.where(can_shift, shift, 0.0), jnp.where(can_scale, log_scale, 0.0)]
    return jnp.concatenate(deltas, axis=-1) * jnp.array([weights], jnp.float32)


@lenient
def decode_boxes(
    deltas: Float[ArrayLike, "n 4"],
    anchors: Float[ArrayLike, "n 4"],
    *,
    weights: DeltaWeights = (1.0, 1.0, 1.0, 1.0),
    pixel_offset: float = 0.0,
    max_log_scale: float = MAX_LOG_SCALE,
    symmetric_log_scale: bool = False,
) -> Float[jax.Array, "n 4"]:
    """Boxes that the deltas carry each anchor to: the inverse of `encode_boxes`.

    With `pixel_offset=1.0` it is not quite the inverse, as in py-faster-rcnn and
    jwyang: deltas of zero give `(x0, y0, x1 + 1, y1 + 1)`.

    Args:
        deltas: `(dx, dy, dw, dh)` for every anchor.
        anchors: boxes `(x0, y0, x1, y1)`.
        weights: the factors that the deltas were encoded with.
        pixel_offset: added to `x1 - x0` to get the width of an anchor.
        max_log_scale: `dw` and `dh` are clamped to at most this, before `exp`.
        symmetric_log_scale: also clamps them to at least `-max_log_scale`.

    Returns:
        One box per row, always finite. A delta that is NaN, or whose result would
        exceed the range of float32, counts as 0.

    >>> decode_boxes([[0.0, 0, 10, 10]], [[0.5, 0, 0, 0]]).tolist()
    [[0.25, 0.0, 0.25, 0.0]]
    """
    anchors = finite_boxes(anchors)
    # Undo the weights. NaN becomes 0, and infinity the largest length.
    deltas = jnp.asarray(deltas, jnp.float32) / jnp.array([weights], jnp.float32)
    deltas = jnp.where(jnp.isnan(deltas), 0.0, deltas)
    deltas = jnp.clip(deltas, -_LARGEST_LENGTH, _LARGEST_LENGTH)
    # Move the centre by a share of the sides, and scale the sides.
    sides, centers = _sides(anchors, pixel_offset), _centers(anchors, pixel_offset)
    shift = _where_representable(deltas[:, :2] * sides, jnp.zeros_like(sides))
    lowest = -max_log_scale if symmetric_log_scale else None
    log_scale = jnp.clip(deltas[:, 2:], lowest, min(max_log_scale, _LARGEST_LOG_SCALE))
    half = 0.5 * _where_representable(jnp.exp(log_scale) * sides, sides)
    centers = centers + shift
    return jnp.concatenate([centers - half, centers + half], axis=-1)


@lenient
def clip_boxes(
    boxes: Float[ArrayLike, "n 4"], image_size: ImageSize, *, pixel_offset: float = 0.0
) -> Float[jax.Array, "n 4"]:
    """The part of every box inside the image.

    Args:
        boxes: boxes `(x0, y0, x1, y1)`.
        image_size: `(height, width)` in pixels.
        pixel_offset: added to `x1 - x0` to get the width; the largest coordinates are
            the image's height and width minus this.

    Returns:
        Boxes with `x` in `[0, width - pixel_offset]` and `y` in
        `[0, height - pixel_offset]`. A coordinate that is NaN becomes 0.

    >>> clip_boxes([[-5.0, 2.0, 30.0, 9.0]], [10.0, 20.0]).tolist()
    [[0.0, 2.0, 20.0, 9.0]]
    """
    boxes = jnp.asarray(boxes, jnp.float32)
    height, width = (jnp.asarray(image_size[i], jnp.float32) for i in (0, 1))
    limits = jnp.stack([width, height, width, height])[None, :] - pixel_offset
    return jnp.clip(jnp.where(jnp.isnan(boxes), 0.0, boxes), 0.0, limits)


def _sides(
    boxes: Float[jax.Array, "n 4"], pixel_offset: float
) -> Float[jax.Array, "n 2"]:
    return jnp.maximum(boxes[:, 2:] - boxes[:, :2] + pixel_offset, 0.0)


def _centers(
    boxes: Float[jax.Array, "n 4"], pixel_offset: float
) -> Float[jax.Array, "n 2"]:
    return boxes[:, :2] + 0.5 * (boxes[:, 2:] - boxes[:, :2] + pixel_offset)


def _where_representable(
    x: Float[jax.Array, "n 2"], otherwise: Float[jax.Array, "n 2"]
) -> Float[jax.Array, "n 2"]:
    """`x` where it is well inside the range of float32, with finite gradients."""
    return jnp.where(jnp.abs(x) < _LARGEST_LENGTH, x, otherwise)
