"""How well the anchors of a configuration cover the boxes of a data set."""

import functools
import itertools
from collections.abc import Callable, Sequence
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
from ..core.targets import has_anchor
from ..data.image_source import GroundTruth

# Every call gets this number of boxes, padded if need be, so that a grid compiles once.
# The call takes about 12 ms on two CPU cores, however few boxes there are.
_BOXES_AT_ONCE = 4096
# Boxes that are vectorized together. It was measured on two CPU cores with 4,096 boxes
# and the five levels of an FPN for 800 x 1,333 pixels. 64, 256 and 1,024 took 11 to
# 14 ms, but all boxes at once took 45 ms.
_BOXES_PER_BLOCK = 256

Size = tuple[int, int]
FeatureShapes = Callable[[Size], Sequence[Size]]


class ImageBoxes(NamedTuple):
    """The objects of one image as the network sees them.

    Attributes:
        boxes: `[m 4]` in pixels of the resized image.
        image_size: `(height, width)` of the resized image.
        padded_size: `(height, width)` of the resized image with its padding, which the
            feature maps cover.

    >>> boxes = np.array([[10.0, 20, 50, 60]])
    >>> ImageBoxes(boxes, image_size=(480, 640), padded_size=(480, 640)).boxes.shape
    (1, 4)
    """

    boxes: Float[np.ndarray, "m 4"]
    image_size: tuple[float, float]
    padded_size: Size


def scaled(
    truth: GroundTruth, scale: tuple[float, float], padded_size: Size
) -> ImageBoxes:
    """Resizes the objects of an image, and leaves out its ignored regions.

    Args:
        truth: the ground truth, in pixels of the original image.
        scale: `(y, x)` factors from the original to the resized image.
        padded_size: `(height, width)` of the resized image with its padding.

    >>> from rpn_jax.data import Scenes
    >>> scaled(Scenes().truth(0), (0.5, 0.5), (120, 160)).padded_size
    (120, 160)
    """
    y, x = scale
    boxes = truth.boxes[~truth.is_ignored] * np.array([x, y, x, y], np.float32)
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
        images: the boxes of every image. Each distinct padded size compiles once.
        anchors: the shapes and spacing of the anchors.
        targets: the matching rules; the border rules drop anchors.
        feature_shapes: maps a padded size to `(height, width)` of every level.
    """
    # The result has the boxes in the order of the images, but they are computed grid by
    # grid. So each image remembers the row at which its boxes start.
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

    The work for a box grows with the sides of the feature maps, not with their area.

    Args:
        grid: the anchors.
        boxes: boxes of any images, in pixels; a box without extent overlaps nothing.
        image_sizes: `(height, width)` of each box's image, for the border rules.
        targets: the matching rules.

    >>> from rpn_jax import AnchorConfig, make_anchors
    >>> grid = make_anchors(AnchorConfig(sizes=(16,), strides=(16,)), [(2, 3)])
    >>> boxes, sizes = jnp.array([[0.0, 0, 16, 8]]), jnp.array([[32.0, 48]])
    >>> best_overlaps(grid, boxes, sizes, TargetConfig())
    Array([0.2], dtype=float32)
    """
    # A rule that applies after matching ignores anchors, but does not drop them.
    border = None if targets.border_after_matching else targets.allowed_border

    def of_box(box, image_size):
        def on_level(level):
            masks = axis_masks(level, image_size, border, targets.ignore_padding)
            fit = fit_level(level, masks, box[None], targets.pixel_offset)
            return fit.peak_iou.max()

        return jnp.stack([on_level(level) for level in grid.levels]).max()

    rows = (boxes.astype(jnp.float32), image_sizes.astype(jnp.float32))
    return jax.lax.map(lambda row: of_box(*row), rows, batch_size=_BOXES_PER_BLOCK)


def have_anchor(
    image: ImageBoxes, grid: AnchorGrid, targets: TargetConfig
) -> Bool[np.ndarray, " m"]:
    """Matches an image, and says which boxes some positive anchor regresses to.

    Args:
        image: the boxes of the image.
        grid: the anchors.
        targets: the matching rules.
    """
    # The rows are padded to 8, 32, 128 and so on, because each number compiles once.
    number = len(image.boxes)
    rows = next(
        rows for rows in (8 * 4**i for i in itertools.count()) if rows >= number
    )
    padded = np.zeros((rows, 4), np.float32)
    padded[:number] = image.boxes
    size = np.array(image.image_size, np.float32)
    found = _has_anchor(grid, padded, np.arange(rows) < number, size, targets)
    return np.asarray(found)[:number]


@functools.partial(jax.jit, static_argnames="targets")
def _has_anchor(grid, boxes, valid, image_size, targets) -> Bool[jax.Array, " m"]:
    """Whether some positive anchor regresses to each of the valid boxes."""
    matches = match_anchors(grid, boxes, valid, image_size, config=targets)
    return has_anchor(matches, boxes.shape[0]) & valid


def _cover_grid(
    grid: AnchorGrid, images: Sequence[ImageBoxes], targets: TargetConfig
) -> Float[np.ndarray, " o"]:
    """The best IoU of boxes whose images share one grid, `_BOXES_AT_ONCE` per call."""
    boxes = np.concatenate([image.boxes for image in images]).astype(np.float32)
    # The border rules need an image size, so each box carries that of its image.
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
