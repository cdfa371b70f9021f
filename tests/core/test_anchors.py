"""Cell anchors, and the grid that repeats them."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import reference

import rpn_jax
from rpn_jax import AnchorConfig

SHAPES = [(3, 5), (2, 3)]
TWO_LEVELS = AnchorConfig(sizes=(32, 64), strides=(8, 16))
CONFIGS = {
    "plain": TWO_LEVELS,
    "half_a_stride": dataclasses.replace(TWO_LEVELS, center_offset=0.5),
    "several_sizes": AnchorConfig(sizes=((8, 12.5), (33, 47)), strides=(8, 16)),
    "several_sizes_first": AnchorConfig(
        sizes=((8, 12.5), (33, 47)), strides=(8, 16), cell_order="size_major"
    ),
    "more_sizes_on_one_level": AnchorConfig(sizes=(8, (16, 32)), strides=(8, 16)),
    "octaves": dataclasses.replace(TWO_LEVELS, scales_per_octave=3),
    "octaves_first": dataclasses.replace(
        TWO_LEVELS, scales_per_octave=3, cell_order="size_major"
    ),
    "oblong_strides": AnchorConfig(
        sizes=(32, 64), strides=((4, 8), (16, 8)), center_offset=0.5
    ),
    "odd_ratios": dataclasses.replace(TWO_LEVELS, aspect_ratios=(0.33, 1.7)),
    "rounded": dataclasses.replace(TWO_LEVELS, rounding="corners"),
    "rounded_halves": AnchorConfig(
        sizes=((1, 3, 5, 33, 35),),
        strides=(16,),
        aspect_ratios=(1.0,),
        rounding="corners",
    ),
    "legacy": AnchorConfig(sizes=((128, 256, 512),), strides=(16,), rounding="legacy"),
    "legacy_with_another_base": AnchorConfig(
        sizes=((32, 56),), strides=(8,), rounding="legacy", base_size=8
    ),
    "legacy_sizes_first": AnchorConfig(
        sizes=((128, 256),), strides=(16,), rounding="legacy", cell_order="size_major"
    ),
}
EVERY_CONFIG = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


@EVERY_CONFIG
def test_cells_match_oracle_to_the_bit(config):
    cells = rpn_jax.cell_anchors(config)
    chex.assert_trees_all_equal(cells, tuple(reference.cell_anchors(config)))


@EVERY_CONFIG
def test_anchors_match_oracle_to_the_bit(config):
    shapes = SHAPES[: len(config.strides)]
    boxes = rpn_jax.make_anchors(config, shapes).boxes
    assert boxes.dtype == jnp.float32
    np.testing.assert_array_equal(boxes, reference.make_anchors(config, shapes))


def test_legacy_cells_are_those_of_the_original():
    expected = [
        [-84, -40, 99, 55],
        [-176, -88, 191, 103],
        [-360, -184, 375, 199],
        [-56, -56, 71, 71],
        [-120, -120, 135, 135],
        [-248, -248, 263, 263],
        [-36, -80, 51, 95],
        [-80, -168, 95, 183],
        [-168, -344, 183, 359],
    ]
    (cell,) = rpn_jax.cell_anchors(CONFIGS["legacy"])
    np.testing.assert_array_equal(cell, np.array(expected, np.float32))


def test_rounding_goes_half_to_even():
    (cell,) = rpn_jax.cell_anchors(CONFIGS["rounded_halves"])
    np.testing.assert_array_equal(cell[:, 2], [0, 2, 2, 16, 18])


def test_the_padded_image_may_decide_the_strides():
    config = AnchorConfig(sizes=(512,), strides=(64,), rounding="corners")
    grid = rpn_jax.make_anchors(config, [(13, 21)], (800, 1344))
    expected = reference.make_anchors(config, [(13, 21)], (800, 1344))
    np.testing.assert_array_equal(grid.boxes, expected)
    height_of_cell = grid.boxes[21 * 3, 1] - grid.boxes[0, 1]
    assert height_of_cell == 61


@EVERY_CONFIG
def test_a_grid_counts_its_anchors(config):
    shapes = SHAPES[: len(config.strides)]
    grid = rpn_jax.make_anchors(config, shapes)
    cells = reference.cell_anchors(config)
    sizes = [
        height * width * len(cell)
        for (height, width), cell in zip(shapes, cells, strict=True)
    ]
    assert list(grid.level_sizes) == sizes
    assert len(grid) == sum(sizes) == grid.boxes.shape[0]


@given(
    shape=st.sampled_from([(1, 1), (1, 4), (4, 3)]),
    stride=st.tuples(st.integers(1, 64), st.integers(1, 64)),
    size=st.floats(1.0, 512.0),
    ratio=st.floats(0.2, 5.0),
)
def test_unrounded_anchors_keep_area_ratio_and_spacing(shape, stride, size, ratio):
    config = AnchorConfig(sizes=(size,), strides=(stride,), aspect_ratios=(ratio,))
    boxes = np.asarray(rpn_jax.make_anchors(config, [shape]).boxes)
    sides = boxes[:, 2:] - boxes[:, :2]
    np.testing.assert_allclose(sides.prod(axis=1), size**2, rtol=1e-3)
    np.testing.assert_allclose(sides[:, 1] / sides[:, 0], ratio, rtol=1e-3)
    rows = boxes.reshape(*shape, 4)
    np.testing.assert_allclose(np.diff(rows[:, 0, 1]), stride[0], rtol=1e-3)
    np.testing.assert_allclose(np.diff(rows[0, :, 0]), stride[1], rtol=1e-3)


def test_a_grid_is_a_constant_to_jax():
    grid, same = (rpn_jax.make_anchors(TWO_LEVELS, SHAPES) for _ in range(2))
    other = rpn_jax.make_anchors(TWO_LEVELS, [(3, 5), (2, 2)])
    assert grid == same != other
    assert hash(grid) == hash(same)
    assert jax.tree.leaves(grid) == []


def test_equal_grids_share_one_trace_of_jit():
    @jax.jit
    @chex.assert_max_traces(n=1)
    def first_anchor(grid):
        return grid.boxes[0]

    for _ in range(2):
        first_anchor(rpn_jax.make_anchors(TWO_LEVELS, SHAPES))


@pytest.mark.parametrize("shapes", [[], [(3, 5)], [(3, 5)] * 3, [(3, 5), (0, 2)]])
def test_shapes_that_do_not_fit_the_levels_are_refused(shapes):
    with pytest.raises(ValueError, match="make_anchors needs"):
        rpn_jax.make_anchors(TWO_LEVELS, shapes)
