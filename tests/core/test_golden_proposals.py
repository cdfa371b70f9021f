"""Proposals as other implementations made them, row for row."""

import dataclasses

import jax
import numpy as np
import pytest
from support.reference import overlaps_by_hand

from rpn_jax import AnchorConfig, ProposalConfig, RPNOutput, make_anchors
from rpn_jax.core.proposals import propose

GEOMETRY = {
    "c4small": {"sizes": ((32, 64, 128),), "strides": (16,)},
    "fpnsmall": {"sizes": (16, 32, 64, 128, 256), "strides": (4, 8, 16, 32, 64)},
}
SHAPES = {
    "c4small": [(10, 15)],
    "fpnsmall": [(64, 80), (32, 40), (16, 20), (8, 10), (4, 5)],
}
ANCHORS = {
    "torchvision": {"rounding": "corners"},
    "detectron2": {"cell_order": "size_major"},
    "mmdet": {},
    "jwyang": {"rounding": "legacy"},
    "pyfrcnn": {"rounding": "legacy"},
}
LEGACY = ProposalConfig(
    per_level=False,
    pixel_offset=1.0,
    max_log_scale=np.inf,
    exclusive_min_size=False,
)
CONFIGS = {
    "torchvision": ProposalConfig(
        min_size=1e-3, exclusive_min_size=False, score_threshold=0.0
    ),
    "detectron2": ProposalConfig(),
    "mmdet": ProposalConfig(symmetric_log_scale=True),
    "jwyang": LEGACY,
    "pyfrcnn": dataclasses.replace(LEGACY, min_size=16.0, filter_before_top_k=True),
}


def propose_as(peer, geometry, arrays, pre, post, **settings):
    """Ours for all images of a file, with the settings of a peer, as NumPy arrays."""
    grid = make_anchors(
        AnchorConfig(**GEOMETRY[geometry], **ANCHORS[peer]), SHAPES[geometry]
    )
    # Limits beyond the number of anchors are the same one, and share a program.
    pre, post = min(pre, len(grid)), min(post, len(grid))
    config = dataclasses.replace(
        CONFIGS[peer], pre_nms_top_k=pre, post_nms_top_k=post, **settings
    )
    logits = arrays["logits" if "logits" in arrays else "logits_fg"]
    output = RPNOutput(logits, arrays["deltas"])
    proposals = propose(output, grid, arrays["image_hw"], config=config)
    return jax.tree.map(np.asarray, proposals)


def check_rows(actual, image, boxes, probabilities=None):
    """All rows of an image: as many, in this order, these boxes, zeros after them."""
    number = int(actual.valid[image].sum())
    assert number == len(boxes)
    assert actual.valid[image][:number].all()
    np.testing.assert_allclose(
        actual.boxes[image][:number], boxes, rtol=1e-5, atol=1e-3
    )
    np.testing.assert_array_equal(actual.boxes[image][number:], 0)
    np.testing.assert_array_equal(actual.scores[image][number:], 0)
    if probabilities is not None:
        scores = actual.scores[image][:number]
        np.testing.assert_allclose(scores, probabilities, rtol=1e-5, atol=1e-7)


def sigmoid(x):
    return 1 / (1 + np.exp(-x.astype(float)))


@pytest.mark.parametrize("geometry", ["c4small", "fpnsmall"])
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("train_2000_2000", {"pre": 2000, "post": 2000}),
        ("test_1000_1000", {"pre": 1000, "post": 1000}),
        ("pre100_post50", {"pre": 100, "post": 50, "iou_threshold": 0.5}),
    ],
)
def test_proposals_are_those_of_torchvision(golden, geometry, name, settings):
    arrays = golden("torchvision", f"proposals_{geometry}_random0")
    actual = propose_as("torchvision", geometry, arrays, **settings)
    for image in (0, 1):
        boxes = arrays[f"{name}/f32/boxes_{image}"]
        check_rows(actual, image, boxes, arrays[f"{name}/f32/scores_{image}"])


