"""Every system's size of a resized image, against that system's own arithmetic."""

import importlib

import numpy as np
import pytest

from rpn_jax.models.interop import SYSTEMS, padded_size, resized_size

RNG = np.random.default_rng(0)
# Usual sizes, sides whose scaled length ends in .5, and random sizes.
SIZES = [
    *[(427, 640), (640, 427), (375, 500), (1080, 1920), (3000, 300), (1, 1000), (8, 8)],
    *[(480, 641), (599, 999), (600, 1000), (601, 1001), (64, 107), (16, 25)],
    *map(tuple, RNG.integers(1, 3000, (300, 2)).tolist()),
]


def sizes(system):
    return [resized_size(system, *size) for size in SIZES]


def test_sides_are_cut_as_torchvision_cuts_them():
    torch = pytest.importorskip("torch")
    pytest.importorskip("torchvision")
    transform = importlib.import_module("torchvision.models.detection.transform")
    for size, ours in zip(SIZES, sizes("torchvision"), strict=True):
        if min(ours) * max(size) < 2 * max(ours):
            continue  # a side of 0 or 1 pixels, where torchvision fails
        image = torch.empty((1, *size), device="meta")
        resized = transform._resize_image_and_masks(image, 800, 1333)[0]
        assert tuple(resized.shape[1:]) == ours, size


def test_an_image_is_padded_as_torchvision_pads_it_alone():
    torch = pytest.importorskip("torch")
    detection = pytest.importorskip("torchvision.models.detection")
    transform = detection.transform.GeneralizedRCNNTransform(
        320, 640, [0.5, 0.5, 0.5], [0.2, 0.2, 0.2]
    )
    for size in SIZES[:4]:
        images, _ = transform.eval()([torch.zeros((3, *size))])
        ours = resized_size("torchvision_320", *size)
        assert images.image_sizes == [ours]
        assert tuple(images.tensors.shape[2:]) == padded_size("torchvision_320", *ours)


def torchvision(height, width, min_size, max_size):
    """`_resize_image_and_masks`, and `interpolate` with `recompute_scale_factor`."""
    shape = (height, width)
    scale = min(min_size / min(shape), max_size / max(shape))
    return tuple(max(int(side * scale), 1) for side in shape)


def detectron2(height, width, short_edge, max_size):
    """`ResizeShortestEdge.get_output_shape`, line by line."""
    size = short_edge * 1.0
    scale = size / min(height, width)
    if height < width:
        new_height, new_width = size, scale * width
    else:
        new_height, new_width = scale * height, size
    if max(new_height, new_width) > max_size:
        scale = max_size * 1.0 / max(new_height, new_width)
        new_height, new_width = new_height * scale, new_width * scale
    return max(int(new_height + 0.5), 1), max(int(new_width + 0.5), 1)


def mmcv(height, width, short_edge, long_edge):
    """`rescale_size` of a `(w, h)` with a scale of `(1333, 800)`, line by line."""
    scale = min(long_edge / max(height, width), short_edge / min(height, width))
    new = int(width * float(scale) + 0.5), int(height * float(scale) + 0.5)
    return max(new[1], 1), max(new[0], 1)


def py_faster_rcnn(height, width, target_size, max_size):
    """`_get_image_blob`, with `cv2.resize`'s `saturate_cast<int>(width * fx)`."""
    shape = np.array([height, width, 3])
    scale = float(target_size) / float(np.min(shape[0:2]))
    if np.round(scale * np.max(shape[0:2])) > max_size:
        scale = float(max_size) / float(np.max(shape[0:2]))
    return tuple(int(max(x, 1)) for x in np.rint(shape[0:2] * scale))


@pytest.mark.parametrize(
    ("system", "theirs", "sides"),
    [
        ("torchvision", torchvision, (800, 1333)),
        ("torchvision_320", torchvision, (320, 640)),
        ("detectron2_fpn", detectron2, (800, 1333)),
        ("detectron2_c4", detectron2, (800, 1333)),
        ("mmdetection", mmcv, (800, 1333)),
        ("mmdetection_caffe", mmcv, (800, 1333)),
        ("jwyang_vgg16", py_faster_rcnn, (600, 1000)),
        ("jwyang_resnet", py_faster_rcnn, (600, 1000)),
    ],
)
def test_sides_are_rounded_as_in_the_system_that_the_weights_come_from(
    system, theirs, sides
):
    assert sizes(system) == [theirs(*size, *sides) for size in SIZES]


def test_half_a_pixel_is_rounded_by_each_systems_own_rule():
    """The longer sides 51 and 53 become 25.5 and 26.5."""
    found = {
        system: [resized_size(system, 50, side, 25, 1000)[1] for side in (51, 53)]
        for system in ("torchvision", "detectron2_fpn", "mmdetection", "jwyang_vgg16")
    }
    assert found == {
        "torchvision": [25, 26],
        "detectron2_fpn": [26, 27],
        "mmdetection": [26, 27],
        "jwyang_vgg16": [26, 26],
    }


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_system_has_a_size_and_a_padding_per_image(system):
    size = resized_size(system, 333, 512)
    padded = padded_size(system, *size)
    is_unpadded = system in ("detectron2_c4", "jwyang_vgg16", "jwyang_resnet")
    multiple = 1 if is_unpadded else 32
    assert [side % multiple for side in padded] == [0, 0]
    assert all(0 <= b - a < multiple for a, b in zip(size, padded, strict=True))
