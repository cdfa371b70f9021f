"""The synthetic scenes."""

import numpy as np
import pytest

from rpn_jax.data import ENDLESS, Scenes, is_endless
from rpn_jax.data.drawing import MAX_SHAPES, MIN_SIDE


def test_a_picture_depends_on_seed_and_row_alone():
    first, again, other = Scenes(3), Scenes(3, 50), Scenes(4)
    rows = [7, 2, 40, 7]
    for row in rows:
        np.testing.assert_array_equal(first.pixels(row), again.pixels(row))
        np.testing.assert_array_equal(first.truth(row).boxes, again.truth(row).boxes)
        assert not np.array_equal(first.pixels(row), other.pixels(row))
    assert not np.array_equal(first.pixels(2), first.pixels(40))


def test_the_pictures_are_the_same_everywhere():
    """A sum over pixels that must be equal on every platform and in every release."""
    scenes = Scenes(0)
    boxes = np.concatenate([scenes.truth(row).boxes for row in range(8)])
    assert (len(boxes), boxes.sum()) == (69, 40101.0)


def test_pictures_have_the_promised_form():
    scenes = Scenes(1, 60, size=(120, 200))
    assert len(scenes) == 60
    assert scenes.image_sizes.shape == (60, 2)
    for row in range(60):
        truth = scenes.truth(row)
        assert truth.size == tuple(scenes.image_sizes[row]) == (120, 200)
        assert scenes.pixels(row).shape == (120, 200, 3)
        assert scenes.pixels(row).dtype == np.uint8
        assert len(truth.boxes) <= scenes.num_boxes[row] == MAX_SHAPES
        assert truth.boxes.dtype == truth.areas.dtype == np.float32
        assert truth.image_id == row
        assert not truth.is_ignored.any()
        assert (truth.boxes >= 0).all()
        assert (truth.boxes[:, 2:] <= (200, 120)).all()
        sides = truth.boxes[:, 2:] - truth.boxes[:, :2]
        assert (sides >= 1).all()
        assert (truth.areas <= sides.prod(axis=1)).all()
        assert (truth.areas > 0).all()


def test_pictures_hold_many_sizes_and_aspects_and_sometimes_nothing():
    scenes = Scenes(2)
    truths = [scenes.truth(row) for row in range(150)]
    numbers = np.array([len(truth.boxes) for truth in truths])
    boxes = np.concatenate([truth.boxes for truth in truths])
    sides = boxes[:, 2:] - boxes[:, :2]
    assert 0.01 < np.mean(numbers == 0) < 0.15
    assert numbers.max() > 10
    assert np.percentile(sides.max(axis=1), 10) < 2 * MIN_SIDE
    assert sides.max() > 150
    aspects = sides[:, 1] / sides[:, 0]
    assert np.percentile(aspects, 5) < 0.5
    assert np.percentile(aspects, 95) > 2.0


def test_a_shape_stands_out_from_what_is_around_its_box():
    """The inside and outside of a box differ more than two parts of the background."""
    scenes = Scenes(5)
    contrast, background = [], []
    for row in range(40):
        pixels = scenes.pixels(row).astype(float)
        for x0, y0, x1, y1 in scenes.truth(row).boxes.astype(int):
            middle = (y0 + y1) // 2
            if x0 >= 4 and x1 <= 316 and x1 - x0 > 16:
                strip = pixels[middle]
                contrast.append(np.abs(strip[x0 + 3 : x1 - 3].mean(0) - strip[x0 - 4]))
        background.append(np.abs(pixels[1, 2] - pixels[1, 8]))
    assert np.mean(contrast) > 3 * np.mean(background)


def test_a_series_without_end_takes_no_memory():
    scenes = Scenes()
    assert len(scenes) == ENDLESS
    assert is_endless(scenes)
    assert not is_endless(Scenes(0, 10))
    assert scenes.pixels(ENDLESS - 1).shape == (240, 320, 3)


@pytest.mark.parametrize(
    "arguments", [{"seed": -1}, {"num_images": 0}, {"size": (10, 320)}]
)
def test_impossible_pictures_are_refused(arguments):
    with pytest.raises(ValueError, match="Scenes needs"):
        Scenes(**arguments)
