"""Windows of the zoom-out and of the crop."""

import numpy as np
from support.marked_pictures import picture_of

from rpn_jax.data import IoUCropConfig, ZoomOutConfig
from rpn_jax.data.collage import Labels, whole
from rpn_jax.data.framing import iou_crop, zoom_out

OBJECTS = np.array([[10.0, 20, 60, 70], [80, 5, 115, 95]])
NOTHING = Labels(np.zeros((0, 4)), np.zeros(0, bool), np.zeros(0, int))
START = whole(picture_of(np.zeros((100, 120, 3), np.uint8), NOTHING))


def test_a_larger_canvas_holds_the_image_somewhere():
    rng, places, factors = np.random.default_rng(0), [], []
    for _ in range(60):
        x0, y0, x1, y1 = zoom_out(START, ZoomOutConfig(), rng).window
        assert x0 <= 0 <= 120 <= x1
        assert y0 <= 0 <= 100 <= y1
        assert abs((x1 - x0) / 120 - (y1 - y0) / 100) < 0.02
        factors.append((x1 - x0) / 120)
        places.append((-x0 / max(x1 - x0 - 120, 1), -y0 / max(y1 - y0 - 100, 1)))
    assert 1 <= min(factors) < 1.3
    assert 3.7 < max(factors) <= 4
    assert (np.min(places, axis=0) < 0.15).all()
    assert (np.max(places, axis=0) > 0.85).all()


def iou_by_hand(a, b):
    wide = min(a[2], b[2]) - max(a[0], b[0])
    high = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(wide, 0) * max(high, 0)
    areas = [(x[2] - x[0]) * (x[3] - x[1]) for x in (a, b)]
    return shared / (sum(areas) - shared)


def test_a_crop_has_the_iou_and_the_shape_that_are_asked_for():
    rng, sides = np.random.default_rng(0), []
    for least in (0.0, 0.1, 0.3, 0.5) * 15:
        config = IoUCropConfig(min_ious=(least,), aspect_ratio=(0.6, 1.8))
        crop = iou_crop(START, OBJECTS, config, rng).window
        x0, y0, x1, y1 = crop
        assert 0 <= x0 < x1 <= 120
        assert 0 <= y0 < y1 <= 100
        assert (crop == np.rint(crop)).all()
        assert 0.6 <= (x1 - x0) / (y1 - y0) <= 1.8
        inside = [
            box
            for box in OBJECTS
            if x0 < (box[0] + box[2]) / 2 < x1 and y0 < (box[1] + box[3]) / 2 < y1
        ]
        assert max(iou_by_hand(crop, box) for box in inside) >= least
        sides += [(x1 - x0) / 120, (y1 - y0) / 100]
    assert 0.28 <= min(sides) < 0.4
    assert max(sides) > 0.9


def test_the_image_stays_whole_without_objects_or_with_a_minimum_of_one():
    rng, config = np.random.default_rng(0), IoUCropConfig(min_ious=(1.0,))
    assert iou_crop(START, OBJECTS, config, rng) is START
    assert iou_crop(START, OBJECTS[:0], IoUCropConfig(), rng) is START


def test_a_minimum_that_no_crop_reaches_ends():
    tiny = np.array([[50.0, 50, 51, 51]])
    config = IoUCropConfig(min_ious=(0.9,))
    assert iou_crop(START, tiny, config, np.random.default_rng(0)) is START


def test_a_crop_lies_in_the_window_that_it_makes_smaller():
    moved = START._replace(window=START.window + 30)
    crop = iou_crop(
        moved, OBJECTS, IoUCropConfig(min_ious=(0.0,)), np.random.default_rng(2)
    )
    assert (crop.window[:2] >= 30).all()
    assert (crop.window[2:] <= moved.window[2:]).all()
    assert crop.parts is moved.parts
