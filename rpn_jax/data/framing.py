"""The zoom-out and the crop of SSD: other windows of a collage.

Both follow `RandomZoomOut` and `RandomIoUCrop` of torchvision, but for the boxes:
torchvision keeps those whose centre is in the crop, and this library has the rule of
`collage.py`. See "SSD: Single Shot MultiBox Detector" by Liu et al.
(https://arxiv.org/abs/1512.02325).
"""

import numpy as np
from jaxtyping import Float

from .augment_config import IoUCropConfig, ZoomOutConfig
from .collage import Collage, Rect
from .visible import cover_shares

_TRIALS = 40  # crops per minimum IoU, as in torchvision; SSD makes 50
# torchvision draws minima without end. This many fail only if no crop fits at all.
_MINIMA = 50


def zoom_out(
    collage: Collage, config: ZoomOutConfig, rng: np.random.Generator
) -> Collage:
    """Enlarges the window at random, so that the pictures become smaller in it.

    Args:
        collage: the pictures.
        config: the range of the window's sides.
        rng: source of randomness.
    """
    height, width = collage.size
    factor = rng.uniform(*config.side_range)
    new = np.array([int(width * factor), int(height * factor)])
    corner = ((new - (width, height)) * rng.random(2)).astype(np.int64)
    start = collage.window[:2] - corner
    return collage._replace(window=np.concatenate([start, start + new]))


def iou_crop(
    collage: Collage,
    objects: Float[np.ndarray, "m 4"],
    config: IoUCropConfig,
    rng: np.random.Generator,
) -> Collage:
    """Makes the window smaller at random, around objects.

    A minimum IoU is drawn first, and then up to 40 crops. The first one is used that
    holds the centre of an object and has that IoU with such an object. If none does,
    another minimum is drawn.

    Args:
        collage: the pictures.
        objects: boxes of the visible objects, in pixels of the window.
        config: the ranges of the crop.
        rng: source of randomness.

    Returns:
        The collage with another window; the same collage if there are no objects, or if
        a minimum IoU of 1 is drawn.
    """
    if not len(objects):
        return collage
    for _ in range(_MINIMA):
        least = config.min_ious[rng.integers(len(config.min_ious))]
        if least >= 1.0:
            return collage
        for _ in range(_TRIALS):
            crop = _draw_crop(collage, config, rng)
            if crop is not None and _fits(crop, objects, least):
                start = np.tile(collage.window[:2], 2)
                return collage._replace(window=start + crop)
    return collage


def _draw_crop(
    collage: Collage, config: IoUCropConfig, rng: np.random.Generator
) -> Rect | None:
    """A rectangle in the window, or None if its aspect ratio is out of range."""
    sides = collage.size[::-1]
    new = np.maximum((sides * rng.uniform(*config.scale, 2)).astype(np.int64), 1)
    start = ((sides - new) * rng.random(2)).astype(np.int64)
    low, high = config.aspect_ratio
    if not low <= new[0] / new[1] <= high:
        return None
    return np.concatenate([start, start + new]).astype(np.float64)


def _fits(crop: Rect, objects: Float[np.ndarray, "m 4"], least: float) -> bool:
    """Whether a crop has at least this IoU with an object whose centre it holds."""
    centers = (objects[:, :2] + objects[:, 2:]) / 2
    is_inside = ((crop[:2] < centers) & (centers < crop[2:])).all(axis=1)
    areas = (objects[:, 2:] - objects[:, :2]).prod(axis=1)
    shared = cover_shares(objects, crop) * areas
    ious = shared / ((crop[2:] - crop[:2]).prod() + areas - shared)
    return bool((is_inside & (ious >= least)).any())
