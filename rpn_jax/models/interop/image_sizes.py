"""The size that every system gives to an image, in the arithmetic of its own code.

The systems agree on the idea: the shorter side becomes `min_side`, unless the longer
side would exceed `max_side`. They differ in how they round, by at most one pixel, which
is enough to move proposals.
"""

import math
from collections.abc import Callable

SizeRule = Callable[[int, int, int, int], tuple[int, int]]
"""From `height, width, min_side, max_side` to the `(height, width)` of the result."""


def torchvision_size(
    height: int, width: int, min_side: int, max_side: int
) -> tuple[int, int]:
    """Cuts the decimals off, as torchvision 0.28's `_resize_image_and_masks` does.

    >>> torchvision_size(427, 640, 800, 1333)
    (800, 1199)
    """
    factor = min(min_side / min(height, width), max_side / max(height, width))
    return _at_least_one(math.floor(height * factor), math.floor(width * factor))


def detectron2_size(
    height: int, width: int, min_side: int, max_side: int
) -> tuple[int, int]:
    """Rounds half up after two steps, as detectron2's `ResizeShortestEdge` does.

    >>> detectron2_size(427, 640, 800, 1333)
    (800, 1199)
    """
    # The shorter side is set and not multiplied, so it is exact in the first step.
    size = float(min_side)
    factor = size / min(height, width)
    sides = (size, factor * width) if height < width else (factor * height, size)
    if max(sides) > max_side:
        factor = max_side / max(sides)
        sides = (sides[0] * factor, sides[1] * factor)
    return _at_least_one(int(sides[0] + 0.5), int(sides[1] + 0.5))


def mmdetection_size(
    height: int, width: int, min_side: int, max_side: int
) -> tuple[int, int]:
    """Rounds half up, as mmcv's `rescale_size` does.

    >>> mmdetection_size(427, 640, 800, 1333)
    (800, 1199)
    """
    factor = min(max_side / max(height, width), min_side / min(height, width))
    return _at_least_one(int(height * factor + 0.5), int(width * factor + 0.5))


def jwyang_size(
    height: int, width: int, min_side: int, max_side: int
) -> tuple[int, int]:
    """Rounds half to even, as `cv2.resize` with `fx` and `fy` does.

    The factor is that of `_get_image_blob` in py-faster-rcnn's `test.py` and in the
    `demo.py` of faster-rcnn.pytorch. They round the longer side before they compare it.

    >>> jwyang_size(375, 500, 600, 1000)
    (600, 800)
    """
    factor = min_side / min(height, width)
    if round(factor * max(height, width)) > max_side:
        factor = max_side / max(height, width)
    return _at_least_one(round(height * factor), round(width * factor))


def _at_least_one(height: int, width: int) -> tuple[int, int]:
    # Their code fails where a side becomes 0.
    return max(height, 1), max(width, 1)
