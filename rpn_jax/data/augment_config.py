"""The settings of the augmentations of `PipelineConfig`, one class per augmentation.

Each has the probability that it changes a training image, which is 0 by default.
"""

import dataclasses
import math

from ..core._arguments import lenient_settings
from ..core._checks import require


@dataclasses.dataclass(frozen=True, kw_only=True)
class PhotometricConfig:
    """Settings of the changes of colours, described in `photometric.py`.

    The defaults are those of SSD in the reference scripts of torchvision.

    Attributes:
        probability: probability of each of the four changes, and of exchanged channels.
        brightness: lowest and highest factor of the brightness.
        contrast: lowest and highest factor of the contrast.
        saturation: lowest and highest factor of the saturation.
        hue: lowest and highest turn of the hue, as a share of the colour circle.
        exchange_channels: whether red, green and blue may change places.

    >>> from rpn_jax.data import PipelineConfig
    >>> often = PhotometricConfig(probability=0.5, exchange_channels=False)
    >>> PipelineConfig(photometric=often).photometric.hue
    (-0.05, 0.05)
    """

    probability: float = 0.0
    brightness: tuple[float, float] = (0.875, 1.125)
    contrast: tuple[float, float] = (0.5, 1.5)
    saturation: tuple[float, float] = (0.5, 1.5)
    hue: tuple[float, float] = (-0.05, 0.05)
    exchange_channels: bool = True

    def __post_init__(self) -> None:
        _check_probability("PhotometricConfig", self.probability)
        for name in ("brightness", "contrast", "saturation"):
            _check_range("PhotometricConfig", name, getattr(self, name), 0.0, math.inf)
        _check_range("PhotometricConfig", "hue", self.hue, -0.5, 0.5)


lenient_settings(PhotometricConfig)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ZoomOutConfig:
    """Settings of the enlarged canvas of SSD, described in `framing.py`.

    Attributes:
        probability: probability that an image is placed on a larger canvas.
        side_range: lowest and highest length of the canvas's sides, as a multiple of
            the image's.

    >>> from rpn_jax.data import PipelineConfig
    >>> PipelineConfig(zoom_out=ZoomOutConfig(probability=0.5)).zoom_out.side_range
    (1.0, 4.0)
    """

    probability: float = 0.0
    side_range: tuple[float, float] = (1.0, 4.0)

    def __post_init__(self) -> None:
        _check_probability("ZoomOutConfig", self.probability)
        _check_range("ZoomOutConfig", "side_range", self.side_range, 1.0, math.inf)


lenient_settings(ZoomOutConfig)


@dataclasses.dataclass(frozen=True, kw_only=True)
class IoUCropConfig:
    """Settings of the crops of SSD, described in `framing.py`.

    Attributes:
        probability: probability that a crop is tried.
        scale: lowest and highest length of the crop's sides, as a share of the image's.
        aspect_ratio: lowest and highest width of the crop over its height.
        min_ious: one of these is drawn, and an object must have at least this IoU with
            the crop. A value of 1 keeps the whole image.

    >>> from rpn_jax.data import PipelineConfig
    >>> PipelineConfig(iou_crop=IoUCropConfig(probability=0.5)).iou_crop.scale
    (0.3, 1.0)
    """

    probability: float = 0.0
    scale: tuple[float, float] = (0.3, 1.0)
    aspect_ratio: tuple[float, float] = (0.5, 2.0)
    min_ious: tuple[float, ...] = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)

    def __post_init__(self) -> None:
        _check_probability("IoUCropConfig", self.probability)
        _check_range("IoUCropConfig", "scale", self.scale, 0.01, 1.0)
        _check_range("IoUCropConfig", "aspect_ratio", self.aspect_ratio, 0.01, 100.0)
        require(
            len(self.min_ious) > 0 and all(0.0 <= x <= 1.0 for x in self.min_ious),
            f"IoUCropConfig needs min_ious from 0 to 1, got {self.min_ious}.",
        )


lenient_settings(IoUCropConfig)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MosaicConfig:
    """Settings of the mosaic of four images, described in `mosaic.py`.

    Attributes:
        probability: probability that an image becomes a mosaic with three others.
        center: lowest and highest place of the point where the four images meet, as a
            share of the height and of the width.
        scale: lowest and highest factor of the size that the images have alone.

    >>> from rpn_jax.data import PipelineConfig
    >>> PipelineConfig(mosaic=MosaicConfig(probability=0.3)).mosaic.scale
    (0.5, 1.0)
    """

    probability: float = 0.0
    center: tuple[float, float] = (0.25, 0.75)
    scale: tuple[float, float] = (0.5, 1.0)

    def __post_init__(self) -> None:
        _check_probability("MosaicConfig", self.probability)
        _check_range("MosaicConfig", "center", self.center, 0.0, 1.0)
        _check_range("MosaicConfig", "scale", self.scale, 0.01, 100.0)


lenient_settings(MosaicConfig)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CopyPasteConfig:
    """Settings of pasted boxes, described in `copy_paste.py`.

    Attributes:
        probability: probability that objects of another image are pasted.
        max_objects: largest number of objects that are pasted.
        scale: lowest and highest factor of the size that the objects have in their own
            image.
        max_hidden: largest share of a box that a pasted object may hide. An object of
            which other boxes cover a larger share is not pasted.

    >>> from rpn_jax.data import PipelineConfig
    >>> sizes = PipelineConfig(copy_paste=CopyPasteConfig(probability=0.3))
    >>> sizes.copy_paste.max_objects
    3
    """

    probability: float = 0.0
    max_objects: int = 3
    scale: tuple[float, float] = (0.5, 1.5)
    max_hidden: float = 0.3

    def __post_init__(self) -> None:
        _check_probability("CopyPasteConfig", self.probability)
        _check_range("CopyPasteConfig", "scale", self.scale, 0.01, 100.0)
        require(
            self.max_objects >= 1 and 0.0 <= self.max_hidden <= 1.0,
            "CopyPasteConfig needs max_objects of at least 1 and max_hidden in [0, 1], "
            f"got {self.max_objects} and {self.max_hidden}.",
        )


lenient_settings(CopyPasteConfig)


def _check_probability(who: str, value: float) -> None:
    require(0.0 <= value <= 1.0, f"{who} needs a probability in [0, 1], got {value}.")


def _check_range(
    who: str, name: str, value: tuple[float, float], least: float, most: float
) -> None:
    low, high = value
    require(
        least <= low <= high <= most and math.isfinite(high),
        f"{who} needs {name} with {least:g} <= low <= high <= {most:g}, got {value}.",
    )
