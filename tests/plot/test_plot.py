"""Pictures: the numbers they show and the places they draw at, not their look."""

import io

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.collections import LineCollection, PathCollection

from rpn_jax import AnchorConfig, Matches, make_anchors, plot
from rpn_jax.anchor_report import ImageBoxes, inspect_anchors
from rpn_jax.data.image_source import GroundTruth
from rpn_jax.evaluate import ImageProposals, evaluate
from rpn_jax.plot.curves import smooth

IMAGE = np.full((48, 64, 3), 200, np.uint8)
GRID = make_anchors(AnchorConfig(sizes=(16, 32), strides=(8, 16)), [(6, 8), (3, 4)])
BOXES = np.array([[4, 4, 20, 24], [30, 10, 60, 40]], np.float32)


def truth_of(boxes, *, is_ignored=None, name="one.jpg"):
    ignored = np.zeros(len(boxes), bool) if is_ignored is None else is_ignored
    return GroundTruth(
        1, (48, 64), boxes, ignored, np.ones(len(boxes), np.float32), name
    )


def rendered(figure):
    """The picture, drawn without a display; warnings are errors."""
    with io.BytesIO() as file:
        figure.savefig(file, format="png")
        return file.getvalue()


def texts(figure):
    legends = [*figure.legends, *(ax.get_legend() for ax in figure.axes)]
    entries = [text for legend in legends if legend for text in legend.get_texts()]
    titles = [ax.title for ax in figure.axes]
    return [text.get_text() for text in [*entries, *titles]]


def box_lines(ax):
    """The corners of all boxes in the axes, `[k 5 2]`."""
    lines = [x for x in ax.collections if isinstance(x, LineCollection)]
    return [np.asarray(segment) for line in lines for segment in line.get_segments()]


def some_matches(positive=(), ignored=()):
    labels = np.zeros(len(GRID), np.int32)
    labels[list(positive)], labels[list(ignored)] = 1, -1
    index = np.zeros(len(GRID), np.int32)
    index[list(positive)[1:]] = 1
    return Matches(*map(jnp.asarray, (labels, index, np.zeros(len(GRID), np.float32))))


def test_boxes_are_drawn_at_their_corners():
    figure, (ax,) = plot.image_axes([IMAGE], columns=1)
    plot.draw_boxes(ax, BOXES, "red")
    for line, (x0, y0, x1, y1) in zip(box_lines(ax), BOXES, strict=True):
        corners = [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]
        np.testing.assert_array_equal(line, corners)
    assert (ax.get_xlim(), ax.get_ylim()) == ((0, 64), (48, 0))
    assert rendered(figure)


def test_no_window_and_no_global_figure_is_made():
    from matplotlib import _pylab_helpers

    rendered(plot.new_figure(2, 2))
    assert not _pylab_helpers.Gcf.figs


def test_images_stand_in_a_grid_and_empty_places_are_blank():
    figure, axes = plot.image_axes([IMAGE] * 5, columns=3)
    assert len(axes) == 5
    assert [ax.axison for ax in figure.axes] == [True] * 5 + [False]


def test_the_picture_of_labels_counts_them():
    matches = some_matches(positive=(3, 50, 51), ignored=(7, 8))
    sampled = np.full(len(GRID), -1, np.int32)
    sampled[[3, 50]], sampled[[100, 101, 102, 103]] = 1, 0
    figure = plot.plot_labels(IMAGE, GRID, matches, BOXES, sampled=sampled)
    negatives = len(GRID) - 5
    assert texts(figure)[:4] == [
        "ignored: 2 anchors",
        f"negative: 4 sampled of {negatives}",
        "positive: 2 sampled of 3",
        "2 objects",
    ]
    assert rendered(figure)


def test_positives_are_drawn_in_the_colour_of_their_object():
    matches = some_matches(positive=(3, 50))
    figure = plot.plot_labels(IMAGE, GRID, matches, BOXES)
    positives, objects = (
        x for x in figure.axes[0].collections if isinstance(x, LineCollection)
    )
    expected = np.asarray(GRID.boxes)[[3, 50]]
    np.testing.assert_array_equal(
        [segment[[0, 2]].ravel() for segment in positives.get_segments()], expected
    )
    colors = [np.asarray(lines.get_colors())[:, :3] for lines in (positives, objects)]
    np.testing.assert_array_equal(colors[0], colors[1])


