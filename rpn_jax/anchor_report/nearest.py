"""IoU of boxes with the nearest anchor of any shape, without making the anchors."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..core._typing import Float
from ..core.anchor_config import AnchorConfig
from ..core.config import TargetConfig
from .coverage import ImageBoxes


class PlacedBoxes(NamedTuple):
    """Boxes of any images, each with what bounds the anchors around it.

    Attributes:
        boxes: `[o 4]` in pixels of the network's input.
        image_sizes: `[o 2]` `(height, width)` of the box's image.
        padded_sizes: `[o 2]` the same with padding.
    """

    boxes: Float[np.ndarray, "o 4"]
    image_sizes: Float[np.ndarray, "o 2"]
    padded_sizes: Float[np.ndarray, "o 2"]

    def sides(self) -> Float[np.ndarray, "o 2"]:
        """Width and height."""
        return self.boxes[:, 2:] - self.boxes[:, :2]


def place_boxes(images: Sequence[ImageBoxes], most: int) -> PlacedBoxes:
    """The boxes of all images that have an extent, or as many of them as wanted.

    Args:
        images: of any sizes.
        most: how many boxes to keep at most, evenly spaced.
    """
    counts = [len(image.boxes) for image in images]
    sizes = [
        np.repeat(np.array(values, np.float32).reshape(-1, 2), counts, axis=0)
        for values in zip(*((x.image_size, x.padded_size) for x in images), strict=True)
    ] or [np.zeros((0, 2), np.float32)] * 2
    boxes = np.concatenate([np.zeros((0, 4)), *(image.boxes for image in images)])
    placed = PlacedBoxes(boxes.astype(np.float32), *sizes)
    rows = np.flatnonzero((placed.sides() > 0.0).all(axis=1))
    rows = rows[:: max(1, -(-len(rows) // most))]
    return PlacedBoxes(*(values[rows] for values in placed))


def nearest_iou(
    placed: PlacedBoxes,
    shapes: Float[np.ndarray, "2 s r"],
    config: AnchorConfig,
    targets: TargetConfig,
) -> Float[np.ndarray, "l o s r"]:
    """The best IoU of every box with the anchors of each shape, level by level.

    On a grid of one shape the best anchor is the nearest one by column and by row. So
    this is what matching would find, except that the pixels which `rounding` moves
    corners by, and `pixel_offset`, are left out.

    Args:
        placed: boxes with an extent.
        shapes: width and height of the anchors.
        config: strides and origins of the levels, of as many cells as cover the image.
        targets: whose border rules leave out anchors.
    """
    area = shapes.prod(axis=0) + placed.sides().prod(axis=1)[:, None, None]
    levels = []
    for stride in config.level_strides:
        shared = np.ones(1, np.float32)
        for axis in (0, 1):
            shared = shared * _shared_length(
                placed, shapes[axis], axis, stride[1 - axis], config, targets
            )
        levels.append(shared / (area - shared))
    return np.stack(levels).astype(np.float32)


def _shared_length(
    placed: PlacedBoxes,
    sides: Float[np.ndarray, "s r"],
    axis: int,
    stride: int,
    config: AnchorConfig,
    targets: TargetConfig,
) -> Float[np.ndarray, "o s r"]:
    """What boxes share with the nearest anchors that take part, along x or y."""
    low, high = placed.boxes[:, [axis, 2 + axis]].T[:, :, None, None]
    image, padded = (
        size[:, 1 - axis, None, None]
        for size in (placed.image_sizes, placed.padded_sizes)
    )
    is_legacy = config.rounding == "legacy"
    origin = (config.base_size - 1) / 2 if is_legacy else config.center_offset * stride
    border = None if targets.border_after_matching else targets.allowed_border
    reach = np.inf if border is None else border
    extent = image if targets.ignore_padding else padded
    first = np.maximum(0.0, np.ceil((sides / 2 - reach - origin) / stride))
    last = np.floor((image + reach - sides / 2 - origin) / stride)
    last = np.minimum(np.ceil(extent / stride) - 1.0, last)
    cell = np.clip(np.round(((low + high) / 2 - origin) / stride), first, last)
    distance = np.abs((low + high) / 2 - origin - cell * stride)
    side = high - low
    shared = np.minimum(np.minimum(side, sides), (side + sides) / 2 - distance)
    return np.where(first <= last, np.maximum(shared, 0.0), 0.0).astype(np.float32)
