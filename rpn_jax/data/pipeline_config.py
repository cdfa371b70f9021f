"""The settings of the pipeline, and the sizes that they give to images."""

import dataclasses
import math

import numpy as np
from jaxtyping import Float, Int

from ..core._arguments import lenient_settings
from ..core._checks import require
from .augment_config import (
    CopyPasteConfig,
    IoUCropConfig,
    MosaicConfig,
    PhotometricConfig,
    ZoomOutConfig,
)
from .image_source import ImageLibrary


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
            largest number of boxes that an image of the data, or a mosaic of four, can
            have, but at most 400.
        max_buckets: largest number of batch shapes. More shapes need less padding, but
            the training step compiles once per shape.
        min_visibility: share of an object that crops, mosaics and pasted objects must
            leave visible. Below it, the visible part is an ignored region.
        threads: number of images that each process reads at a time. None shares the
            cores that the process may use with its workers, and takes at most 16. The
            images do not depend on it.
        workers: number of processes that read the training images; 0 reads them in
            threads of the training process. Threads suffice unless Python itself is
            the limit. The images do not depend on it. A worker takes seconds to start,
            so evaluation has none.
        reduced_decoding: whether a JPEG that becomes smaller by a factor of 2 or more
            is decoded at a half, a quarter or an eighth of its scale, and resized from
            there. This is faster, and changes pixels slightly. Mosaics, crops, larger
            canvases and pasted objects use the original.
        image_library: what decodes and resizes images. `"opencv"` is faster, and needs
            the package `opencv-python-headless` or `opencv-python`. It decodes JPEGs to
            the same pixels, and resizes them to others: they differ by 1 of 255 where
            an image becomes larger, and by more where it becomes smaller, because its
            filter is narrower. Other files are decoded by Pillow. Mosaics, crops,
            larger canvases, pasted objects and colours are always Pillow's.
        photometric: random changes of the colours of training images.
        zoom_out: training images on a larger canvas.
        iou_crop: random crops of training images.
        mosaic: mosaics of four training images.
        copy_paste: objects of another image, pasted into training images.

    >>> PipelineConfig(scale_jitter=(0.8, 1.25)).for_evaluation().scale_jitter
    (1.0, 1.0)
    """

    min_side: int = 600
    max_side: int = 1000
    scale_jitter: tuple[float, float] = (1.0, 1.0)
    flip_probability: float = 0.5
    size_multiple: int = 32
    max_boxes: int | None = None
    max_buckets: int = 3
    min_visibility: float = 0.25
    threads: int | None = None
    workers: int = 0
    reduced_decoding: bool = True
    image_library: ImageLibrary = "pillow"
    photometric: PhotometricConfig = PhotometricConfig()
    zoom_out: ZoomOutConfig = ZoomOutConfig()
    iou_crop: IoUCropConfig = IoUCropConfig()
    mosaic: MosaicConfig = MosaicConfig()
    copy_paste: CopyPasteConfig = CopyPasteConfig()

    def __post_init__(self) -> None:
        require(
            1 <= self.min_side <= self.max_side,
            "PipelineConfig needs 1 <= min_side <= max_side, got "
            f"{self.min_side} and {self.max_side}.",
        )
        low, high = self.scale_jitter
        require(
            0.0 < low <= high < math.inf and 0.0 <= self.flip_probability <= 1.0,
            "PipelineConfig needs 0 < low <= high in scale_jitter and a "
            f"flip_probability in [0, 1], got {self.scale_jitter} and "
            f"{self.flip_probability}.",
        )
        least = 1 if self.max_boxes is None else self.max_boxes
        require(
            min(self.size_multiple, self.max_buckets, least) >= 1,
            "PipelineConfig needs size_multiple, max_buckets and max_boxes of at "
            f"least 1, got {self.size_multiple}, {self.max_buckets} and "
            f"{self.max_boxes}.",
        )
        require(
            0.0 <= self.min_visibility <= 1.0,
            "PipelineConfig needs a min_visibility in [0, 1], got "
            f"{self.min_visibility}.",
        )
        require(
            self.workers >= 0 and (self.threads is None or self.threads >= 0),
            "PipelineConfig needs threads and workers of at least 0, got "
            f"{self.threads} and {self.workers}.",
        )

    @property
    def hides_objects(self) -> bool:
        """Whether augmentation can hide a part of an object."""
        return any(
            part.probability > 0.0
            for part in (self.iou_crop, self.mosaic, self.copy_paste)
        )

    def for_evaluation(self) -> "PipelineConfig":
        """The same sizes, without augmentation."""
        return dataclasses.replace(
            self,
            scale_jitter=(1.0, 1.0),
            flip_probability=0.0,
            photometric=PhotometricConfig(),
            zoom_out=ZoomOutConfig(),
            iou_crop=IoUCropConfig(),
            mosaic=MosaicConfig(),
            copy_paste=CopyPasteConfig(),
        )


lenient_settings(PipelineConfig)


def resizing_factors(
    sizes: Int[np.ndarray, "n 2"], config: PipelineConfig
) -> Float[np.ndarray, "n 1"]:
    """The factors that bring images to `min_side`, or to `max_side` if it is reached.

    Args:
        sizes: `(height, width)` of the originals.
        config: gives `min_side` and `max_side`.
    """
    return np.minimum(
        config.min_side / sizes.min(axis=1, keepdims=True),
        config.max_side / sizes.max(axis=1, keepdims=True),
    )


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
    factors = resizing_factors(sizes, config)
    return np.maximum(np.rint(sizes * (factors * scale)), 1).astype(np.int64)
