"""Composed images, whose pixels prove where every box went and what is left of it."""

import numpy as np
import pytest
from support.marked_pictures import Marked, look_for

from rpn_jax.data import (
    CopyPasteConfig,
    IoUCropConfig,
    MosaicConfig,
    PhotometricConfig,
    PipelineConfig,
    ZoomOutConfig,
)
from rpn_jax.data.augment import augment, compose, draw_augmentation
from rpn_jax.data.collage import whole

KINDS = {
    "zoom_out": ZoomOutConfig(probability=1.0, side_range=(1.0, 1.6)),
    "iou_crop": IoUCropConfig(probability=1.0, scale=(0.3, 0.8), min_ious=(0.0, 0.1)),
    "mosaic": MosaicConfig(probability=1.0, scale=(0.8, 1.2)),
    "copy_paste": CopyPasteConfig(probability=1.0, scale=(0.8, 1.2)),
}
SHAPE = (384, 448)


def pipeline(**parts):
    return PipelineConfig(min_side=300, max_side=400, **parts)


def check(result, marked):
    """Compares the boxes of an image with its pixels; counts the cut objects."""
    image, labels = np.asarray(result.image), result.labels
    assert (image.shape[:2] == result.size).all()
    blur = 1.0 + result.scale.max()  # pixels, from enlarging the original
    boxes = dict(zip(labels.categories.tolist(), labels.boxes, strict=True))
    ignored = dict(zip(labels.categories.tolist(), labels.is_ignored, strict=True))
    assert len(boxes) == len(labels.boxes)
    num_cut = 0
    for mark, was_ignored in marked.is_ignored.items():
        seen, share = look_for(image, mark)
        if seen is None or share < 0.03:
            continue  # too little for the pixels to tell
        np.testing.assert_allclose(boxes.pop(mark), seen, atol=blur)
        is_cut = ignored.pop(mark) and not was_ignored
        num_cut += is_cut
        assert not (was_ignored and is_cut)
        if not was_ignored and not 0.15 < share < 0.35:
            assert is_cut == (share < 0.25)
    # Every other box shows at most a sliver.
    for mark, box in boxes.items():
        assert ignored[mark]
        assert (box[2:] - box[:2]).min() < 6 * blur
    return num_cut


@pytest.mark.parametrize("names", [*([x] for x in KINDS), list(KINDS)], ids="-".join)
def test_boxes_stay_on_their_pixels(names):
    config = pipeline(**{name: KINDS[name] for name in names})
    num_cut = num_hidden = num_boxes = 0
    for step in range(24):
        marked = Marked(step)
        augmentation = draw_augmentation((0, step, 0), config)
        collage = compose(marked.picture(), marked.picture, config, augmentation)
        result = augment(collage, SHAPE, config, augmentation)
        num_cut += check(result, marked)
        num_hidden += result.num_hidden
        num_boxes += len(result.labels.boxes)
    assert num_boxes > 24
    if names != ["zoom_out"]:
        assert (num_cut > 0) == (names != ["copy_paste"])
    assert (num_hidden > 0) == ("iou_crop" in names or "mosaic" in names)


def test_pasted_objects_are_more_boxes_and_hide_little():
    config = pipeline(copy_paste=CopyPasteConfig(probability=1.0, max_objects=4))
    more = 0
    for step in range(20):
        marked = Marked(step)
        first = marked.picture()
        augmentation = draw_augmentation((0, step, 0), config)
        collage = compose(first, marked.picture, config, augmentation)
        more += len(collage.parts) - 1
        for part in collage.parts[1:]:
            for box, ignored in zip(*first.labels[:2], strict=True):
                low = np.maximum(box[:2], part.place[:2])
                high = np.minimum(box[2:], part.place[2:])
                shared = np.prod(np.maximum(high - low, 0))
                assert shared <= (0.0 if ignored else 0.3 * np.prod(box[2:] - box[:2]))
    assert more > 10


def test_each_augmentation_changes_about_its_share_of_images():
    parts = {name: type(part)(probability=0.3) for name, part in KINDS.items()}
    photometric = PhotometricConfig(probability=0.3)
    config = pipeline(**parts, photometric=photometric)
    augmentations = [draw_augmentation((0, step, 1), config) for step in range(400)]
    chosen = {
        name: [a.stream(name, 0.3) is not None for a in augmentations] for name in parts
    }
    for of_images in chosen.values():
        assert 0.22 < np.mean(of_images) < 0.38
    assert len({tuple(of_images) for of_images in chosen.values()}) == len(parts)


def test_one_augmentation_does_not_change_what_another_draws():
    marked, windows = Marked(0), []
    picture = marked.picture()
    crop = IoUCropConfig(probability=1.0, min_ious=(0.0,))
    for photometric in (PhotometricConfig(), PhotometricConfig(probability=1.0)):
        config = pipeline(iou_crop=crop, photometric=photometric)
        augmentation = draw_augmentation((5, 6, 7), config)
        collage = compose(picture, marked.picture, config, augmentation)
        windows.append(collage.window.tolist())
    assert windows[0] == windows[1] != whole(picture).window.tolist()


def test_a_crop_fits_the_shape_of_its_batch():
    config = pipeline(iou_crop=IoUCropConfig(probability=1.0, min_ious=(0.0,)))
    for step in range(20):
        marked = Marked(step)
        augmentation = draw_augmentation((1, step, 0), config)
        collage = compose(marked.picture(), marked.picture, config, augmentation)
        result = augment(collage, (320, 320), config, augmentation)
        height, width = collage.size
        assert (result.size <= 320).all()
        assert abs(result.size[0] / result.size[1] * width / height - 1) < 0.02
