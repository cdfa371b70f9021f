"""Counts of anchors for every object, against loops over anchors and objects."""

import jax
import jax.numpy as jnp
import numpy as np
from support import reference

import rpn_jax
from rpn_jax.core.matching.per_object import count_per_object

ANCHORS = rpn_jax.AnchorConfig(sizes=(16, 32), strides=(8, 16), rounding="corners")
SHAPES = [(4, 5), (2, 3)]
GRID = rpn_jax.make_anchors(ANCHORS, SHAPES)
BOXES = reference.make_anchors(ANCHORS, SHAPES)
ROWS = 5


def counts_by_hand(labels, gt_index, boxes, valid, offset):
    """Visits every anchor and every object."""
    positives = np.zeros((ROWS, 2), int)
    ignored = np.zeros((ROWS, 2), int)
    for i, (x0, y0, x1, y1) in enumerate(BOXES.tolist()):
        level = int(i >= GRID.level_sizes[0])
        x, y = (x0 + x1 + offset) / 2, (y0 + y1 + offset) / 2
        for j, (left, top, right, bottom) in enumerate(boxes.tolist()):
            if not valid[j] or not reference.is_proper(boxes[j]):
                continue
            if labels[i] == 1 and gt_index[i] == j:
                positives[j, level] += 1
            is_inside = left < x < right + offset and top < y < bottom + offset
            if labels[i] == -1 and is_inside:
                ignored[j, level] += 1
    return positives, ignored


def test_counts_are_those_of_loops_for_grids_boxes_and_batches():
    rng = np.random.default_rng(0)
    labels = rng.integers(-1, 2, (2, len(BOXES)))
    gt_index = rng.integers(0, ROWS - 2, (2, len(BOXES)))
    boxes = np.stack([reference.random_boxes(rng, ROWS, 40) for _ in range(2)])
    boxes[:, 0] = [1.0, 2.0, 33.0, 27.0]
    valid = np.ones((2, ROWS), bool)
    valid[:, -1] = False
    boxes[0, -1] = np.nan  # padding
    boxes[:, -2, 2:] = boxes[:, -2, :2]  # degenerate
    matches = rpn_jax.Matches(
        jnp.asarray(labels, jnp.int32),
        jnp.asarray(gt_index, jnp.int32),
        jnp.zeros(labels.shape, jnp.float32),
    )

    def count(anchors):
        return jax.vmap(
            lambda *of_image: count_per_object(
                of_image[0],
                anchors,
                *of_image[1:],
                level_sizes=GRID.level_sizes,
                pixel_offset=1.0,
            )
        )(matches, boxes, valid)

    found = jax.jit(lambda: (count(GRID), count(BOXES)))()
    for i in range(2):
        expected = counts_by_hand(labels[i], gt_index[i], boxes[i], valid[i], 1.0)
        assert min(x.sum() for x in expected) > 0
        for of_form in found:
            for part, by_hand in zip(of_form, expected, strict=True):
                np.testing.assert_array_equal(part[i], by_hand)
