"""Decoding and resizing with OpenCV, beside Pillow and loops from the definition."""

import dataclasses
import sys

import numpy as np
import pytest
from PIL import Image
from support import data_files
from support.pipeline_data import COMPOSED, MIXED, FakeSource, take

from rpn_jax.data import (
    ImageError,
    PhotometricConfig,
    PipelineConfig,
    opencv,
    read_coco,
    split_source,
)
from rpn_jax.data.categories import CategorySplit, only_seen
from rpn_jax.data.image_files import Header, open_image, read_headers

pytest.importorskip("cv2", reason="needs opencv-python-headless")


def header_of(path):
    (header,) = read_headers([path])
    assert isinstance(header, Header)
    return header


def both(path, header=None, least=None):
    """The arrays that Pillow and OpenCV make of a file, with what is said of them."""
    header = header or header_of(path)
    found = [open_image(path, header, least, lib) for lib in ("pillow", "opencv")]
    assert isinstance(found[1].image, np.ndarray)
    assert found[0][1:] == found[1][1:]
    return np.asarray(found[0].image), found[1].image


@pytest.mark.parametrize("kind", ["RGB", "L", "progressive", "4:4:4"])
@pytest.mark.parametrize("least", [None, (31, 49), (15, 24), (7, 12)])
def test_a_jpeg_is_decoded_to_the_same_pixels(tmp_path, kind, least, monkeypatch):
    image = Image.fromarray(data_files.noise(62, 99))
    path = tmp_path / "a.jpg"
    image.convert("L" if kind == "L" else "RGB").save(
        path,
        progressive=kind == "progressive",
        subsampling="4:4:4" if kind == "4:4:4" else "4:2:0",
    )
    expected, actual = both(path, least=least)
    np.testing.assert_array_equal(actual, expected)
    # That was OpenCV, and not Pillow in its place.
    monkeypatch.setattr(opencv, "decode_jpeg", lambda *_: np.zeros((1, 1, 3), np.uint8))
    with pytest.raises(ImageError, match="size has changed"):
        both(path, least=least)


@pytest.mark.parametrize("kind", ["png", "grey png", "CMYK", "turned", "cut", "16 bit"])
def test_pillow_decodes_all_other_files(tmp_path, kind):
    pixels = data_files.noise(60, 90)
    path = tmp_path / ("a.jpg" if kind in ("CMYK", "turned", "cut") else "a.png")
    if kind == "turned":
        data_files.save_turned(path, pixels, 6)
    elif kind == "CMYK":
        Image.fromarray(pixels).convert("CMYK").save(path)
    elif kind == "16 bit":
        Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(path)
    else:
        data_files.save(path, pixels[..., 0] if kind == "grey png" else pixels)
    if kind == "cut":
        path.write_bytes(path.read_bytes()[:-300])
    expected, actual = both(path)
    np.testing.assert_array_equal(actual, expected)


def test_a_file_that_was_cut_after_its_header_was_read_is_found(tmp_path, monkeypatch):
    path = data_files.save(tmp_path / "a.jpg", data_files.noise(200, 100))
    header, whole = header_of(path), path.read_bytes()
    # OpenCV is not even asked: some of its versions fill such an image with grey.
    monkeypatch.setattr(opencv, "require_opencv", lambda: pytest.fail("asked"))
    path.write_bytes(whole[: int(len(whole) * 0.8)])
    expected, actual = both(path, header)
    np.testing.assert_array_equal(actual, expected)
    assert open_image(path, header, None, "opencv").truncated
    path.write_bytes(whole[: int(len(whole) * 0.4)])
    with pytest.raises(ImageError, match=r"a.jpg cannot be decoded"):
        open_image(path, header, None, "opencv")


@pytest.mark.parametrize("size", [(31, 40), (24, 20), (21, 17), (60, 24)])
def test_a_longer_side_is_interpolated_between_the_centres_of_pixels(size):
    """Bilinear interpolation by its definition, with borders that are repeated."""
    pixels = data_files.noise(17, 20)
    height, width = size
    expected = np.zeros((height, width, 3))
    for i, j in np.ndindex(height, width):
        y = np.clip((i + 0.5) * 17 / height - 0.5, 0, 16)
        x = np.clip((j + 0.5) * 20 / width - 0.5, 0, 19)
        for row, column in np.ndindex(17, 20):
            weight = max(0, 1 - abs(y - row)) * max(0, 1 - abs(x - column))
            expected[i, j] += weight * pixels[row, column]
    actual = opencv.resize(pixels, (width, height))
    np.testing.assert_allclose(actual, expected, atol=1.0)


