"""How well the anchors of a configuration cover the boxes of a data set."""

import functools
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..core._typing import Bool, Float
from ..core.anchor_config import AnchorConfig
from ..core.anchors import AnchorGrid, make_anchors
from ..core.config import TargetConfig
from ..core.matching.axes import axis_masks, fit_level
from ..core.matching.match import match_anchors
from ..data.image_source import GroundTruth

_BOXES_AT_ONCE = 4096  # one shape, so that a grid is compiled once

Size = tuple[int, int]
FeatureShapes = Callable[[Size], Sequence[Size]]


class ImageBoxes(NamedTuple):
    """The objects of one image as the network sees them.

    Attributes:
        boxes: `[m 4]` in pixels of the resized image.
        image_size: `(height, width)` of the resized image.
        padded_size: `(height, width)` with its padding, which has the feature maps.
    """

    boxes: Float[np.ndarray, "m 4"]
    image_size: tuple[float, float]
    padded_size: Size


def scaled(
    truth: GroundTruth, scale: tuple[float, float], padded_size: Size
) -> ImageBoxes:
    """The objects of an image, crowds left out, after it is resized.

    Args:
        truth: in pixels of the original image.
        scale: `(y, x)`, resized over original.
        padded_size: `(height, width)` with padding.
    """
    y, x = scale
    boxes = truth.boxes[~truth.is_crowd] * np.array([x, y, x, y], np.float32)
    height, width = truth.size
    return ImageBoxes(boxes, (height * y, width * x), padded_size)


def cover(
    images: Sequence[ImageBoxes],
    anchors: AnchorConfig,
    targets: TargetConfig,
    feature_shapes: FeatureShapes,
) -> Float[np.ndarray, " o"]:
    """The best IoU of every box with any anchor, image by image.

    Args:
        images: of any padded sizes; each of those compiles once.
        anchors: their shapes and spacing.
        targets: whose border rules leave out anchors.
        feature_shapes: `(height, width)` of every level, from a padded size.
    """
    sizes = [image.padded_size for image in images]
    counts = np.array([len(image.boxes) for image in images], int)
    starts = np.cumsum(counts) - counts
    best = np.zeros(counts.sum(), np.float32)
    for size in sorted(set(sizes)):
        rows = [row for row, other in enumerate(sizes) if other == size]
        grid = make_anchors(anchors, feature_shapes(size))
        places = [np.arange(starts[row], starts[row] + counts[row]) for row in rows]
        best[np.concatenate(places)] = _cover_grid(
            grid, [images[row] for row in rows], targets
        )
    return best


@functools.partial(jax.jit, static_argnames="targets")
def best_overlaps(
    grid: AnchorGrid,
    boxes: Float[jax.Array, "o 4"],
    image_sizes: Float[jax.Array, "o 2"],
    targets: TargetConfig,
) -> Float[jax.Array, " o"]:
    """The best IoU of each box with any anchor that takes part in matching.

    The work for a box is the sum of the sides of the feature maps, not their area.

    Args:
        grid: the anchors.
        boxes: in pixels, of any images; a box without extent overlaps nothing.
        image_sizes: `(height, width)` of each box's image, for the border rules.
        targets: the rules.
    """
    border = None if targets.border_after_matching else targets.allowed_border

    def of_box(box, image_size):
        def on_level(level):
            masks = axis_masks(level, image_size, border, targets.ignore_padding)
            fit = fit_level(level, masks, box[None], targets.pixel_offset)
            return fit.peak_iou.max()

        return jnp.stack([on_level(level) for level in grid.levels]).max()

    return jax.lax.map(lambda row: of_box(*row), (boxes, image_sizes), batch_size=256)


def have_anchor(
    image: ImageBoxes, grid: AnchorGrid, targets: TargetConfig
) -> Bool[np.ndarray, " m"]:
    """Which boxes some positive anchor regresses to, by matching the whole image.

    Args:
        image: its boxes are padded to 8, 32, 128 and so on: few numbers to compile for.
        grid: the anchors.
        targets: the rules.
    """
    number = len(image.boxes)
    rows = next(
        rows for rows in (8 * 4**i for i in itertools.count()) if rows >= number
    )
    padded = np.zeros((rows, 4), np.float32)
    padded[:number] = image.boxes
    size = np.array(image.image_size, np.float32)
    found = _owners(grid, padded, np.arange(rows) < number, size, targets)
    return np.asarray(found)[:number]


@functools.partial(jax.jit, static_argnames="targets")
def _owners(grid, boxes, valid, image_size, targets) -> Bool[jax.Array, " m"]:
    matches = match_anchors(grid, boxes, valid, image_size, config=targets)
    owned = jnp.zeros(boxes.shape[0], bool)
    return owned.at[matches.gt_index].max(matches.labels == 1) & valid


def _cover_grid(
    grid: AnchorGrid, images: Iterable[ImageBoxes], targets: TargetConfig
) -> Float[np.ndarray, " o"]:
    """Boxes of any images through one compiled function, some thousands at a time."""
    images = list(images)
    boxes = np.concatenate([image.boxes for image in images]).astype(np.float32)
    sizes = np.repeat(
        np.array([image.image_size for image in images], np.float32),
        [len(image.boxes) for image in images],
        axis=0,
    )
    best = [np.zeros(0, np.float32)]
    for start in range(0, len(boxes), _BOXES_AT_ONCE):
        part = slice(start, start + _BOXES_AT_ONCE)
        missing = max(0, start + _BOXES_AT_ONCE - len(boxes))
        padded = [np.pad(x[part], ((0, missing), (0, 0))) for x in (boxes, sizes)]
        found = best_overlaps(grid, *padded, targets)
        best.append(np.asarray(found)[: _BOXES_AT_ONCE - missing])
    return np.concatenate(best)
