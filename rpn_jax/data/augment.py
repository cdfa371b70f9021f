"""Composes, resizes and flips one image with its boxes, for a place in a batch.

The order is: mosaic, pasted objects, zoom-out, crop, resizing, colours, flip. One
library holds the image from the file to the end, so that it is copied once, into the
batch.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from PIL import Image

from . import opencv
from .collage import Collage, Labels, Picture, carry, paint, whole
from .copy_paste import paste_objects
from .framing import iou_crop, zoom_out
from .image_source import Pixels, as_pillow
from .mosaic import lay_mosaic
from .photometric import distort_colors
from .pipeline_config import PipelineConfig, resized_sizes

_IMAGE_STREAM = 2  # keeps these random numbers apart from those that shuffle epochs
# Each further augmentation has random numbers of its own. So none of them changes what
# the others draw.
_STREAMS = {
    "photometric": 3,
    "zoom_out": 4,
    "iou_crop": 5,
    "mosaic": 6,
    "copy_paste": 7,
}

# Reads a random image of the data; the generator decides which.
ReadOther = Callable[[np.random.Generator], Picture]


class Augmentation(NamedTuple):
    """The random choices for one image.

    Attributes:
        scale: factor of the resized size, in the range `PipelineConfig.scale_jitter`.
        flip: whether the image is mirrored left to right.
        seed: numbers that decide all other choices; None makes no other change.
    """

    scale: float
    flip: bool
    seed: tuple[int, ...] | None = None

    def stream(self, name: str, probability: float) -> np.random.Generator | None:
        """The random numbers of one augmentation, or None if it changes nothing.

        Args:
            name: name of the augmentation.
            probability: probability that it changes the image.
        """
        if self.seed is None or probability <= 0.0:
            return None
        rng = np.random.default_rng((_STREAMS[name], *self.seed))
        return rng if rng.random() < probability else None

    def composes(self, config: PipelineConfig) -> bool:
        """Whether the image becomes a part of a mosaic, crop or larger canvas.

        Args:
            config: the probabilities.
        """
        parts = {
            "mosaic": config.mosaic.probability,
            "copy_paste": config.copy_paste.probability,
            "zoom_out": config.zoom_out.probability,
            "iou_crop": config.iou_crop.probability,
        }
        return any(self.stream(*part) is not None for part in parts.items())


UNCHANGED = Augmentation(scale=1.0, flip=False)


class Augmented(NamedTuple):
    """An image and its boxes, resized.

    Attributes:
        image: RGB without padding, an array if OpenCV resized it.
        size: `[2]` `(height, width)` of the image.
        labels: the boxes in pixels of `image`.
        scale: `[2]` vertical and horizontal factor from the original to `size`.
        num_cut: number of objects that became ignored regions.
        num_hidden: number of boxes that were left out, because nothing is visible.
    """

    image: Pixels
    size: Float[np.ndarray, "2"]
    labels: Labels
    scale: Float[np.ndarray, "2"]
    num_cut: int
    num_hidden: int


def draw_augmentation(seed: tuple[int, ...], config: PipelineConfig) -> Augmentation:
    """Draws the random choices for one image.

    Args:
        seed: numbers that stand for the run, the step and the place in the batch.
        config: the ranges and probabilities.
    """
    rng = np.random.default_rng((_IMAGE_STREAM, *seed))
    scale = rng.uniform(*config.scale_jitter)
    return Augmentation(scale, bool(rng.random() < config.flip_probability), seed)


def compose(
    picture: Picture,
    read_other: ReadOther,
    config: PipelineConfig,
    augmentation: Augmentation,
) -> Collage:
    """Makes a mosaic, pastes objects, zooms out and crops, each if its turn comes.

    Args:
        picture: the original image.
        read_other: reads another image of the data.
        config: the probabilities and settings.
        augmentation: the random choices for this image.
    """
    collage = whole(picture)
    mosaic, paste = config.mosaic, config.copy_paste
    if rng := augmentation.stream("mosaic", mosaic.probability):
        others = [read_other(rng) for _ in range(3)]
        collage = lay_mosaic([picture, *others], config, rng)
    if rng := augmentation.stream("copy_paste", paste.probability):
        collage = paste_objects(collage, read_other(rng), config, rng)
    if rng := augmentation.stream("zoom_out", config.zoom_out.probability):
        collage = zoom_out(collage, config.zoom_out, rng)
    if rng := augmentation.stream("iou_crop", config.iou_crop.probability):
        height, width = collage.size.tolist()
        labels = carry(collage, (height, width), config.min_visibility).labels
        objects = labels.boxes[~labels.is_ignored]
        collage = iou_crop(collage, objects, config.iou_crop, rng)
    return collage


def augment(
    collage: Collage,
    shape: tuple[int, int],
    config: PipelineConfig,
    augmentation: Augmentation,
) -> Augmented:
    """Resizes an image with its boxes, changes colours, and flips the image.

    Args:
        collage: the image, from `compose`.
        shape: `(height, width)` of the batch. An image that does not fit becomes
            smaller; only crops, canvases and mosaics have such a shape.
        config: gives the sizes, and the settings of colours.
        augmentation: the random choices for this image.

    Returns:
        The image with its boxes. A box that becomes narrower than a pixel is kept.
    """
    # Rounding to whole pixels changes the aspect a little, so height and width have a
    # factor each.
    original = collage.size
    height, width = target_size(original, shape, config, augmentation)
    image = paint(collage, (height, width))
    carried = carry(collage, (height, width), config.min_visibility)
    # Probability 1 here: each change of colours has its own chance.
    is_on = float(config.photometric.probability > 0.0)
    if rng := augmentation.stream("photometric", is_on):
        image = distort_colors(as_pillow(image), config.photometric, rng)
    # A flip exchanges the left and the right edge, so that `x0` stays below `x1`.
    x0, y0, x1, y1 = carried.labels.boxes.T
    if augmentation.flip:
        image = _mirror(image)
        x0, x1 = width - x1, width - x0
    boxes = np.stack([x0, y0, x1, y1], axis=-1).astype(np.float32)
    return Augmented(
        image=image,
        size=np.array([height, width], np.float32),
        labels=carried.labels._replace(boxes=boxes),
        scale=(np.array([height, width]) / original).astype(np.float32),
        num_cut=carried.num_cut,
        num_hidden=carried.num_hidden,
    )


def _mirror(image: Pixels) -> Pixels:
    if isinstance(image, np.ndarray):
        return opencv.mirror(image)
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def target_size(
    size: Int[np.ndarray, "2"],
    shape: tuple[int, int],
    config: PipelineConfig,
    augmentation: Augmentation,
) -> tuple[int, int]:
    """The `(height, width)` that an image is resized to.

    Args:
        size: `(height, width)` of the original.
        shape: `(height, width)` of the batch, which holds the result.
        config: gives the sizes.
        augmentation: the random choices for the image.
    """
    size = resized_sizes(size[None], config, augmentation.scale)[0]
    factor = min(1.0, (np.array(shape) / size).min())
    height, width = np.clip(np.rint(size * factor), 1, shape).astype(np.int64).tolist()
    return height, width
