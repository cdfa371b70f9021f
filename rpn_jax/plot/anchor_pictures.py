"""Pictures of anchors: their places, their labels, and values per anchor."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..core._typing import Array, Bool, Float, Int
from ..core.anchors import AnchorGrid, AnchorLevel
from ..core.matching.match import Matches
from . import canvas
from .canvas import Pixels


def draw_anchors(
    ax: Axes, grid: AnchorGrid, *, level: int = 0, cell: tuple[int, int] | None = None
) -> None:
    """Draws the origins of all cells of a level, and all anchors of one cell.

    Args:
        ax: the axes to draw into, usually those of an image.
        grid: the anchors.
        level: index of the level.
        cell: `(row, column)` of the cell; None takes the cell in the middle.

    >>> from rpn_jax import AnchorConfig, make_anchors
    >>> _, (ax,) = canvas.image_axes([np.zeros((48, 64, 3), np.uint8)], columns=1)
    >>> grid = make_anchors(AnchorConfig(sizes=(24,), strides=(16,)), [(3, 4)])
    >>> draw_anchors(ax, grid)
    """
    # A point marks the origin of each cell, and a larger one that of the chosen cell.
    chosen = grid.levels[level]
    height, width = chosen.shape
    row, column = cell or (height // 2, width // 2)
    x, y = np.meshgrid(chosen.origins(1), chosen.origins(0))
    step = f"{chosen.stride[0]} px" if len(set(chosen.stride)) == 1 else chosen.stride
    label = f"{height} x {width} cells, every {step}"
    _draw_points(ax, x, y, "white", label, s=4, edgecolors="black", linewidths=0.4)
    ax.scatter(x[row, column], y[row, column], s=30, color="black", zorder=3)
    # The edges of a level are those of each shape in each row and column.
    edges = *chosen.x_edges(), *chosen.y_edges()
    left, right = (edge[:, column] for edge in edges[:2])
    top, bottom = (edge[:, row] for edge in edges[2:])
    boxes = np.stack([left, top, right, bottom], axis=1)
    # The anchors of one aspect ratio share a colour and a line in the legend.
    sides = boxes[:, 2:] - boxes[:, :2]
    aspects = np.round(sides[:, 1] / sides[:, 0], 1)
    for aspect, color in zip(np.unique(aspects), _cycle(len(boxes)), strict=False):
        same = boxes[aspects == aspect]
        label = f"anchors, height / width {aspect:g}"
        canvas.draw_boxes(ax, same, color, cased=True, label=label)


def draw_labels(
    ax: Axes,
    grid: AnchorGrid,
    matches: Matches,
    gt_boxes: Float[Array, "m 4"],
    *,
    sampled: Int[Array, " n"] | None = None,
    boxes: Float[Array, "n 4"] | None = None,
) -> None:
    """Draws which anchors are positive, negative or ignored.

    A positive anchor is a box in the colour of its object. A negative anchor is a point
    in its centre. A grey square marks a cell that has an ignored anchor.

    Args:
        ax: the axes to draw into, usually those of the image.
        grid: the anchors.
        matches: the labels of the anchors before sampling.
        gt_boxes: the objects, without padding rows.
        sampled: the labels after sampling, which select the anchors to draw; None draws
            all positive anchors and no negative ones.
        boxes: the anchors, if they are not where the grid has them.

    >>> from rpn_jax import AnchorConfig, Matches, make_anchors
    >>> grid = make_anchors(AnchorConfig(sizes=(24,), strides=(16,)), [(3, 4)])
    >>> labels, no = np.arange(36) == 20, np.zeros(36, int)
    >>> matches = Matches(labels.astype(int), no, labels.astype(float))
    >>> boxes = np.array([[10.0, 5, 40, 30]])
    >>> _, (ax,) = canvas.image_axes([np.zeros((48, 64, 3), np.uint8)], columns=1)
    >>> draw_labels(ax, grid, matches, boxes)
    """
    before = np.asarray(matches.labels)
    after = before if sampled is None else np.asarray(sampled)
    boxes = np.asarray(grid.boxes if boxes is None else boxes)
    gt_boxes = np.asarray(gt_boxes)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2.0
    positive, negative = after == 1, (after == 0) & (sampled is not None)
    # Later drawings lie on top: ignored cells, negatives, positives, objects.
    _draw_ignored(ax, grid, before == -1)
    label = _counted("negative", negative, before == 0, sampled)
    x, y = centres[negative].T
    _draw_points(ax, x, y, canvas.NEGATIVE, label, zorder=2.5)
    owner = np.asarray(matches.gt_index)
    colors = _cycle(len(gt_boxes))
    own = [colors[row] for row in owner[positive].tolist()]
    label = _counted("positive", positive, before == 1, sampled)
    canvas.draw_boxes(ax, boxes[positive], own, line_width=0.9, alpha=0.9, label=label)
    label = f"{len(gt_boxes)} objects"
    canvas.draw_boxes(ax, gt_boxes, colors, line_width=2.5, cased=True, label=label)


def plot_labels(
    image: Pixels,
    grid: AnchorGrid,
    matches: Matches,
    gt_boxes: Float[Array, "m 4"],
    *,
    sampled: Int[Array, " n"] | None = None,
) -> Figure:
    """Draws the labels of anchors on their image, with a legend.

    Except for `image`, the arguments are those of `draw_labels`.

    >>> from rpn_jax import AnchorConfig, Matches, make_anchors
    >>> grid = make_anchors(AnchorConfig(sizes=(24,), strides=(16,)), [(3, 4)])
    >>> labels, no = np.arange(36) == 20, np.zeros(36, int)
    >>> matches = Matches(labels.astype(int), no, labels.astype(float))
    >>> boxes = np.array([[10.0, 5, 40, 30]])
    >>> figure = plot_labels(np.zeros((48, 64, 3), np.uint8), grid, matches, boxes)
    """
    figure, (ax,) = canvas.image_axes([image], columns=1)
    draw_labels(ax, grid, matches, gt_boxes, sampled=sampled)
    canvas.legend_below(figure, ax)
    return figure


def draw_heat(
    ax: Axes,
    level: AnchorLevel,
    heat: Float[Array, "h w"],
    *,
    limits: tuple[float, float] = (0.0, 1.0),
) -> None:
    """Lays one number per cell over an image. Higher numbers are brighter.

    Args:
        ax: the axes to draw into, usually those of the image.
        level: gives the places of the cells.
        heat: the number of every cell.
        limits: the numbers that are drawn darkest and brightest.

    >>> from rpn_jax import AnchorConfig, make_anchors
    >>> grid = make_anchors(AnchorConfig(sizes=(24,), strides=(16,)), [(3, 4)])
    >>> _, (ax,) = canvas.image_axes([np.zeros((48, 64, 3), np.uint8)], columns=1)
    >>> draw_heat(ax, grid.levels[0], np.eye(3, 4))
    """
    # A cell is a rectangle of one stride around its origin.
    (step_y, step_x), (y, x) = level.stride, level.origin
    left, top = x - step_x / 2.0, y - step_y / 2.0
    ax.imshow(
        np.asarray(heat),
        extent=(
            left,
            left + step_x * level.shape[1],
            top + step_y * level.shape[0],
            top,
        ),
        cmap="viridis",
        vmin=limits[0],
        vmax=limits[1],
        alpha=0.65,
        interpolation="nearest",
    )


def plot_heat(
    image: Pixels,
    grid: AnchorGrid,
    values: Float[Array, " n"],
    *,
    name: str,
    levels: Sequence[int] | None = None,
    limits: tuple[float, float] = (0.0, 1.0),
) -> Figure:
    """Plots the highest value among the anchors of every cell, one image per level.

    Args:
        image: the image in RGB.
        grid: the anchors.
        values: one value per anchor, such as the probability of an object or an IoU.
        name: the name of the values, for the scale.
        levels: indices of the levels to plot; None plots all levels.
        limits: the values that are drawn darkest and brightest.

    >>> from rpn_jax import AnchorConfig, make_anchors
    >>> grid = make_anchors(AnchorConfig(sizes=(24,), strides=(16,)), [(3, 4)])
    >>> image, values = np.zeros((48, 64, 3), np.uint8), np.linspace(0, 1, len(grid))
    >>> figure = plot_heat(image, grid, values, name="score")
    >>> figure.axes[0].get_title()
    'cells of 16 px: up to 1.00'
    """
    chosen = range(len(grid.levels)) if levels is None else levels
    figure, axes = canvas.image_axes([image] * len(chosen), columns=3)
    parts = np.split(np.asarray(values), np.cumsum(grid.level_sizes)[:-1])
    height, width = image.shape[:2]
    for ax, index in zip(axes, chosen, strict=True):
        level = grid.levels[index]
        heat = parts[index].reshape(*level.shape, -1).max(axis=2)
        draw_heat(ax, level, heat, limits=limits)
        ax.set(xlim=(0, width), ylim=(height, 0))
        ax.set_title(f"cells of {level.stride[0]} px: up to {heat.max():.2f}", size=9)
    # One scale serves all images, because they share the limits of the values.
    bar = figure.colorbar(axes[0].images[-1], ax=axes, shrink=0.8, pad=0.01)
    bar.set_label(f"{name}, highest in each cell")
    canvas.plain(bar.ax.yaxis.label)
    return figure


def _cycle(number: int) -> list[str]:
    """A colour for each object; the colours repeat."""
    return [canvas.OBJECTS[i % len(canvas.OBJECTS)] for i in range(number)]


def _counted(
    name: str,
    drawn: Bool[np.ndarray, " n"],
    labelled: Bool[np.ndarray, " n"],
    sampled: Int[Array, " n"] | None,
) -> str:
    """The legend of a label: its number of anchors, and how many were sampled."""
    if sampled is None:
        return f"{name}: {labelled.sum():,} anchors"
    return f"{name}: {drawn.sum():,} sampled of {labelled.sum():,}"


def _draw_ignored(ax: Axes, grid: AnchorGrid, ignored: Bool[np.ndarray, " n"]) -> None:
    """Marks every cell that has an ignored anchor."""
    # One mark stands for all ignored anchors of a cell, because they have the same
    # origin.
    parts = np.split(ignored, np.cumsum(grid.level_sizes)[:-1])
    places = []
    for level, part in zip(grid.levels, parts, strict=True):
        rows, columns = np.nonzero(part.reshape(*level.shape, -1).any(axis=2))
        places.append(np.stack([level.origins(1)[columns], level.origins(0)[rows]]))
    label = f"ignored: {ignored.sum():,} anchors"
    x, y = np.concatenate(places, axis=1)
    _draw_points(ax, x, y, canvas.IGNORED, label, marker="s", alpha=0.7)


def _draw_points(
    ax: Axes,
    x: Float[np.ndarray, "*points"],
    y: Float[np.ndarray, "*points"],
    color: str,
    label: str,
    **style: Any,
) -> None:
    """Draws points with edges, so that they stand out on any image."""
    edges = {"s": 14, "edgecolors": "white", "linewidths": 0.5}
    ax.scatter(x, y, color=color, label=label, **(edges | style))