def test_sampled_negatives_are_points_in_the_middle_of_their_anchor():
    sampled = np.full(len(GRID), -1, np.int32)
    sampled[40] = 0
    figure = plot.plot_labels(IMAGE, GRID, some_matches(), BOXES, sampled=sampled)
    points = [x for x in figure.axes[0].collections if isinstance(x, PathCollection)]
    x0, y0, x1, y1 = np.asarray(GRID.boxes)[40]
    middle = [[(x0 + x1) / 2, (y0 + y1) / 2]]
    np.testing.assert_allclose(np.asarray(points[1].get_offsets()), middle)


def test_an_image_without_objects_has_a_picture_of_labels():
    none = np.zeros((0, 4), np.float32)
    figure = plot.plot_labels(IMAGE, GRID, some_matches(), none)
    assert "0 objects" in texts(figure)
    assert rendered(figure)


@pytest.mark.parametrize("cell", [None, (0, 0), (1, 3)])
def test_the_anchors_of_a_cell_are_drawn(cell):
    figure, (ax,) = plot.image_axes([IMAGE], columns=1)
    plot.draw_anchors(ax, GRID, level=1, cell=cell)
    row, column = cell or (1, 2)
    first = GRID.level_sizes[0] + (row * 4 + column) * 3
    expected = np.asarray(GRID.boxes)[first : first + 3]
    drawn = [line[[0, 2]].ravel() for line in box_lines(ax)]
    np.testing.assert_allclose(sorted(map(tuple, drawn)), sorted(map(tuple, expected)))
    plot.legend_below(figure, ax)
    assert rendered(figure)


def test_heat_is_the_highest_value_of_each_cell():
    values = np.zeros(len(GRID), np.float32)
    values[[0, 1, 5]] = 0.25, 0.75, 0.5
    figure = plot.plot_heat(IMAGE, GRID, values, name="probability")
    heat = figure.axes[0].images[-1]
    assert np.asarray(heat.get_array())[0, :3].tolist() == [0.75, 0.5, 0.0]
    # The centre of a cell is where its anchors are: at (0, 0), 8 px apart.
    assert heat.get_extent() == [-4.0, 60.0, 44.0, -4.0]
    assert texts(figure)[0] == "cells of 8 px: up to 0.75"
    assert rendered(figure)


def test_the_picture_of_proposals_says_what_was_found():
    ignored = np.concatenate([BOXES, [[0, 0, 9, 9]]]).astype(np.float32)
    truth = truth_of(ignored, is_ignored=np.array([False, False, True]))
    near, far = BOXES[:1] + 1, np.array([[0, 40, 5, 45]], np.float32)
    boxes, scores = np.concatenate([far, near, BOXES[1:]]), np.array([3.0, 2.0, 1.0])
    proposals = ImageProposals(1, boxes, scores.astype(np.float32))
    figure = plot.plot_proposals([IMAGE], [truth], [proposals], top_k=2)
    assert "one.jpg: 1 of 2 found by 2" in texts(figure)
    assert rendered(figure)


@pytest.mark.parametrize("number", [0, 2])
def test_proposals_and_objects_may_be_absent(number):
    nothing = ImageProposals(1, np.zeros((0, 4), np.float32), np.zeros(0, np.float32))
    figure = plot.plot_proposals([IMAGE], [truth_of(BOXES[:number])], [nothing])
    assert f"one.jpg: 0 of {number} found by 0" in texts(figure)
    assert rendered(figure)


def test_losses_may_hold_steps_that_were_left_out():
    steps = np.arange(50)
    losses = {"objectness": np.linspace(0.7, 0.1, 50), "box": np.full(50, np.nan)}
    losses["objectness"][7] = np.inf
    figure = plot.plot_losses(steps, losses, np.full(50, 0.01))
    assert texts(figure)[:3] == ["objectness", "box", "learning rate"]
    assert rendered(figure)


@pytest.mark.parametrize("number", [0, 1])
def test_a_training_that_has_hardly_begun_has_curves(number):
    figure = plot.plot_losses(
        np.arange(number), {"loss": np.ones(number)}, np.ones(number)
    )
    assert rendered(figure)


