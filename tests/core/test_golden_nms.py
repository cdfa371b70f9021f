"""Suppression as other implementations did it, index for index."""

import functools

import numpy as np
import pytest

from rpn_jax.core.nms import nms

THRESHOLDS = pytest.mark.parametrize("iou_threshold", [0.5, 0.7, 0.9])

# Where a peer leaves the order of equal scores, or of NaN, to its sorting routine.
UNSPECIFIED = ("ties", "equal", "nan")

# Where py-faster-rcnn has nothing to go by: no boxes, or areas that cancel, so that an
# IoU is 0 / 0. Its Cython code raises, and in its NumPy code a NaN suppresses.
UNDEFINED = ("empty", "degenerate_n4000")


def cases_of(arrays, *, without=()):
    names = sorted({key.split("/")[0] for key in arrays})
    return [name for name in names if not name.startswith(without)]


def keep(arrays, case, *, groups=None, **settings):
    """The indices that `nms` keeps; padded to one of two sizes, to compile it once."""
    boxes, scores = arrays[f"{case}/boxes"], arrays[f"{case}/scores"]
    n = len(boxes)
    padding = (4096 if n <= 4096 else 12_000) - n
    kept = nms(
        np.pad(boxes, [(0, padding), (0, 0)]),
        np.pad(scores, (0, padding)),
        valid=np.arange(n + padding) < n,
        groups=None if groups is None else np.pad(groups, (0, padding)),
        max_outputs=n + padding,
        **settings,
    )
    return np.asarray(kept.indices)[np.asarray(kept.valid)].tolist()


keep_legacy = functools.partial(keep, pixel_offset=1.0)


@THRESHOLDS
def test_keeps_what_torchvision_keeps(golden, iou_threshold):
    arrays = golden("torchvision", "nms")
    cases = cases_of(arrays, without=("nan",))
    for case in cases:
        expected = arrays[f"{case}/keep_iou{iou_threshold}_f32"].tolist()
        assert keep(arrays, case, iou_threshold=iou_threshold) == expected, case
    assert len(cases) > 20


@THRESHOLDS
def test_keeps_what_torchvision_keeps_of_each_level(golden, iou_threshold):
    arrays = golden("torchvision", "batched_nms")
    for case in cases_of(arrays):
        groups = arrays[f"{case}/levels"]
        expected = arrays[f"{case}/keep_iou{iou_threshold}_f32"].tolist()
        actual = keep(arrays, case, groups=groups, iou_threshold=iou_threshold)
        assert actual == expected, case


@THRESHOLDS
def test_keeps_what_torchvision_keeps_but_for_boxes_with_nan(golden, iou_threshold):
    arrays, case = golden("torchvision", "nms"), "nan_boxes_n100"
    kept_there = arrays[f"{case}/keep_iou{iou_threshold}_f32"]
    finite = np.isfinite(arrays[f"{case}/boxes"][kept_there]).all(axis=1)
    assert not finite.all()
    expected = kept_there[finite].tolist()
    assert keep(arrays, case, iou_threshold=iou_threshold) == expected


def test_never_keeps_a_nan_score_which_torchvision_ranks_first(golden):
    arrays, case = golden("torchvision", "nms"), "nan_score_n100"
    is_nan = np.isnan(arrays[f"{case}/scores"])
    assert is_nan[arrays[f"{case}/keep_iou0.7_f32"]].any()
    assert not is_nan[keep(arrays, case, iou_threshold=0.7)].any()


@THRESHOLDS
def test_keeps_what_the_numpy_code_of_py_faster_rcnn_keeps(golden, iou_threshold):
    arrays = golden("pyfrcnn", "nms")
    for case in cases_of(arrays, without=UNSPECIFIED + UNDEFINED):
        expected = arrays[f"{case}/keep_numpy_iou{iou_threshold}"].tolist()
        assert keep_legacy(arrays, case, iou_threshold=iou_threshold) == expected, case


@THRESHOLDS
def test_keeps_what_the_cython_code_of_py_faster_rcnn_keeps(golden, iou_threshold):
    arrays = golden("pyfrcnn", "nms")
    # It asks whether a float32 is at least a double. No float32 equals 0.7 or 0.9.
    inclusive = float(np.float32(iou_threshold)) == iou_threshold
    rule = {"iou_threshold": iou_threshold, "inclusive_threshold": inclusive}
    for case in cases_of(arrays, without=UNSPECIFIED + UNDEFINED):
        expected = arrays[f"{case}/keep_cython_iou{iou_threshold}"].tolist()
        assert keep_legacy(arrays, case, **rule) == expected, case
