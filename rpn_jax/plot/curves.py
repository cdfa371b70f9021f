"""Curves of losses and of recall."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..core._typing import Float, Int
from ..evaluate import Recall, Report
from ..evaluate.recall_report import CURVE_LIMITS, IOU_THRESHOLDS, LIMITS
from . import canvas

_SIZES = {"all": "black", "small": "#E69F00", "medium": "#009E73", "large": "#0072B2"}
_LINES = ("black", "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00")


def plot_losses(
    steps: Int[np.ndarray, " t"],
    losses: Mapping[str, Float[np.ndarray, " t"]],
    learning_rate: Float[np.ndarray, " t"],
    *,
    smoothing: float = 0.03,
) -> Figure:
    """Plots the losses of a training run, raw and smoothed, and the learning rate.

    Args:
        steps: the step of every record.
        losses: the losses of every record, by name; NaN where the step was skipped.
        learning_rate: the learning rate of every record.
        smoothing: share of the records over which the thick lines average.

    >>> losses = {"objectness": np.array([0.7, 0.5]), "box": np.array([0.2, 0.1])}
    >>> figure = plot_losses(np.array([1, 2]), losses, np.array([0.01, 0.01]))
    >>> len(figure.axes)
    2
    """
    figure = canvas.new_figure(9.0, 5.5)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    window = max(1.0, smoothing * len(steps))
    for (name, values), color in zip(losses.items(), _LINES, strict=False):
        upper.plot(steps, values, color=color, alpha=0.2, lw=0.8)
        upper.plot(steps, smooth(values, window), color=color, lw=2, label=name)
    finite = np.concatenate([values[np.isfinite(values)] for values in losses.values()])
    if len(finite):
        # The first losses may be far above all others, so the axis leaves out the
        # highest half percent.
        upper.set_ylim(0.0, 1.1 * float(np.quantile(finite, 0.995)) or 1.0)
    upper.set_ylabel("loss (thick: moving average)")
    lower.plot(steps, learning_rate, color=canvas.IGNORED, lw=2, label="learning rate")
    lower.set_xlabel("step")
    lower.set_ylim(bottom=0.0)
    for ax in (upper, lower):
        canvas.finish_chart(ax)
    return figure


def smooth(values: Float[np.ndarray, " t"], window: float) -> Float[np.ndarray, " t"]:
    """Computes an exponential moving average that skips values that are not finite.

    Each average is divided by the sum of its weights, so that the first averages have
    no bias.

    Args:
        values: values at equal distances.
        window: approximate number of values to average over, at least 1.

    Returns:
        The averages; NaN before the first finite value.

    >>> smooth(np.array([2.0, np.nan, 4.0]), 1.0)
    array([2., 2., 4.])
    """
    decay = 1.0 - 1.0 / window
    total = weight = 0.0
    # A value that is not finite adds no weight, so that the last average stays in
    # place.
    averages = np.full(len(values), np.nan)
    for i, value in enumerate(values.tolist()):
        if np.isfinite(value):
            total, weight = decay * total + value, decay * weight + 1.0
        averages[i] = total / weight if weight else np.nan
    return averages


def plot_recall(report: Report) -> Figure:
    """Plots recall over IoU, and beside it recall over the number of proposals.

    Args:
        report: the result of `evaluate`. The figure shows recall as COCO counts it.

    >>> from rpn_jax.data import Scenes
    >>> from rpn_jax.evaluate import ImageProposals, evaluate
    >>> truth = Scenes().truth(0)
    >>> found = ImageProposals(truth.image_id, truth.boxes, np.ones(len(truth.boxes)))
    >>> len(plot_recall(evaluate([truth], [found])).axes)
    2
    """
    figure = canvas.new_figure(12.5, 4.3)
    left, right = figure.subplots(1, 2)
    draw_recall_over_iou(left, report.coco)
    draw_recall_over_limits(right, report.coco)
    return figure


def draw_recall_over_iou(ax: Axes, recall: Recall) -> None:
    """Draws recall over the IoU threshold, with one line per number in `LIMITS`.

    Args:
        ax: the axes to draw into.
        recall: the recall by COCO's or by detectron2's way of counting.

    >>> from rpn_jax.data import Scenes
    >>> from rpn_jax.evaluate import ImageProposals, evaluate
    >>> from rpn_jax.plot import new_figure
    >>> truth = Scenes().truth(0)
    >>> found = ImageProposals(truth.image_id, truth.boxes, np.ones(len(truth.boxes)))
    >>> ax = new_figure(6.0, 4.0).add_subplot()
    >>> draw_recall_over_iou(ax, evaluate([truth], [found]).coco)
    >>> ax.get_ylabel()
    'recall'
    """
    for row, limit in reversed(list(enumerate(LIMITS))):
        values = recall.over_iou(limit)
        label = f"best {limit:,}, AR {values.mean():.3f}"
        # Lines of different width stay visible where they coincide.
        style = {"color": _LINES[row], "lw": 1.0 + 0.8 * row}
        ax.plot(IOU_THRESHOLDS, values, "o-", ms=4.0, label=label, **style)
    ax.set(xlabel="IoU threshold", ylabel="recall", xlim=(0.5, 0.95))
    ax.set_xticks(np.arange(0.5, 0.96, 0.05), minor=False)
    ax.set_ylim(0.0, 1.0)
    canvas.finish_chart(ax, title="proposals per image", place="beside")


def draw_recall_over_limits(ax: Axes, recall: Recall) -> None:
    """Draws average recall over the number of proposals, with one line per size.

    Args:
        ax: the axes to draw into.
        recall: the recall by COCO's or by detectron2's way of counting.

    >>> from rpn_jax.data import Scenes
    >>> from rpn_jax.evaluate import ImageProposals, evaluate
    >>> from rpn_jax.plot import new_figure
    >>> truth = Scenes().truth(0)
    >>> found = ImageProposals(truth.image_id, truth.boxes, np.ones(len(truth.boxes)))
    >>> ax = new_figure(6.0, 4.0).add_subplot()
    >>> draw_recall_over_limits(ax, evaluate([truth], [found]).coco)
    >>> ax.get_xlabel()
    'proposals per image'
    """
    for size, color in _SIZES.items():
        values = recall.over_limits(size=size)
        width = 2.5 if size == "all" else 1.5
        ax.plot(CURVE_LIMITS, values, "o-", color=color, lw=width, ms=3.5, label=size)
    ax.set_xscale("log")
    ax.set_xticks(LIMITS, [f"{limit:,}" for limit in LIMITS], minor=False)
    ax.set(xlabel="proposals per image", ylabel="average recall, IoU 0.5 to 0.95")
    ax.set_ylim(0.0, 1.0)
    canvas.finish_chart(ax, title="size of objects")
