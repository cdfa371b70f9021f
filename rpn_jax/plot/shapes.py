"""Charts that compare the shapes of boxes with the shapes of anchors."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..anchor_report import AnchorReport
from ..core._typing import Float
from ..core.anchor_config import AnchorConfig
from ..core.anchors import cell_anchors
from . import canvas

_MARGIN = 1.25  # factor from the outermost points to the end of a logarithmic axis
_SIZE_TICKS = 2.0 ** np.arange(2, 11)
_ASPECT_TICKS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)


def plot_anchor_report(report: AnchorReport) -> Figure:
    """Plots shapes, sizes and aspect ratios of boxes and anchors, and the best IoU.

    Args:
        report: the result of `inspect_anchors`.

    >>> from rpn_jax.anchor_report import inspect_anchors
    >>> len(plot_anchor_report(inspect_anchors([])).axes)
    4
    """
    figure = canvas.new_figure(11.0, 8.5)
    axes = figure.subplots(2, 2)
    draw_shapes(axes[0, 0], report.sides, report.anchors)
    draw_best_iou(axes[0, 1], report)
    draw_sizes(axes[1, 0], report.sides, report.anchors)
    draw_aspects(axes[1, 1], report.sides, report.anchors)
    return figure


def draw_shapes(
    ax: Axes, sides: Float[np.ndarray, "o 2"], anchors: AnchorConfig
) -> None:
    """Draws the widths and heights of boxes and of anchors.

    Args:
        ax: the axes to draw into.
        sides: `(width, height)` of the boxes in pixels of the network's input.
        anchors: the configuration of the anchors.

    >>> ax = canvas.new_figure(5.0, 4.0).add_subplot()
    >>> draw_shapes(ax, np.array([[30.0, 60], [50, 40]]), AnchorConfig())
    >>> ax.get_title()
    '2 boxes'
    """
    # Many points would hide each other, so a density of hexagons replaces them.
    proper = _proper(sides)
    if len(proper) > 2000:
        bins = {"gridsize": 40, "bins": "log", "cmap": "Greys", "mincnt": 1}
        ax.hexbin(*proper.T, xscale="log", yscale="log", **bins)
    else:
        ax.scatter(*proper.T, s=8, color=canvas.IGNORED, alpha=0.6, linewidths=0)
    ax.set(
        xscale="log",
        yscale="log",
        xlabel="width, resized px",
        ylabel="height, resized px",
    )
    shapes = _shapes(anchors)
    label = f"{len(shapes)} anchor shapes"
    ax.scatter(*shapes.T, s=60, marker="+", lw=2, color=canvas.ANCHOR, label=label)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_ticks(_SIZE_TICKS, [f"{tick:g}" for tick in _SIZE_TICKS])
        axis.set_ticks([], minor=True)
    # Both axes have the same limits, so that squares lie on the diagonal.
    drawn = np.concatenate([proper, shapes])
    limits = drawn.min() / _MARGIN, drawn.max() * _MARGIN
    ax.set(xlim=limits, ylim=limits, aspect="equal")
    ax.set_title(f"{len(sides):,} boxes", size=10)
    canvas.finish_chart(ax, place="lower right")


def draw_sizes(
    ax: Axes, sides: Float[np.ndarray, "o 2"], anchors: AnchorConfig
) -> None:
    """Draws a histogram of the sizes of boxes, with a line at each anchor size.

    The size is the side of the square of equal area. The arguments are those of
    `draw_shapes`.

    >>> ax = canvas.new_figure(5.0, 4.0).add_subplot()
    >>> draw_sizes(ax, np.array([[30.0, 60], [50, 40]]), AnchorConfig())
    >>> ax.get_xlabel()
    'side of the square of equal area, resized px'
    """
    sizes = sorted({size for level in anchors.level_sizes for size in level})
    _draw_histogram(ax, np.sqrt(_proper(sides).prod(axis=1)), sizes, "anchor sizes")
    ax.set_xticks(_SIZE_TICKS, [f"{tick:g}" for tick in _SIZE_TICKS])
    ax.set(xlabel="side of the square of equal area, resized px")


def draw_aspects(
    ax: Axes, sides: Float[np.ndarray, "o 2"], anchors: AnchorConfig
) -> None:
    """Draws a histogram of aspect ratios of boxes, with a line at each anchor's.

    The arguments are those of `draw_shapes`.

    >>> ax = canvas.new_figure(5.0, 4.0).add_subplot()
    >>> draw_aspects(ax, np.array([[30.0, 60], [50, 40]]), AnchorConfig())
    >>> ax.get_xlabel()
    'height over width'
    """
    proper = _proper(sides)
    aspects = proper[:, 1] / proper[:, 0]
    _draw_histogram(ax, aspects, anchors.aspect_ratios, "anchor aspect ratios")
    ax.set_xticks(_ASPECT_TICKS, [f"{tick:g}" for tick in _ASPECT_TICKS])
    ax.set(xlabel="height over width")


def draw_best_iou(ax: Axes, report: AnchorReport) -> None:
    """Draws a histogram of the best IoU of boxes with the given anchors.

    A line shows the same histogram for suggested anchors, if there are any.

    Args:
        ax: the axes to draw into.
        report: the result of `inspect_anchors`.

    >>> from rpn_jax.anchor_report import inspect_anchors
    >>> report = inspect_anchors([])._replace(best_iou=np.array([0.4, 0.8]))
    >>> ax = canvas.new_figure(5.0, 4.0).add_subplot()
    >>> draw_best_iou(ax, report)
    >>> ax.get_xlabel()
    'best IoU with any anchor'
    """
    bins = np.linspace(0.0, 1.0, 41).tolist()
    label = f"given anchors, mean {_mean(report.best_iou)}"
    ax.hist(report.best_iou, bins, color=canvas.IGNORED, label=label)
    if report.suggestion is not None:
        best = report.suggestion.best_iou
        style = {"histtype": "step", "color": canvas.FOUND, "lw": 2}
        ax.hist(best, bins, label=f"suggested anchors, mean {_mean(best)}", **style)
    # The line marks the IoU of positive anchors, because no anchor reaches it for the
    # boxes on its left.
    threshold = report.targets.positive_iou
    ax.axvline(threshold, color="black", lw=1.2, ls="--")
    ax.text(threshold, 1.0, " positive", va="top", transform=ax.get_xaxis_transform())
    ax.set(xlabel="best IoU with any anchor", ylabel="boxes", xlim=(0.0, 1.0))
    canvas.finish_chart(ax)


def _draw_histogram(
    ax: Axes, values: Float[np.ndarray, " o"], lines: Sequence[float], label: str
) -> None:
    """Draws a histogram on a logarithmic axis, with eight bins per doubling."""
    octaves = np.log2(np.concatenate([values, lines]))
    bins = 2.0 ** np.arange(
        np.floor(octaves.min()), np.ceil(octaves.max()) + 0.1, 1 / 8
    )
    ax.hist(values, bins.tolist(), color=canvas.IGNORED)
    for line in lines:
        ax.axvline(line, color=canvas.ANCHOR, lw=2, label=label)
        label = "_"  # the legend lists the first line alone
    ax.set_xscale("log", base=2)
    ax.set(ylabel="boxes", xlim=(bins[0], bins[-1]))
    canvas.finish_chart(ax)


def _proper(sides: Float[np.ndarray, "o 2"]) -> Float[np.ndarray, "p 2"]:
    """The sides of the boxes that have an extent."""
    return sides[(sides > 0.0).all(axis=1)]


def _shapes(anchors: AnchorConfig) -> Float[np.ndarray, "a 2"]:
    """Width and height of each anchor; a legacy box includes its last pixel."""
    boxes = np.concatenate(cell_anchors(anchors))
    return boxes[:, 2:] - boxes[:, :2] + (anchors.rounding == "legacy")


def _mean(values: Float[np.ndarray, " o"]) -> str:
    return f"{values.mean():.2f}" if len(values) else "-"
