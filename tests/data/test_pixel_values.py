"""Float images with infinity, NaN and marks of pixels without data."""

import numpy as np
import pytest
from PIL import TiffImagePlugin
from support import data_files

from rpn_jax.data.image_files import Header, decode_image, read_headers

RAMP = np.linspace(10.0, 20.0, 24, dtype=np.float32).reshape(4, 6)


def grey(path, values, **options):
    """The grey values that an image becomes."""
    data_files.save(path, values, **options)
    (header,) = read_headers([path])
    assert isinstance(header, Header)
    return decode_image(path, header).pixels[..., 0]


@pytest.mark.parametrize(
    ("strange", "expected"),
    [
        (np.inf, 255),
        (-np.inf, 0),
        (np.nan, 0),
        (-9999.0, 0),
        (-32768.0, 0),
        (np.finfo(np.float32).min, 0),
        (np.finfo(np.float32).max, 255),
        (1e38, 255),
    ],
)
def test_a_float_image_keeps_its_contrast_beside_values_that_are_no_data(
    tmp_path, strange, expected
):
    plain = grey(tmp_path / "plain.tiff", RAMP)
    values = RAMP.copy()
    values[1, 2] = values[3, 3] = strange
    found = grey(tmp_path / "strange.tiff", values)
    is_data = values == RAMP
    np.testing.assert_array_equal(found[is_data], plain[is_data])
    assert set(found[~is_data].tolist()) == {expected}


def test_the_value_that_a_tiff_declares_as_no_data_does_not_count(tmp_path):
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[42113] = "-1"
    tags.tagtype[42113] = 2
    values = RAMP.copy()
    values[0, 1] = -1.0
    found = grey(tmp_path / "a.tiff", values, tiffinfo=tags)
    assert found[0, 0] == found[0, 1] == 0
    assert found.max() == 255
    assert len(np.unique(found)) == values.size - 1


def test_a_low_value_among_others_is_data(tmp_path):
    values = np.array([[-999.0, -500.0], [-100.0, 0.0]], np.float32)
    found = grey(tmp_path / "a.tiff", values)
    assert found.tolist() == [[0, 127], [229, 255]]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 7.0, -9999.0])
def test_an_image_without_two_values_is_black(tmp_path, value):
    values = np.full((3, 4), value, np.float32)
    assert set(grey(tmp_path / "a.tiff", values).ravel().tolist()) <= {0, 255}


def test_integers_of_32_bits_may_have_a_mark_too(tmp_path):
    values = np.arange(24, dtype=np.int32).reshape(4, 6)
    values[0, 0] = -(2**31)
    found = grey(tmp_path / "a.tiff", values)
    assert found[0, 0] == found[0, 1] == 0
    assert found[3, 5] == 255
    assert len(np.unique(found)) == 23


def test_a_large_float_image_is_converted_in_parts(tmp_path, monkeypatch):
    values = np.random.default_rng(0).normal(size=(50, 7)).astype(np.float32)
    whole = grey(tmp_path / "a.tiff", values)
    monkeypatch.setattr("rpn_jax.data.pixel_values._BLOCK", 20)
    np.testing.assert_array_equal(grey(tmp_path / "a.tiff", values), whole)