@pytest.mark.parametrize("size", [(9, 10), (6, 5), (17, 7), (16, 19)])
def test_a_shorter_side_is_the_mean_of_the_area(size):
    pixels = data_files.noise(17, 20)
    height, width = size
    expected = np.zeros((height, width, 3))
    for i, j in np.ndindex(height, width):
        top, bottom = i * 17 / height, (i + 1) * 17 / height
        left, right = j * 20 / width, (j + 1) * 20 / width
        for row, column in np.ndindex(17, 20):
            covered_rows = max(0, min(bottom, row + 1) - max(top, row))
            covered_columns = max(0, min(right, column + 1) - max(left, column))
            area = covered_rows * covered_columns * height * width / (17 * 20)
            expected[i, j] += area * pixels[row, column]
    actual = opencv.resize(pixels, (width, height))
    np.testing.assert_allclose(actual, expected, atol=1.0)


def coco_source(folder, size=(64, 96)):
    names = ["a.jpg", "b.jpg", "c.png"]
    records = [
        data_files.coco_record(number, [10, 20, 30, 25], category_id=number % 2 + 1)
        for number in (1, 2, 3)
    ]
    return read_coco(data_files.coco_set(folder, records, size=size, names=names))


@pytest.fixture
def source(tmp_path):
    return coco_source(tmp_path)


@pytest.mark.parametrize("side", [64, 100, 45, 20])
@pytest.mark.parametrize("flip", [0, 1])
def test_a_batch_holds_the_same_objects(source, side, flip):
    config = PipelineConfig(min_side=side, max_side=2 * side, flip_probability=flip)
    with_opencv = dataclasses.replace(config, image_library="opencv")
    for expected, actual in zip(
        take(source, config, 3), take(source, with_opencv, 3), strict=True
    ):
        for name in set(expected._fields) - {"images"}:
            np.testing.assert_array_equal(
                getattr(actual, name), getattr(expected, name)
            )
        difference = actual.images.astype(int) - expected.images
        # The filters differ where an image becomes smaller: noise shows it most.
        if side >= 64:
            assert np.abs(difference).max() <= 1
        else:
            assert 0 < np.abs(difference).mean() < 8


def test_a_reduced_image_with_a_part_of_a_pixel_is_resized_by_pillow(tmp_path):
    source = coco_source(tmp_path, (63, 97))
    config = PipelineConfig(min_side=20, max_side=40)
    with_opencv = dataclasses.replace(config, image_library="opencv")
    for expected, actual in zip(
        take(source, config, 3), take(source, with_opencv, 3), strict=True
    ):
        for row, of_pillow, of_opencv in zip(
            actual.rows, expected.images, actual.images, strict=True
        ):
            is_jpeg = row < 2  # the other one is not reduced
            assert np.array_equal(of_pillow, of_opencv) == is_jpeg


def test_colours_are_changed_by_pillow_after_resizing(source):
    colors = PhotometricConfig(probability=1.0)
    config = PipelineConfig(min_side=64, max_side=96, photometric=colors)
    with_opencv = dataclasses.replace(config, image_library="opencv")
    for expected, actual in zip(
        take(source, config, 3), take(source, with_opencv, 3), strict=True
    ):
        np.testing.assert_array_equal(actual.images, expected.images)


def test_pillow_puts_parts_together():
    source = FakeSource(MIXED, [[4, 6, 20, 30]])
    always = {
        name: dataclasses.replace(getattr(COMPOSED, name), probability=1.0)
        for name in ("mosaic", "copy_paste", "zoom_out", "iou_crop")
    }
    config = dataclasses.replace(COMPOSED, **always)
    with_opencv = dataclasses.replace(config, image_library="opencv")
    for expected, actual in zip(
        take(source, config, 4), take(source, with_opencv, 4), strict=True
    ):
        for of_pillow, of_opencv in zip(expected, actual, strict=True):
            np.testing.assert_array_equal(of_opencv, of_pillow)


def test_parts_of_a_source_hand_the_library_on(source):
    seen = only_seen(source, CategorySplit(frozenset({1}), frozenset({2})), "ignored")
    for part in (*split_source(source, 0.4), seen):
        assert isinstance(part.open_image(0, None, "opencv").image, np.ndarray)
        assert isinstance(part.open_image(0).image, Image.Image)


def test_without_opencv_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    opencv.require_opencv.cache_clear()
    config = PipelineConfig(image_library="opencv")
    with pytest.raises(ValueError, match=r"needs the package cv2 .*Install opencv-pyt"):
        take(FakeSource(MIXED), config, 1)
    monkeypatch.undo()
    opencv.require_opencv.cache_clear()
