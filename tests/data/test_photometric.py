"""Changes of colours, against their formulas."""

import colorsys
import dataclasses

import numpy as np
import pytest
from PIL import Image

from rpn_jax.data import PhotometricConfig
from rpn_jax.data.photometric import distort_colors

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 16, 3)).astype(np.uint8)
STILL = PhotometricConfig(
    probability=1.0,
    brightness=(1, 1),
    contrast=(1, 1),
    saturation=(1, 1),
    hue=(0, 0),
    exchange_channels=False,
)


def distorted(config, seed=0):
    rng = np.random.default_rng(seed)
    return np.asarray(distort_colors(Image.fromarray(PIXELS), config, rng)).astype(int)


def grey():
    return PIXELS @ [0.299, 0.587, 0.114]


@pytest.mark.parametrize("factor", [0.5, 1.4])
def test_brightness_contrast_and_saturation_follow_their_formulas(factor):
    """A factor moves pixels away from black, from the mean grey or from their grey."""
    from_colors = {
        "brightness": np.zeros_like(grey()),
        "contrast": np.full_like(grey(), grey().mean()),
        "saturation": grey(),
    }
    for name, start in from_colors.items():
        expected = start[..., None] + factor * (PIXELS - start[..., None])
        actual = distorted(dataclasses.replace(STILL, **{name: (factor, factor)}))
        errors = np.abs(actual - np.clip(expected, 0, 255))
        assert errors.mean() < 1.5  # a turn of 0 also goes through hues of 8 bits
        assert errors.max() < 10


@pytest.mark.parametrize("turn", [-0.3, 0.1])
def test_hue_is_turned(turn):
    def turned(pixel):
        hue, saturation, value = colorsys.rgb_to_hsv(*pixel / 255)
        return colorsys.hsv_to_rgb((hue + turn) % 1.0, saturation, value)

    expected = 255 * np.apply_along_axis(turned, -1, PIXELS)
    errors = np.abs(distorted(dataclasses.replace(STILL, hue=(turn, turn))) - expected)
    assert errors.mean() < 2  # Pillow keeps hue and saturation in 8 bits
    assert errors.max() < 12


def test_channels_change_places():
    orders, config = set(), dataclasses.replace(STILL, exchange_channels=True)
    for seed in range(30):
        image = distorted(config, seed)
        same = [
            [bool(np.abs(image[..., i] - PIXELS[..., j]).max() < 8) for j in range(3)]
            for i in range(3)
        ]
        assert np.sum(same) == 3
        orders.add(tuple(np.argmax(same, axis=1)))
    assert len(orders) == 6


def test_each_change_has_its_own_probability_and_contrast_comes_first_or_last():
    config = dataclasses.replace(
        STILL, probability=0.5, brightness=(1.5, 1.5), contrast=(0.5, 0.5)
    )
    images = {distorted(config, seed).tobytes() for seed in range(40)}
    # Neither, one of them, or both in either order; each with hues of 8 bits or not.
    assert len(images) == 2 * 5
    off = dataclasses.replace(config, probability=0.0)
    assert (distorted(off) == PIXELS).all()
