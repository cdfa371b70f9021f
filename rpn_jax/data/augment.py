"""Resizes, flips and pads one image with its boxes, for a place in a batch."""

import dataclasses
import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image

from ..core._arguments import lenient_settings


@dataclasses.dataclass(frozen=True, kw_only=True)
class PipelineConfig:
    """Sizes and augmentation of the images in a batch.

    Attributes:
        min_side: length in pixels that the shorter side of an image is resized to. The
            image becomes smaller where `max_side` demands it.
        max_side: largest length in pixels of the longer side after resizing.
        scale_jitter: lowest and highest factor by which the resized size varies. Each
            training image draws one factor at random.
        flip_probability: probability that a training image is mirrored left to right.
        size_multiple: the height and width of a batch are multiples of this number. Use
            the largest stride of the model, so that no cell reaches beyond the padding.
        max_boxes: number of ground-truth rows per image in a batch. None takes the
            largest number of boxes in the data, but at most 400.
        max_buckets: largest number of batch shapes. More shapes need less padding, but
            the training step compiles once per shape.
    """

    min_side: int = 600
    max_side: int = 1000
    scale_jitter: tuple[float, float] = (1.0, 1.0)
    flip_probability: float = 0.5
    size_multiple: int = 32
    max_boxes: int | None = None
    max_buckets: int = 3

    def __post_init__(self) -> None:
        if not 1 <= self.min_side <= self.max_side:
            raise ValueError(
                "PipelineConfig needs 1 <= min_side <= max_side, got "
                f"{self.min_side} and {self.max_side}."
            )
        low, high = self.scale_jitter
        if not (0.0 < low <= high < math.inf and 0.0 <= self.flip_probability <= 1.0):
            raise ValueError(
                "PipelineConfig needs 0 < low <= high in scale_jitter and a "
                f"flip_probability in [0, 1], got {self.scale_jitter} and "
                f"{self.flip_probability}."
            )
        least = 1 if self.max_boxes is None else self.max_boxes
        if min(self.size_multiple, self.max_buckets, least) < 1:
            raise ValueError(
                "PipelineConfig needs size_multiple, max_buckets and max_boxes of at "
                f"least 1, got {self.size_multiple}, {self.max_buckets} and "
                f"{self.max_boxes}."
            )

    def for_evaluation(self) -> "PipelineConfig":
        """The same sizes, without augmentation."""
        return dataclasses.replace(self, scale_jitter=(1.0, 1.0), flip_probability=0.0)


lenient_settings(PipelineConfig)


class Augmentation(NamedTuple):
    """The random choices for one image.

    Attributes:
        scale: factor of the resized size, in the range `PipelineConfig.scale_jitter`.
        flip: whether the image is mirrored left to right.
    """

    scale: float
    flip: bool


UNCHANGED = Augmentation(scale=1.0, flip=False)


class Augmented(NamedTuple):
    """An image and its boxes, resized.

    Attributes:
        image: `[h, w, 3]` padded with zeros at the bottom and at the right.
        size: `[2]` `(height, width)` without the padding.
        boxes: `[m, 4]` in pixels of `image`.
        scale: `[2]` vertical and horizontal factor from the original to `size`.
    """

    image: UInt8[np.ndarray, "h w 3"]
    size: Float[np.ndarray, "2"]
    boxes: Float[np.ndarray, "m 4"]
    scale: Float[np.ndarray, "2"]


def draw_augmentation(rng: np.random.Generator, config: PipelineConfig) -> Augmentation:
    """Draws the random choices for one image."""
    scale = rng.uniform(*config.scale_jitter)
    return Augmentation(scale, bool(rng.random() < config.flip_probability))


def resized_sizes(
    sizes: Int[np.ndarray, "n 2"], config: PipelineConfig, scale: float
) -> Int[np.ndarray, "n 2"]:
    """The sizes in whole pixels that images are resized to, with the aspect kept.

    Args:
        sizes: `(height, width)` of the originals.
        config: gives `min_side` and `max_side`.
        scale: factor of the resized height and width.

    Returns:
        `(height, width)`, each at least 1. A larger `scale` gives no smaller side.
    """
    factor = np.minimum(
        config.min_side / sizes.min(axis=1, keepdims=True),
        config.max_side / sizes.max(axis=1, keepdims=True),
    )
    return np.maximum(np.rint(sizes * (factor * scale)), 1).astype(np.int64)


def augment(
    pixels: UInt8[np.ndarray, "_ _ 3"],
    boxes: Float[np.ndarray, "m 4"],
    shape: tuple[int, int],
    config: PipelineConfig,
    augmentation: Augmentation,
) -> Augmented:
    """Resizes an image with its boxes, flips them, and pads the image.

    Pillow resizes with its bilinear filter. When it makes an image smaller, the filter
    averages over all original pixels that a new pixel covers.

    Args:
        pixels: the original image.
        boxes: boxes in pixels of the original.
        shape: `(height, width)` of the padded result.
        config: gives `min_side` and `max_side`.
        augmentation: the random choices for this image.

    Returns:
        The image with its boxes. A box that becomes narrower than a pixel is kept.
    """
    # Rounding to whole pixels changes the aspect a little, so height and width have a
    # factor each.
    original = np.array(pixels.shape[:2])
    height, width = resized_sizes(original[None], config, augmentation.scale)[0]
    scale = np.array([height, width]) / original
    if (height, width) != pixels.shape[:2]:
        resized = Image.fromarray(pixels).resize(
            (int(width), int(height)), Image.Resampling.BILINEAR, reducing_gap=2.0
        )
        pixels = np.asarray(resized)
    # A flip exchanges the left and the right edge, so that `x0` stays below `x1`.
    x0, y0, x1, y1 = np.float64(boxes).T * np.tile(scale[::-1], 2)[:, None]
    if augmentation.flip:
        pixels = pixels[:, ::-1]
        x0, x1 = width - x1, width - x0
    # The padding lies below and to the right, so that it moves no box.
    image = np.zeros((*shape, 3), np.uint8)
    image[:height, :width] = pixels
    return Augmented(
        image=image,
        size=np.array([height, width], np.float32),
        boxes=np.stack([x0, y0, x1, y1], axis=-1).astype(np.float32),
        scale=scale.astype(np.float32),
    )
