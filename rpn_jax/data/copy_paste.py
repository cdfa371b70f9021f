"""Objects of one picture, pasted with their boxes into another.

The idea is that of "Simple Copy-Paste is a Strong Data Augmentation Method for Instance
Segmentation" by Ghiasi et al. (https://arxiv.org/abs/2012.07177). Here the rectangles
of boxes are pasted, because few data sets have masks.

* As in Ultralytics' YOLOv5 (https://github.com/ultralytics/yolov5), a pasted object may
  hide at most 30 percent of any object.
* Nothing is pasted on an ignored region, where it would be ignored as well.
* Boxes of other objects in the rectangle are pasted with it, by the rule of
  `collage.py`. An object that others cover is not pasted, because they would be.
"""

import numpy as np
from jaxtyping import Float

from .collage import Collage, Labels, Part, Picture, Rect, carry
from .pipeline_config import PipelineConfig, resizing_factors
from .visible import cover_shares

_TRIALS = 10  # places that are tried per object, before it is not pasted


def paste_objects(
    collage: Collage,
    picture: Picture,
    config: PipelineConfig,
    rng: np.random.Generator,
) -> Collage:
    """Pastes random objects of a picture at random places in a window.

    Args:
        collage: the pictures that are there.
        picture: the picture with the objects.
        config: the size that pictures have alone, and the settings of pasting.
        rng: source of randomness.

    Returns:
        The collage with up to `max_objects` more parts. An object for which no place is
        found is not pasted.
    """
    settings = config.copy_paste
    candidates = _free_objects(picture.labels, settings.max_hidden)
    number = min(int(rng.integers(1, settings.max_objects + 1)), len(candidates))
    # An object is as large as in its own picture after resizing, times a random factor.
    sizes = np.array([picture.size, collage.size])
    own, there = resizing_factors(sizes, config)[:, 0]
    for box in rng.permutation(candidates)[:number]:
        factor = rng.uniform(*settings.scale) * own / there
        starts = rng.random((_TRIALS, 2))
        place = _free_place(collage, (box[2:] - box[:2]) * factor, starts, config)
        if place is not None:
            parts = (*collage.parts, Part(picture, box, place))
            collage = collage._replace(parts=parts)
    return collage


def _free_objects(labels: Labels, max_hidden: float) -> Float[np.ndarray, "n 4"]:
    """The boxes of objects that no other box covers too much of."""
    boxes = labels.boxes.astype(np.float64)
    is_free = ~labels.is_ignored & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    for number, cover in enumerate(boxes):
        others = np.arange(len(boxes)) != number
        is_free &= ~(others & (cover_shares(boxes, cover) > max_hidden))
    return boxes[is_free]


def _free_place(
    collage: Collage,
    sides: Float[np.ndarray, "2"],
    starts: Float[np.ndarray, "n 2"],
    config: PipelineConfig,
) -> Rect | None:
    """The first of some places in the window that hides little, or None.

    Args:
        collage: the pictures that are there.
        sides: width and height of the object. It is made smaller to fit in the window.
        starts: the places, from 0 at the left or top to 1 at the right or bottom.
        config: gives `max_hidden`.
    """
    height, width = collage.size.tolist()
    room = np.array([width, height])
    sides = sides * min(1.0, (room / sides).min())
    labels = carry(collage, (height, width), config.min_visibility).labels
    boxes = labels.boxes.astype(np.float64)
    for start in starts * (room - sides):
        place = np.concatenate([start, start + sides])
        hidden = cover_shares(boxes, place)
        allowed = np.where(labels.is_ignored, 0.0, config.copy_paste.max_hidden)
        if (hidden <= allowed).all():
            return place + np.tile(collage.window[:2], 2)
    return None
