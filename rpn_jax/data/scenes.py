"""A data set without files: pictures drawn by program, and their boxes."""

import functools

import numpy as np

from .drawing import MAX_SHAPES, MIN_SIDE, Scene, draw_scene
from .image_source import ENDLESS, Decoded, GroundTruth, ImageSource
from .problems import Problems


class Scenes(ImageSource):
    """Textured shapes on clutter, the same on every machine; some are empty.

    A picture is a function of the seed and its row alone.

    Args:
        seed: names the series of pictures; another seed gives other pictures.
        num_images: how many there are; None has no end.
        size: `(height, width)` of every picture.

    Raises:
        ValueError: the seed is negative, or a number or size is too small.
    """

    def __init__(
        self,
        seed: int = 0,
        num_images: int | None = None,
        size: tuple[int, int] = (240, 320),
    ) -> None:
        self._seed, self._size = seed, size
        self._length = ENDLESS if num_images is None else num_images
        if seed < 0 or self._length < 1 or min(size) < 2 * MIN_SIDE:
            raise ValueError(
                "Scenes needs a seed of at least 0, a picture, and sides of at least "
                f"{2 * MIN_SIDE} pixels, got {seed}, {num_images} and {size}."
            )
        self.problems = Problems()
        # One row in memory, repeated.
        self.image_sizes = np.broadcast_to(np.array(size), (self._length, 2))
        self.num_boxes = np.broadcast_to(np.array(MAX_SHAPES), (self._length,))
        # A picture is asked for its boxes and its pixels, one after the other.
        self._scene = functools.lru_cache(maxsize=32)(self._draw)

    def __len__(self) -> int:
        return self._length

    def truth(self, row: int) -> GroundTruth:
        """The boxes of a picture, of which none is a crowd."""
        _, boxes, areas = self._scene(row)
        is_crowd = np.zeros(len(boxes), bool)
        return GroundTruth(row, self._size, boxes, is_crowd, areas, f"scene_{row:06d}")

    def decode(self, row: int) -> Decoded:
        """The pixels of a picture, which are always complete."""
        return Decoded(self._scene(row).pixels, truncated=False)

    def _draw(self, row: int) -> Scene:
        return draw_scene(np.random.default_rng((self._seed, row)), self._size)
