"""Pictures whose pixels say which box they belong to, and to which place in it."""

import numpy as np
from PIL import Image

from rpn_jax.data import OpenedImage
from rpn_jax.data.collage import Labels, Picture

FIRST_MARK, STEP = 90, 6  # red of the first box; the background has red 0
_CELLS = 8  # a box is divided into this many cells along each axis


def picture_of(pixels, labels):
    """A picture from an array `[h, w, 3]`."""
    return Picture(OpenedImage(Image.fromarray(pixels), pixels.shape[:2]), labels)


class Marked:
    """Makes pictures, of which no two have a box with the same mark.

    Red is the mark of a box, which is also its category. Green and blue grow from 0 to
    255 along its width and height. The last box of a picture is an ignored region.
    """

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.number = 0
        self.is_ignored = {}

    def picture(self, _=None):
        height, width = self.rng.integers(150, 220, 2)
        pixels = np.zeros((height, width, 3), np.uint8)
        boxes, categories = [], []
        # A box per quarter, so that boxes do not overlap.
        for row, column in [(0, 0), (0, 1), (1, 0), (1, 1)][: self.rng.integers(2, 5)]:
            side = self.rng.integers(36, 70, 2)
            start = np.array([column * width // 2, row * height // 2]) + 3
            x0, y0 = start
            x1, y1 = x1y1 = start + side
            mark = FIRST_MARK + STEP * self.number
            assert mark < 250
            self.number += 1
            pixels[y0:y1, x0:x1, 0] = mark
            pixels[y0:y1, x0:x1, 1] = np.linspace(0, 255, side[0])
            pixels[y0:y1, x0:x1, 2] = np.linspace(0, 255, side[1])[:, None]
            boxes.append([*start, *x1y1])
            categories.append(mark)
        is_ignored = np.arange(len(boxes)) == len(boxes) - 1
        self.is_ignored |= dict(zip(categories, is_ignored.tolist(), strict=True))
        labels = Labels(np.array(boxes, np.float32), is_ignored, np.array(categories))
        return picture_of(pixels, labels)


def look_for(image, mark):
    """The bounding box of a mark's pixels, and the share of its box that they show.

    Resizing blends colours at edges, so that a pixel counts only if its neighbours have
    the same mark. The bounding box is widened for that.
    """
    same = np.abs(image[..., 0].astype(int) - mark) <= 1
    inner = np.pad(same, 1)
    for axis in (0, 1):
        inner = inner & np.roll(inner, 1, axis) & np.roll(inner, -1, axis)
    rows, columns = np.nonzero(inner[1:-1, 1:-1])
    if not len(rows):
        return None, 0.0
    box = [columns.min() - 1, rows.min() - 1, columns.max() + 2, rows.max() + 2]
    cells = image[rows, columns, 1:].astype(int) * _CELLS // 256
    return np.array(box), len(np.unique(cells, axis=0)) / _CELLS**2
