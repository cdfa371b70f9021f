"""Predictions of a small grid, for programs that were exported."""

import subprocess
import sys

import numpy as np

import rpn_jax

ANCHORS = rpn_jax.AnchorConfig(sizes=(16, 32), strides=(8, 16))
SHAPES, IMAGE = [(5, 7), (3, 4)], (40, 56)
RULES = rpn_jax.ProposalConfig(
    pre_nms_top_k=60, post_nms_top_k=40, min_size=2.0, iou_threshold=0.5
)
GRID = rpn_jax.make_anchors(ANCHORS, SHAPES)
NUMBER = len(GRID)


def make_cases(number=1000, seed=0):
    """Logits, deltas and sizes of images of many kinds, one kind after the other.

    The kinds are: random; equal logits; a few distinct logits and boxes, so that both
    tie; NaN and infinities among both; all NaN, so that nothing is proposed; and one
    box at all anchors of an image, so that all but one is suppressed.
    """
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (number, NUMBER)).astype(np.float32)
    deltas = rng.normal(0, 0.4, (number, NUMBER, 4)).astype(np.float32)
    sizes = rng.uniform(20, IMAGE, (number, 2)).astype(np.float32)
    kind = np.arange(number) % 6
    logits[kind == 1] = np.round(logits[kind == 1, :1])
    logits[kind == 2] = np.round(logits[kind == 2] / 3) * np.float32(0.5)
    deltas[kind == 2] = np.round(deltas[kind == 2])
    odd = rng.choice(
        np.array([np.nan, np.inf, -np.inf, -0.0], np.float32), logits.shape
    )
    is_odd = (kind == 3)[:, None] & (rng.random(logits.shape) < 0.3)
    logits = np.where(is_odd, odd, logits)
    is_odd = (kind == 3)[:, None] & (rng.random(logits.shape) < 0.3)
    deltas[..., 1] = np.where(is_odd, odd, deltas[..., 1])
    logits[kind == 4] = np.nan
    # Deltas that carry every anchor to the box of the first image.
    boxes = np.asarray(GRID.boxes)
    side, center = boxes[:, 2:] - boxes[:, :2], (boxes[:, 2:] + boxes[:, :2]) / 2
    shift, scale = (np.array([20, 18], np.float32) - center) / side, np.log(24 / side)
    deltas[kind == 5] = np.concatenate([shift, scale], axis=1)
    return logits, deltas, sizes


def check_same(actual, expected):
    """The same rows, scores within rounding, and boxes within 1e-4 pixels."""
    np.testing.assert_array_equal(actual.valid, expected.valid)
    np.testing.assert_allclose(actual.boxes, expected.boxes, rtol=0, atol=1e-4)
    np.testing.assert_allclose(actual.scores, expected.scores, rtol=1e-5, atol=1e-7)


def read_elsewhere(code, path, folder):
    """The proposals in the 1,000 cases, from a process that cannot import rpn_jax."""
    given, found = folder / "given.npz", folder / "found.npz"
    names = ("logits", "deltas", "image_sizes")
    np.savez(given, **dict(zip(names, make_cases(), strict=True)))
    command = [sys.executable, "-c", code, path, given, found]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    with np.load(found) as arrays:
        return rpn_jax.Proposals(**arrays), done.stdout
