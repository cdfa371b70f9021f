"""Draws synthetic images of textured shapes.

The box of a shape tightly bounds its visible pixels, as a person would draw it. A shape
has no box if later shapes leave less than `MIN_VISIBLE` of it visible. Lines and small
patches of noise are clutter, and have no box.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image, ImageDraw, ImageFilter

MAX_SHAPES = 15
# A change of any of these numbers changes the scenes, and all results on scenes.
MIN_SIDE = 12  # longer side of the smallest shape, in pixels
MIN_VISIBLE = 0.4  # smallest visible share of a shape's pixels for it to have a box
_EMPTY_SHARE = 0.05  # share of the images that have no shape
_LARGEST = 0.85  # longer side of the largest shape, in shorter sides of the image
_OUTSIDE = 0.15  # largest share of a shape's side that may lie outside the image
_BRIGHTEST = 232  # brightest background, which leaves room in a byte for the grain
# The kinds of shapes by their numbers, and the kind of an outline by its corners.
KINDS = {1: "triangle", 2: "rectangle", 3: "polygon", 4: "star", 5: "ellipse"}
_KIND_OF_CORNERS = {3: 1, 4: 2, 5: 3, 7: 3, 10: 4, 40: 5}

Pixels = UInt8[np.ndarray, "h w 3"]
Mask = UInt8[np.ndarray, "h w"]


class Scene(NamedTuple):
    """A synthetic image and its boxes.

    Attributes:
        pixels: `[h, w, 3]` RGB.
        boxes: `[m, 4]` tight boxes around the visible pixels of the shapes.
        areas: `[m]` number of visible pixels of each shape.
        kinds: `[m]` kind of each shape, a number in `KINDS`.
    """

    pixels: Pixels
    boxes: Float[np.ndarray, "m 4"]
    areas: Float[np.ndarray, " m"]
    kinds: Int[np.ndarray, " m"]


def draw_scene(rng: np.random.Generator, size: tuple[int, int]) -> Scene:
    """Draws a synthetic image.

    Args:
        rng: decides everything in the image.
        size: `(height, width)`, each at least twice `MIN_SIDE`.

    Returns:
        An image of at most `MAX_SHAPES` shapes, or of none.
    """
    ground_color = rng.integers(20, 220, 3)
    canvas = _background(rng, size, ground_color)
    # Sides are uniform on a logarithmic scale, so that small objects are as frequent as
    # large ones.
    number = 0 if rng.random() < _EMPTY_SHARE else int(rng.integers(1, MAX_SHAPES + 1))
    sides = np.exp(rng.uniform(np.log(MIN_SIDE), np.log(_LARGEST * min(size)), number))
    owner = np.zeros(size, np.uint8)  # the number of the shape that is visible
    # Large shapes come first, so that small ones lie on top and stay visible.
    drawn = [
        _draw_shape(rng, canvas, owner, label, side, ground_color)
        for label, side in enumerate(np.sort(sides)[::-1].tolist(), start=1)
    ]
    labels, boxes, areas = _visible_boxes(owner, [number for number, _ in drawn])
    kinds = np.array([kind for _, kind in drawn], np.int64)[labels - 1]
    smooth = Image.fromarray(canvas).filter(ImageFilter.BoxBlur(0.4))
    return Scene(np.asarray(smooth), boxes, areas, kinds)


def _background(
    rng: np.random.Generator, size: tuple[int, int], color: Int[np.ndarray, "3"]
) -> Pixels:
    """Draws the clutter that has no box: a gradient, lines, grain and patches."""
    # A coarse grid of random colours is smoothed into a gradient.
    height, width = size
    cells = color + rng.integers(-30, 31, (*rng.integers(2, 8, 2), 3))
    cells = np.clip(cells, 0, _BRIGHTEST).astype(np.uint8)
    image = Image.fromarray(cells).resize((width, height), Image.Resampling.BILINEAR)
    # Thin lines cross the image, and may begin outside.
    draw = ImageDraw.Draw(image)
    for _ in range(rng.integers(0, 13)):
        ends = rng.uniform(-0.1, 1.1, (2, 2)) * (width, height)
        line_color = tuple(int(c) for c in rng.integers(0, _BRIGHTEST, 3))
        draw.line(ends.ravel().tolist(), line_color, width=int(rng.integers(1, 3)))
    # Grain varies the brightness of every pixel. Patches of noise are smaller than the
    # smallest shape; halving the pixels first keeps the sum within a byte.
    canvas = np.array(image)
    grain = 256 - _BRIGHTEST
    canvas += rng.integers(0, rng.integers(2, grain), (height, width, 1), np.uint8)
    for _ in range(rng.integers(0, 9)):
        h, w = rng.integers(3, MIN_SIDE, 2)
        y, x = rng.integers(0, height - h), rng.integers(0, width - w)
        canvas[y : y + h, x : x + w] //= 2
        canvas[y : y + h, x : x + w] += rng.integers(0, 128, (h, w, 1), np.uint8)
    return canvas


def _draw_shape(
    rng: np.random.Generator,
    canvas: Pixels,
    owner: Mask,
    label: int,
    side: float,
    ground_color: Int[np.ndarray, "3"],
) -> tuple[int, int]:
    """Draws a shape, and returns its number of pixels and its kind."""
    size = owner.shape[0], owner.shape[1]
    whole, kind = _shape_mask(rng, side)
    mask, x, y = _place(whole, rng, size)
    # Adding about half the range to a channel, modulo 256, always gives a contrast.
    colors = (ground_color + rng.integers(56, 200, (3, 3))) % 256
    height, width = mask.shape
    window = slice(y, y + height), slice(x, x + width)
    _paint(canvas[window], mask, _texture(rng, (height, width)), colors)
    owner[window][mask > 0] = label
    return int(np.count_nonzero(mask)), kind


def _shape_mask(rng: np.random.Generator, side: float) -> tuple[Mask, int]:
    """A mask that touches all four sides, and the kind of the shape.

    The mask is 1 inside the shape and 2 on its outline.

    Args:
        rng: decides the outline, the aspect and whether the shape is a ring.
        side: length of the longer side in pixels.
    """
    aspect = np.exp(rng.uniform(-np.log(3.0), np.log(3.0)))
    short = max(side * min(aspect, 1.0 / aspect), MIN_SIDE / 2)
    width, height = round(side), round(short)
    if aspect > 1.0:
        width, height = height, width
    # The outline is stretched to touch all four sides, so that the mask is tight.
    corners = _outline(rng)
    kind = _KIND_OF_CORNERS[len(corners)]
    corners -= corners.min(axis=0)
    corners *= np.array([width - 1, height - 1]) / corners.max(axis=0)
    image = Image.new("L", (width, height))
    draw = ImageDraw.Draw(image)
    line = int(rng.integers(0, 2 + int(side > 40)))
    draw.polygon(corners.ravel().tolist(), 1, 2 if line else 1, width=max(line, 1))
    if short > MIN_SIDE and rng.random() < 0.2:  # a hole makes a ring
        middle = np.array([width - 1, height - 1]) / 2
        hole = middle + (corners - middle) * rng.uniform(0.4, 0.65)
        draw.polygon(hole.ravel().tolist(), 0, 2 if line else 0)
    return np.asarray(image), kind


def _outline(rng: np.random.Generator) -> Float[np.ndarray, "corners 2"]:
    """The corners of an ellipse, rectangle, triangle, polygon or star."""
    # The number of corners decides the kind: 40 look like an ellipse, 10 with two radii
    # make a star, and 5 or 7 with random radii make an uneven polygon.
    number = int(rng.choice([3, 4, 5, 7, 10, 40], p=[0.15, 0.25, 0.1, 0.1, 0.15, 0.25]))
    turn = rng.uniform(0.0, 2.0 * np.pi) if rng.random() < 0.5 else np.pi / 4
    angles = turn + np.arange(number) * 2.0 * np.pi / number
    radii = np.ones(number)
    if number in (5, 7):
        radii = rng.uniform(0.7, 1.0, number)
    elif number == 10:
        radii[1::2] = rng.uniform(0.4, 0.6)
    return radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=-1)


def _place(
    mask: UInt8[np.ndarray, "_ _"], rng: np.random.Generator, size: tuple[int, int]
) -> tuple[Mask, int, int]:
    """The part of a mask that lies inside the image, and its first column and row."""
    top, left = (
        round(rng.uniform(-_OUTSIDE * part, whole - (1 - _OUTSIDE) * part))
        for part, whole in zip(mask.shape, size, strict=True)
    )
    inside = mask[max(-top, 0) : size[0] - top, max(-left, 0) : size[1] - left]
    return inside, max(left, 0), max(top, 0)


def _texture(rng: np.random.Generator, shape: tuple[int, int]) -> Mask:
    """Weights from 0 to 255 of a second colour, in one of five textures.

    Plain, smooth noise, a gradient, a checkerboard, or stripes.
    """
    kind = rng.integers(0, 5)
    if kind == 0:
        return np.zeros(shape, np.uint8)
    if kind == 1:
        cells = Image.fromarray(rng.integers(0, 256, rng.integers(3, 12, 2), np.uint8))
        return np.asarray(cells.resize((shape[1], shape[0]), Image.Resampling.BILINEAR))
    # The other textures depend on the position along a random direction.
    angle, period = rng.uniform(0.0, np.pi), rng.uniform(4.0, 16.0)
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    rows, columns = rows.astype(np.float32), columns.astype(np.float32)
    along = np.cos(angle) * columns + np.sin(angle) * rows
    if kind == 2:
        along -= along.min()
        return (along * (255.0 / along.max())).astype(np.uint8)
    bands = along % period < period / 2
    if kind == 3:
        across = np.cos(angle) * rows - np.sin(angle) * columns
        bands = bands ^ (across % period < period / 2)
    return bands * np.uint8(255)


def _paint(
    window: Pixels, mask: Mask, weights: Mask, colors: Int[np.ndarray, "3 3"]
) -> None:
    """Paints a shape into a window of the image.

    Args:
        window: the pixels under the mask, which are changed.
        mask: 1 inside the shape, 2 on its outline.
        weights: weights of the second colour inside the shape.
        colors: two colours for the inside, and one for the outline.
    """
    steps = np.arange(256)[:, None]
    palette = (colors[0] + (colors[1] - colors[0]) * steps // 255).astype(np.uint8)
    np.copyto(window, palette[weights], where=mask[..., None] == 1)
    window[mask == 2] = colors[2]


def _visible_boxes(
    owner: Mask, pixels_drawn: list[int]
) -> tuple[Int[np.ndarray, " m"], Float[np.ndarray, "m 4"], Float[np.ndarray, " m"]]:
    """The labels, tight boxes and visible areas of shapes that are visible enough."""
    visible = np.bincount(owner.ravel(), minlength=len(pixels_drawn) + 1)[1:]
    labels = 1 + np.flatnonzero(visible > MIN_VISIBLE * np.array(pixels_drawn))
    # A box ends one past the last visible pixel, because coordinates name the edges of
    # pixels.
    boxes = np.zeros((len(labels), 4), np.float32)
    for box, label in zip(boxes, labels, strict=True):
        seen = owner == label
        columns = np.flatnonzero(seen.any(axis=0))
        rows = np.flatnonzero(seen.any(axis=1))
        box[:] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return labels, boxes, visible[labels - 1].astype(np.float32)