@pytest.mark.parametrize("geometry", ["c4small", "fpnsmall"])
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("train_2000_1000", {"pre": 2000, "post": 1000}),
        ("test_pre100_post50_iou0.5", {"pre": 100, "post": 50, "iou_threshold": 0.5}),
        ("test_1000_1000_min16", {"pre": 1000, "post": 1000, "min_size": 16.0}),
    ],
)
def test_proposals_are_those_of_detectron2(golden, geometry, name, settings):
    arrays = golden("detectron2", f"proposals_{geometry}_random0")
    actual = propose_as("detectron2", geometry, arrays, **settings)
    for image in (0, 1):
        logits = arrays[f"{name}/objectness_logits_{image}"]
        check_rows(actual, image, arrays[f"{name}/boxes_{image}"], sigmoid(logits))


@pytest.mark.parametrize("geometry", ["c4small", "fpnsmall"])
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("pre2000_post1000", {"pre": 2000, "post": 1000}),
        (
            "pre100_post50_iou0.5_min16",
            {"pre": 100, "post": 50, "iou_threshold": 0.5, "min_size": 16.0},
        ),
    ],
)
def test_proposals_are_those_of_mmdet(golden, geometry, name, settings):
    arrays = golden("mmdet", f"proposals_{geometry}_random0")
    actual = propose_as("mmdet", geometry, arrays, **settings)
    for image in (0, 1):
        boxes = arrays[f"{name}/boxes_{image}"]
        check_rows(actual, image, boxes, arrays[f"{name}/scores_{image}"])


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("TRAIN", {"pre": 12_000, "post": 2000}),
        ("TRAIN_nms10", {"pre": 12_000, "post": 2000, "inclusive_threshold": True}),
        ("TEST", {"pre": 6000, "post": 300}),
        ("TEST_nms10", {"pre": 6000, "post": 300, "inclusive_threshold": True}),
    ],
)
def test_proposals_are_those_of_jwyang(golden, name, settings):
    arrays = golden("jwyang", "proposals_c4small_random0")
    actual = propose_as("jwyang", "c4small", arrays, **settings)
    for image in (0, 1):
        boxes = arrays[f"{name}/rois"][image, :, 1:]
        number = int((boxes != 0).any(axis=1).sum())
        check_rows(actual, image, boxes[:number])


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("TRAIN_min16", {"pre": 12_000, "post": 2000}),
        ("TRAIN_min0", {"pre": 12_000, "post": 2000, "min_size": 0.0}),
        ("TEST_min16", {"pre": 6000, "post": 300}),
    ],
)
def test_proposals_are_those_of_py_faster_rcnn(golden, name, settings):
    arrays = golden("pyfrcnn", "proposals_c4small_random0")
    actual = propose_as("pyfrcnn", "c4small", arrays, **settings)
    boxes = arrays[f"{name}/rois"][:, 1:]
    check_rows(actual, 0, boxes, arrays[f"{name}/scores"][:, 0])


@pytest.mark.parametrize("peer", ["torchvision", "detectron2", "mmdet", "jwyang"])
@pytest.mark.parametrize(
    "case", ["score_ties", "all_equal", "nan_inf_deltas", "nan_inf_logits"]
)
def test_what_peers_leave_open_still_makes_sound_proposals(golden, peer, case):
    """Equal scores, which they order at random, and values that are not finite."""
    arrays = golden(peer, f"proposals_c4small_{case}")
    actual = propose_as(peer, "c4small", arrays, pre=2000, post=1000)
    height, width = arrays["image_hw"].tolist()
    for image in (0, 1):
        valid = actual.valid[image]
        boxes, scores = actual.boxes[image][valid], actual.scores[image][valid]
        assert len(boxes) > 300
        assert np.isfinite(boxes).all()
        assert (boxes >= 0).all()
        assert (boxes[:, 2:] <= np.array([[width, height]])).all()
        assert (np.diff(scores) <= 0).all()
        offset = CONFIGS[peer].pixel_offset
        for i, box in enumerate(boxes[:-1]):
            overlaps = overlaps_by_hand(box, boxes[i + 1 :], offset)
            assert overlaps.max() <= 0.7 + 1e-6
