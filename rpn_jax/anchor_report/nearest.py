"""IoU of boxes with the nearest anchor of any shape, without making the anchors."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..core._typing import Float
from ..core.anchor_config import AnchorConfig
from ..core.config import TargetConfig
from .coverage import ImageBoxes


class PlacedBoxes(NamedTuple):
    """Boxes of any images, each with the sizes that bound the anchors around it.

    Attributes:
        boxes: `[o 4]` in pixels of the network's input.
        image_sizes: `[o 2]` `(height, width)` of the image that holds the box.
        padded_sizes: `[o 2]` `(height, width)` of that image with its padding.
    """

    boxes: Float[np.ndarray, "o 4"]
    image_sizes: Float[np.ndarray, "o 2"]
    padded_sizes: Float[np.ndarray, "o 2"]

    def sides(self) -> Float[np.ndarray, "o 2"]:
        """Width and height of every box."""
        return self.boxes[:, 2:] - self.boxes[:, :2]

    def along(self, axis: int) -> "_Extents":
        """The extents of the boxes along x (`axis` 0) or y (`axis` 1)."""
        columns = (
            self.boxes[:, axis],
            self.boxes[:, 2 + axis],
            self.image_sizes[:, 1 - axis],
            self.padded_sizes[:, 1 - axis],
        )
        return _Extents(*(column[:, None, None] for column in columns))


class _Extents(NamedTuple):
    """Boxes and their images along one axis, in pixels.

    Every array is `[o 1 1]`, so that it broadcasts over sizes and ratios of anchors.

    Attributes:
        low: left or upper edge of the box.
        high: right or lower edge of the box.
        image: length of the image.
        padded: length of the image with its padding.
    """

    low: Float[np.ndarray, "o 1 1"]
    high: Float[np.ndarray, "o 1 1"]
    image: Float[np.ndarray, "o 1 1"]
    padded: Float[np.ndarray, "o 1 1"]


def place_boxes(images: Sequence[ImageBoxes], most: int) -> PlacedBoxes:
    """Gathers the boxes of all images, without those that have no extent.

    Args:
        images: the boxes of every image; their sizes may differ.
        most: the largest number of boxes to keep. If there are more, evenly spaced
            ones are kept.
    """
    counts = [len(image.boxes) for image in images]
    # Every box gets a row with the sizes of its image; without any image, no row.
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

    Matching would find the same IoU, except for two differences of a pixel:
    `pixel_offset`, and the amount by which `rounding` moves the corners of anchors.
    Both are left out here.

    Args:
        placed: boxes with an extent.
        shapes: width and height of the anchors.
        config: gives the strides and origins of the levels. A level has the cells that
            cover the image.
        targets: its border rules drop anchors.
    """
    # The areas of a box and of an anchor added up, which count their overlap twice.
    areas = shapes.prod(axis=0) + placed.sides().prod(axis=1)[:, None, None]
    levels = []
    for stride in config.level_strides:
        # Anchors of one shape differ only in their column and row, and the length that
        # a box shares with an anchor along x depends on the column alone. So the best
        # anchor stands in the nearest column and the nearest row, and the product of
        # the two shared lengths is the overlap.
        overlap = np.ones(1, np.float32)
        for axis in (0, 1):
            overlap = overlap * _shared_length(
                placed.along(axis), shapes[axis], stride[1 - axis], config, targets
            )
        levels.append(overlap / (areas - overlap))
    return np.stack(levels).astype(np.float32)


def _shared_length(
    extents: _Extents,
    sides: Float[np.ndarray, "s r"],
    stride: int,
    config: AnchorConfig,
    targets: TargetConfig,
) -> Float[np.ndarray, "o s r"]:
    """The length that each box shares with the nearest anchor along one axis.

    Args:
        extents: the boxes along the axis.
        sides: the lengths of the anchors along the axis.
        stride: pixels between two cells.
        config: gives the origin, which is the centre of the anchors of cell 0.
        targets: its border rules drop anchors.

    Returns:
        Pixels; 0 where the border rules leave no anchor of this length.
    """
    is_legacy = config.rounding == "legacy"
    origin = (config.base_size - 1) / 2 if is_legacy else config.center_offset * stride
    first, last = _kept_cells(extents, sides, origin, stride, targets)
    # The nearest cell is the box's centre in strides, rounded, and moved to the closest
    # cell whose anchor is kept.
    centre = (extents.low + extents.high) / 2
    cell = np.clip(np.round((centre - origin) / stride), first, last)
    distance = np.abs(centre - origin - cell * stride)
    # Two intervals share the shorter of both if one holds the other. Otherwise they
    # share half of both lengths together, less the distance of their centres.
    side = extents.high - extents.low
    shared = np.minimum(np.minimum(side, sides), (side + sides) / 2 - distance)
    return np.where(first <= last, np.maximum(shared, 0.0), 0.0).astype(np.float32)


def _kept_cells(
    extents: _Extents,
    sides: Float[np.ndarray, "s r"],
    origin: float,
    stride: int,
    targets: TargetConfig,
) -> tuple[Float[np.ndarray, "o s r"], Float[np.ndarray, "o s r"]]:
    """The first and the last cell whose anchor the border rules keep.

    The last is below the first where no anchor of this length fits into the image.
    """
    # An anchor may reach this far beyond the image, or any distance without a rule that
    # drops it before matching.
    border = None if targets.border_after_matching else targets.allowed_border
    reach = np.inf if border is None else border
    # The centre of an anchor is `origin + cell * stride`, with half of its length on
    # either side.
    first = np.maximum(0.0, np.ceil((sides / 2 - reach - origin) / stride))
    last = np.floor((extents.image + reach - sides / 2 - origin) / stride)
    # The feature map ends with the padding, or for these rules with the image.
    extent = extents.image if targets.ignore_padding else extents.padded
    return first, np.minimum(np.ceil(extent / stride) - 1.0, last)
