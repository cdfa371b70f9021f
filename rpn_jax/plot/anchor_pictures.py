"""Pictures of anchors: where they are, how they are labelled, what a head says."""

from collections.abc import Sequence

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
    """Draws the origins of a level's cells, and all anchors of one of them.

    Args:
        ax: where to draw, on an image as a rule.
        grid: the anchors.
        level: which feature map.
        cell: `(row, column)`; None takes the one in the middle.
    """
    chosen = grid.levels[level]
    height, width = chosen.shape
    row, column = cell or (height // 2, width // 2)
    x, y = np.meshgrid(chosen.origins(1), chosen.origins(0))
    step = f"{chosen.stride[0]} px" if len(set(chosen.stride)) == 1 else chosen.stride
    ax.scatter(
        x,
        y,
        s=4,
        color="white",
        edgecolors="black",
        linewidths=0.4,
        label=f"{height} x {width} cells, every {step}",
    )
    edges = *chosen.x_edges(), *chosen.y_edges()
    left, right = (edge[:, column] for edge in edges[:2])
    top, bottom = (edge[:, row] for edge in edges[2:])
    boxes = np.stack([left, top, right, bottom], axis=1)
    sides = boxes[:, 2:] - boxes[:, :2]
    aspects = np.round(sides[:, 1] / sides[:, 0], 1)
    for aspect, color in zip(np.unique(aspects), _cycle(len(boxes)), strict=False):
        same = boxes[aspects == aspect]
        label = f"{len(same)} anchors of one cell, height / width {aspect:g}"
        canvas.draw_boxes(ax, same, color, cased=True, label=label)
    ax.scatter(x[row, column], y[row, column], s=30, color="black", zorder=3)


def draw_labels(
    ax: Axes,
    grid: AnchorGrid,
    matches: Matches,
    gt_boxes: Float[Array, "m 4"],
    *,
    sampled: Int[Array, " n"] | None = None,
) -> None:
    """Draws which anchors are positive, negative or ignored.

    A positive is a box in the colour of its object, a negative a point in its middle,
    and the cells of ignored anchors are grey.

    Args:
        ax: where to draw, on the image as a rule.
        grid: the anchors.
        matches: their labels, before sampling.
        gt_boxes: the objects, without padding rows.
        sampled: labels after sampling, of which the positives and negatives are drawn;
            None draws all positives, and no negatives.
    """
    before = np.asarray(matches.labels)
    after = before if sampled is None else np.asarray(sampled)
    boxes, gt_boxes = np.asarray(grid.boxes), np.asarray(gt_boxes)
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2.0
    positive, negative = after == 1, (after == 0) & (sampled is not None)
    ignored = before == -1
    _draw_ignored(ax, grid, ignored)
    ax.scatter(
        *middle[negative].T,
        s=14,
        color=canvas.NEGATIVE,
        edgecolors="white",
        linewidths=0.5,
        label=_counted("negative", negative, before == 0, sampled),
        zorder=2.5,
    )
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
    """`draw_labels` on its image, with a legend. Arguments as there."""
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
    """Lays one number for each cell over an image: the higher, the brighter.

    Args:
        ax: where to draw, on the image as a rule.
        level: where the cells are.
        heat: the numbers.
        limits: those that are darkest and brightest.
    """
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
    """The highest value of the anchors of every cell, level by level.

    Args:
        image: RGB.
        grid: the anchors.
        values: one for each anchor: the probability of an object, an IoU.
        name: of the values, for the scale.
        levels: which feature maps; None takes all.
        limits: the values that are darkest and brightest.
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
    bar = figure.colorbar(axes[0].images[-1], ax=axes, shrink=0.8, pad=0.01)
    bar.set_label(f"{name}, highest in the cell")
    return figure


def _cycle(number: int) -> list[str]:
    """A colour for each object, in turn."""
    return [canvas.OBJECTS[i % len(canvas.OBJECTS)] for i in range(number)]


def _counted(
    name: str,
    drawn: Bool[np.ndarray, " n"],
    labelled: Bool[np.ndarray, " n"],
    sampled: Int[Array, " n"] | None,
) -> str:
    if sampled is None:
        return f"{name}: {labelled.sum():,} anchors"
    return f"{name}: {drawn.sum():,} sampled of {labelled.sum():,}"


def _draw_ignored(ax: Axes, grid: AnchorGrid, ignored: Bool[np.ndarray, " n"]) -> None:
    """Marks the cells that have an anchor that is ignored."""
    parts = np.split(ignored, np.cumsum(grid.level_sizes)[:-1])
    places = []
    for level, part in zip(grid.levels, parts, strict=True):
        rows, columns = np.nonzero(part.reshape(*level.shape, -1).any(axis=2))
        places.append(np.stack([level.origins(1)[columns], level.origins(0)[rows]]))
    ax.scatter(
        *np.concatenate(places, axis=1),
        s=14,
        marker="s",
        color=canvas.IGNORED,
        edgecolors="white",
        linewidths=0.5,
        alpha=0.7,
        label=f"ignored: {ignored.sum():,} anchors",
    )
