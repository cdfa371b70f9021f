"""Images as another system sees them."""

import numpy as np
import pytest
from PIL import Image
from support import data_files

from rpn_jax.models.interop import padded_size, resized_size
from rpn_jax.predict import prepare


@pytest.mark.parametrize("system", ["torchvision", "detectron2_c4", "jwyang_vgg16"])
def test_an_image_gets_the_size_and_the_padding_of_its_system(system):
    pixels = data_files.noise(43, 61)
    image = prepare(pixels, system)
    height, width = resized_size(system, 43, 61)
    assert image.pixels.shape == (*padded_size(system, height, width), 3)
    assert image.size.tolist() == [height, width]
    np.testing.assert_allclose(image.scale, [height / 43, width / 61], rtol=1e-6)
    resized = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(image.pixels[:height, :width], resized)
    assert not image.pixels[height:].any()
    assert not image.pixels[:, width:].any()


def test_an_image_of_the_right_size_is_not_touched():
    pixels = data_files.noise(800, 1024)
    image = prepare(pixels, "torchvision")
    np.testing.assert_array_equal(image.pixels, pixels)
