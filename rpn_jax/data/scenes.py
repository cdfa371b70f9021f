"""A data set without files: synthetic images and their boxes."""

import functools

import numpy as np

from .drawing import KINDS, MAX_SHAPES, MIN_SIDE, Scene, draw_scene
from .image_source import ENDLESS, Decoded, GroundTruth, ImageSource
from .problems import Problems


class Scenes(ImageSource):
    """Synthetic images of textured shapes on clutter, the same on every machine.

    An image is a function of the seed and the row alone. Some images have no shape. The
    kinds of shapes are the categories.

    Args:
        seed: another seed gives other images.
        num_images: number of images; None makes the source endless.
        size: `(height, width)` of every image.

    Raises:
        ValueError: the seed is negative, or a number or size is too small.

    >>> scenes = Scenes(num_images=2, size=(48, 64))
    >>> len(scenes), scenes.pixels(0).shape
    (2, (48, 64, 3))
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
                "Scenes needs a seed of at least 0, an image, and sides of at least "
                f"{2 * MIN_SIDE} pixels, got {seed}, {num_images} and {size}."
            )
        self.problems, self.categories = Problems(), dict(KINDS)
        # All images have one size, so a broadcast array holds it once.
        self.image_sizes = np.broadcast_to(np.array(size), (self._length, 2))
        self.num_boxes = np.broadcast_to(np.array(MAX_SHAPES), (self._length,))
        # The boxes and the pixels of an image are read one after the other, by a few
        # threads at a time. The cache saves drawing the image twice.
        self._scene = functools.lru_cache(maxsize=32)(self._draw)

    def __reduce__(self) -> tuple[type["Scenes"], tuple[int, int, tuple[int, int]]]:
        """A copy in another process draws its scenes anew; a cache cannot be sent."""
        return Scenes, (self._seed, self._length, self._size)

    def __len__(self) -> int:
        return self._length

    def truth(self, row: int) -> GroundTruth:
        """The boxes of an image, none of which is an ignored region."""
        _, boxes, areas, kinds = self._scene(row)
        is_ignored = np.zeros(len(boxes), bool)
        name = f"scene_{row:06d}"
        return GroundTruth(row, self._size, boxes, is_ignored, areas, name, kinds)

    def decode(self, row: int) -> Decoded:
        """The pixels of an image, which are always complete."""
        return Decoded(self._scene(row).pixels, truncated=False)

    def _draw(self, row: int) -> Scene:
        return draw_scene(np.random.default_rng((self._seed, row)), self._size)