def test_smoothing_is_a_weighted_mean_of_what_came_before():
    values = np.array([3.0, np.nan, 1.0, 5.0, np.inf, 2.0])
    seen, expected = [], []
    for value in values:
        seen += [value] if np.isfinite(value) else []
        weights = 0.75 ** np.arange(len(seen))[::-1]
        expected.append(np.sum(weights * seen) / weights.sum())
    np.testing.assert_allclose(smooth(values, 4.0), expected)


@pytest.mark.parametrize("boxes", [BOXES, BOXES[:0]])
def test_recall_is_drawn_with_and_without_objects(boxes):
    proposals = ImageProposals(1, BOXES, np.ones(2, np.float32))
    figure = plot.plot_recall(evaluate([truth_of(boxes)], [proposals]))
    assert [ax.get_ylabel()[-6:] for ax in figure.axes] == ["recall", "o 0.95"]
    assert rendered(figure)


@pytest.mark.parametrize("number", [0, 2, 3000])
def test_shapes_are_drawn_for_any_number_of_boxes(number):
    sides = np.random.default_rng(number).uniform(4, 40, (number, 2))
    boxes = np.concatenate([np.zeros((number, 2)), sides], axis=1).astype(np.float32)
    image = ImageBoxes(boxes, (48.0, 64.0), (48, 64))
    config = AnchorConfig(sizes=(16, 32), strides=(8, 16))
    report = inspect_anchors([image], anchors=config, max_matched_images=0)
    figure = plot.plot_anchor_report(report)
    shapes = figure.axes[0]
    assert shapes.get_xlim() == shapes.get_ylim()
    extreme = [
        *sides.ravel(),
        32 * 2**0.5,
        16 / 2**0.5,
    ]  # sides of boxes and of anchors
    low, high = shapes.get_xlim()
    assert low < 0.9 * min(extreme)
    assert high > 1.1 * max(extreme)
    assert f"{number:,} boxes" in texts(figure)
    assert rendered(figure)


# File names that matplotlib would read as formulas, or cannot draw at all.
ODD_NAMES = [
    "a_$5_$^_6.jpg",
    "$$.jpg",
    "$\\frac{$.jpg",
    "\\$x_1$.jpg",
    "caf\udce9.jpg",
    "two\nlines.jpg",
    "\x00\x07.jpg",
    "%s {0}.jpg",
    "",
]


@pytest.mark.filterwarnings("ignore:Glyph")
def test_the_name_of_an_image_is_no_formula():
    nothing = ImageProposals(1, np.zeros((0, 4), np.float32), np.zeros(0, np.float32))
    truths, number = [truth_of(BOXES, name=name) for name in ODD_NAMES], len(ODD_NAMES)
    figure = plot.plot_proposals([IMAGE] * number, truths, [nothing] * number)
    for name, ax in zip(ODD_NAMES, figure.axes, strict=True):
        assert ax.title.get_parse_math() is False
        assert name[:3] in ax.title.get_text() or not name.isprintable()
    assert rendered(figure)


@pytest.mark.parametrize("name", ["$_^$", "caf\udce9"])
@pytest.mark.filterwarnings("ignore:Glyph")
def test_names_of_values_are_no_formulas(name):
    figure = plot.plot_heat(IMAGE, GRID, np.zeros(len(GRID), np.float32), name=name)
    assert rendered(figure)
    steps = np.arange(5)
    assert rendered(plot.plot_losses(steps, {name: steps / 9}, steps / 9))
    figure, (ax,) = plot.image_axes([IMAGE], columns=1)
    plot.draw_boxes(ax, BOXES, "red", label=name)
    plot.legend_below(figure, ax)
    assert rendered(figure)
    rows = {"rows": (name, (8, 16)), "columns": (name, (1.0, 2.0))}
    assert rendered(plot.plot_landscapes({name: np.eye(2)}, **rows))


@pytest.mark.parametrize("shape", [(3000, 1, 3), (1, 3000, 3)])
def test_a_strip_of_an_image_has_a_picture(shape):
    figure, _ = plot.image_axes([np.zeros(shape, np.uint8)], columns=1)
    assert max(figure.get_size_inches()) < 50
    assert rendered(figure)
