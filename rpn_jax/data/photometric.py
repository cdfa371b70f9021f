"""Random changes of the colours of an image, with the formulas of Pillow.

This is `RandomPhotometricDistort` of torchvision, after SSD: brightness, contrast,
saturation and hue change with the same probability each, and contrast comes first or
last. Channels are exchanged at the end. torchvision changes images of Pillow by the
same functions of Pillow.
"""

import numpy as np
from PIL import Image, ImageEnhance

from .augment_config import PhotometricConfig


def distort_colors(
    image: Image.Image,
    config: PhotometricConfig,
    rng: np.random.Generator,
) -> Image.Image:
    """Changes the colours of an image at random.

    Args:
        image: an RGB image, which is not changed.
        config: the probability and the ranges.
        rng: source of randomness. The same numbers are drawn, whatever is changed.
    """
    is_changed = rng.random(5) < config.probability
    contrast_is_first = rng.random() < 0.5
    ranges = (config.brightness, config.contrast, config.saturation, config.hue)
    brightness, contrast, saturation, hue = (rng.uniform(*limits) for limits in ranges)
    order = rng.permutation(3).tolist()

    if is_changed[0]:
        image = ImageEnhance.Brightness(image).enhance(brightness)
    if is_changed[1] and contrast_is_first:
        image = ImageEnhance.Contrast(image).enhance(contrast)
    if is_changed[2]:
        image = ImageEnhance.Color(image).enhance(saturation)
    if is_changed[3]:
        image = _with_turned_hue(image, hue)
    if is_changed[1] and not contrast_is_first:
        image = ImageEnhance.Contrast(image).enhance(contrast)
    if is_changed[4] and config.exchange_channels:
        channels = image.split()
        image = Image.merge("RGB", [channels[number] for number in order])
    return image


def _with_turned_hue(image: Image.Image, turn: float) -> Image.Image:
    """Turns the hue by a share of the colour circle, which Pillow divides by 256."""
    hue, saturation, value = image.convert("HSV").split()
    # Hues wrap around, as unsigned bytes do.
    turned = np.asarray(hue) + np.uint8(round(turn * 255) % 256)
    channels = (Image.fromarray(turned), saturation, value)
    return Image.merge("HSV", channels).convert("RGB")
