"""What a window of a collage shows, against pixels that are painted one by one."""

import numpy as np
import pytest
from support.marked_pictures import picture_of

from rpn_jax.data.collage import (
    FILL,
    Collage,
    Labels,
    Part,
    carry,
    paint,
    whole,
)


def random_rect(rng, limits):
    low, high = np.sort(rng.integers(0, limits, (2, 2)), axis=0)
    return np.concatenate([low, np.maximum(high, low + 1)]).astype(float)


def random_collage(rng):
    """Parts at their own scale, at whole pixels."""
    parts = []
    for number in range(rng.integers(1, 5)):
        height, width = rng.integers(4, 16, 2)
        pixels = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
        boxes = [random_rect(rng, (width, height)) for _ in range(rng.integers(0, 6))]
        count = len(boxes)
        labels = Labels(
            np.array(boxes).reshape(-1, 4),
            rng.random(count) < 0.3,
            100 * number + np.arange(count),
        )
        shown = random_rect(rng, (width, height))
        start = rng.integers(-4, 12, 2)
        place = np.concatenate([start, start + shown[2:] - shown[:2]]).astype(float)
        parts.append(Part(picture_of(pixels, labels), shown, place))
    start = rng.integers(-3, 8, 2)
    window = np.concatenate([start, start + rng.integers(4, 14, 2)]).astype(float)
    return Collage(tuple(parts), window)


def owners_of(collage):
    """For each pixel of the window: the part it shows, and the pixel there, or -1."""
    x0, y0, x1, y1 = collage.window.astype(int)
    owners = np.full((y1 - y0, x1 - x0, 3), -1)
    for number, part in enumerate(collage.parts):
        left, top, right, bottom = part.place.astype(int)
        for y in range(max(top, y0), min(bottom, y1)):
            for x in range(max(left, x0), min(right, x1)):
                u, v = x - left + int(part.shown[0]), y - top + int(part.shown[1])
                owners[y - y0, x - x0] = number, u, v
    return owners


def expected_boxes(collage, min_visibility):
    """Category -> (box, is_ignored), and the numbers of cut and of hidden boxes."""
    owners = owners_of(collage)
    found, num_cut, num_hidden = {}, 0, 0
    for number, part in enumerate(collage.parts):
        for box, ignored, category in zip(*part.picture.labels, strict=True):
            u, v = owners[..., 1], owners[..., 2]
            seen = owners[..., 0] == number
            seen &= (box[0] <= u) & (u < box[2]) & (box[1] <= v) & (v < box[3])
            share = seen.sum() / ((box[2] - box[0]) * (box[3] - box[1]))
            if not seen.any():
                inside = np.maximum(box[:2], part.shown[:2]) < np.minimum(
                    box[2:], part.shown[2:]
                )
                num_hidden += int(inside.all())
                continue
            rows, columns = np.nonzero(seen)
            extent = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            is_cut = not ignored and share < min_visibility
            num_cut += is_cut
            found[int(category)] = (extent, bool(ignored or is_cut))
    return found, num_cut, num_hidden


def test_pixels_and_boxes_are_those_that_the_window_shows():
    rng = np.random.default_rng(0)
    cut = hidden = 0
    for _ in range(150):
        collage = random_collage(rng)
        size = tuple(collage.size.tolist())
        image = np.asarray(paint(collage, size))
        for (number, u, v), pixel in zip(
            owners_of(collage).reshape(-1, 3), image.reshape(-1, 3), strict=True
        ):
            original = (
                FILL
                if number < 0
                else np.asarray(collage.parts[number].picture.opened.image)[v, u]
            )
            assert tuple(pixel) == tuple(original)
        labels, num_cut, num_hidden = carry(collage, size, 0.4)
        expected, *counts = expected_boxes(collage, 0.4)
        actual = {
            int(category): (tuple(box), bool(ignored))
            for box, ignored, category in zip(*labels, strict=True)
        }
        assert len(actual) == len(labels.boxes)
        assert actual == expected
        assert [num_cut, num_hidden] == counts
        cut, hidden = cut + num_cut, hidden + num_hidden
    assert min(cut, hidden) > 50  # both were tested


def test_a_whole_picture_keeps_boxes_that_are_thin_or_reach_beyond_it():
    boxes = np.array([[1, 1, 1, 3], [-2, 2, 50, 4]], np.float32)
    labels = Labels(boxes, np.array([False, True]), np.array([1, 2]))
    collage = whole(picture_of(np.zeros((8, 16, 3), np.uint8), labels))
    carried = carry(collage, (16, 32), 0.25)
    np.testing.assert_array_equal(carried.labels.boxes, 2 * boxes)
    assert carried[1:] == (0, 0)


@pytest.mark.parametrize("scale", [0.25, 2.0])
def test_resizing_moves_boxes_with_the_window(scale):
    labels = Labels(np.array([[16.0, 8, 48, 40]]), np.array([False]), np.array([7]))
    collage = whole(picture_of(np.full((64, 64, 3), 9, np.uint8), labels))
    collage = collage._replace(window=np.array([32.0, 0, 96, 32]))
    size = (int(32 * scale), int(64 * scale))
    (box,) = carry(collage, size, 0.25).labels.boxes
    np.testing.assert_allclose(box, np.array([0, 8, 16, 32]) * scale)
    image = np.asarray(paint(collage, size))
    assert (image[:, : size[1] // 2] == 9).all()
    assert (image[:, size[1] // 2 :] == FILL).all()


def test_a_sliver_of_less_than_a_pixel_is_left_out():
    labels = Labels(np.array([[0.0, 0, 10.4, 10]]), np.array([False]), np.array([7]))
    collage = whole(picture_of(np.zeros((20, 20, 3), np.uint8), labels))
    collage = collage._replace(window=np.array([10.0, 0, 20, 20]))
    carried = carry(collage, (20, 10), 0.25)
    assert len(carried.labels.boxes) == 0
    assert carried[1:] == (0, 1)
    assert len(carry(collage, (80, 40), 0.25).labels.boxes) == 1
