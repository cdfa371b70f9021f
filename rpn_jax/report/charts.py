"""Charts of a page, as plotly's figures in JSON, and their numbers as a table."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..evaluate import Report
from ..evaluate.recall_report import COCO_SIZES, CURVE_LIMITS, IOU_THRESHOLDS, LIMITS
from ..plot.curves import smooth
from ..spread import evenly_spaced
from .page_parts import Table

_MOST_POINTS = 1500  # of a line; more cannot be told apart on a screen
_SMOOTHING = 0.03  # share of the records over which a smooth line averages
# The metrics beside the losses: name in the log, title, label of the axis.
_METRICS = (
    ("lr", "Learning rate", "learning rate"),
    ("images_per_second", "Images per second", "images per second"),
    ("data_wait", "Waiting for data", "share of the time"),
)
_LOSSES = ("loss", "objectness", "box")
Lines = Sequence[Mapping[str, Any]]  # the lines of a `metrics.jsonl`


class Line(NamedTuple):
    """One line of a chart.

    Attributes:
        name: its name in the legend.
        x: positions on the horizontal axis.
        y: values; those that are not finite leave gaps.
        color: index of its colour and its dashes.
        is_faint: draws it pale and without an entry in the legend and in the table.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    color: int = 0
    is_faint: bool = False


class Chart(NamedTuple):
    """A chart.

    Attributes:
        name: its identifier in the page.
        title: its heading.
        axes: labels of the horizontal and of the vertical axis.
        lines: the lines.
        ticks: numbers that a logarithmic horizontal axis names; none makes it linear.
        is_share: limits the vertical axis to values from 0 to 1.

    >>> lines = (Line("photos", [10, 20], [0.7, 0.5], 0),)
    >>> chart = Chart("losses", "Losses", ("step", "loss"), lines)
    >>> chart.table().rows
    [('photos', '0.7', '0.5', '0.5', '0.7')]
    """

    name: str
    title: str
    axes: tuple[str, str]
    lines: tuple[Line, ...]
    ticks: tuple[int, ...] = ()
    is_share: bool = False

    def figure(self) -> dict[str, Any]:
        """The figure in plotly's JSON; the page adds the colours of its theme."""
        x_axis: dict[str, Any] = {"title": {"text": self.axes[0]}}
        y_axis: dict[str, Any] = {"title": {"text": self.axes[1]}}
        if self.ticks:
            texts = [f"{tick:,}" for tick in self.ticks]
            x_axis |= {"type": "log", "tickvals": self.ticks, "ticktext": texts}
        y_axis |= {"range": [0, 1.02]} if self.is_share else {"rangemode": "tozero"}
        return {
            "name": self.name,
            "data": [_trace(line) for line in self.lines],
            "layout": {
                "xaxis": x_axis,
                "yaxis": y_axis,
                "showlegend": len(self.lines) > 1,
            },
        }

    def table(self) -> Table:
        """The first, last, lowest and highest value of each line."""
        rows = []
        for line in self.lines:
            values = np.asarray(line.y, float)
            values = values[np.isfinite(values)]
            if len(values) and not line.is_faint:
                shown = values[0], values[-1], values.min(), values.max()
                rows.append((line.name, *(f"{value:.4g}" for value in shown)))
        header = "line", "first", "last", "lowest", "highest"
        return Table(f"{self.title}: {self.axes[1]} by {self.axes[0]}", header, rows)


def _trace(line: Line) -> dict[str, Any]:
    points = list(zip(line.x, map(float, line.y), strict=True))
    kept = evenly_spaced(points, _MOST_POINTS)
    return {
        "type": "scatter",
        "mode": "lines" if len(kept) > 30 or line.is_faint else "lines+markers",
        "name": line.name,
        "x": [x for x, _ in kept],
        "y": [y if np.isfinite(y) else None for _, y in kept],
        "showlegend": not line.is_faint,
        "hoverinfo": "skip" if line.is_faint else "all",
        "meta": {"color": line.color, "faint": line.is_faint},
    }


def training_charts(runs: Mapping[str, Lines]) -> tuple[Chart, ...]:
    """Losses, learning rate, speed and waiting over the steps.

    A metric that no run has logged gets no chart. One run has all its losses in a
    chart; of several runs, the sum of the losses is compared.

    Args:
        runs: the lines of the log of each run, by the name of the run.
    """
    axes = "step", "loss (moving average)"
    if len(runs) == 1:
        (lines,) = runs.values()
        of_run = [
            line
            for color, name in enumerate(_LOSSES)
            for line in _smoothed(name, lines, name, color)
        ]
    else:
        of_run = [
            line
            for color, (name, lines) in enumerate(runs.items())
            for line in _smoothed(name, lines, "loss", color)
        ]
    charts = [Chart("loss", "Loss", axes, tuple(of_run))]
    for metric, title, label in _METRICS:
        of_metric = tuple(
            Line(name if len(runs) > 1 else title, *_column(lines, metric), color=color)
            for color, (name, lines) in enumerate(runs.items())
        )
        charts.append(Chart(metric, title, ("step", label), of_metric))
    return tuple(chart for chart in charts if any(len(x.x) for x in chart.lines))


def recall_charts(report: Report) -> tuple[Chart, ...]:
    """Recall over the IoU threshold, and average recall over the number of proposals.

    Args:
        report: the result of `evaluate`; the charts show recall as COCO counts it.
    """
    over_iou = tuple(
        Line(
            f"best {limit:,}",
            IOU_THRESHOLDS,
            report.coco.over_iou(limit).tolist(),
            color,
        )
        for color, limit in enumerate(LIMITS)
    )
    over_limits = tuple(
        Line(size, CURVE_LIMITS, report.coco.over_limits(size=size).tolist(), color)
        for color, size in enumerate(COCO_SIZES)
    )
    axes = "IoU threshold", "recall"
    number = "proposals per image", "average recall"
    return (
        Chart("over-iou", "Recall over IoU", axes, over_iou, is_share=True),
        Chart(
            "over-limits",
            "Average recall over the number of proposals",
            number,
            over_limits,
            ticks=LIMITS,
            is_share=True,
        ),
    )


def _smoothed(name: str, lines: Lines, metric: str, color: int) -> list[Line]:
    """A metric as it was logged, pale, and its moving average."""
    steps, values = _column(lines, metric)
    if not len(steps):
        return []
    average = smooth(np.array(values), max(1.0, _SMOOTHING * len(steps))).tolist()
    return [
        Line(name, steps, values, color, is_faint=True),
        Line(name, steps, average, color),
    ]


def _column(lines: Lines, metric: str) -> tuple[list[int], list[float]]:
    """The steps that logged a metric, and its values."""
    of_metric = [line for line in lines if isinstance(line.get(metric), int | float)]
    steps = [line["step"] for line in of_metric]
    return steps, [float(line[metric]) for line in of_metric]
