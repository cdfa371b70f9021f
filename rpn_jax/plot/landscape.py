"""Maps of a number over two settings."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from ..core._typing import Float
from . import canvas


def plot_landscapes(
    landscapes: Mapping[str, Float[np.ndarray, "rows columns"]],
    *,
    rows: tuple[str, Sequence[float]],
    columns: tuple[str, Sequence[float]],
) -> Figure:
    """Plots one map per name, with a number for every pair of two settings.

    A star marks the lowest number of each map.

    Args:
        landscapes: the numbers of each map, by name. The lowest is the best, and NaN
            leaves a place empty.
        rows: the name of the first setting, and its values.
        columns: the name of the second setting, and its values.

    >>> sizes, ratios = ("size", [8.0, 16.0]), ("ratio", [0.5, 1.0, 2.0])
    >>> figure = plot_landscapes({"box": np.eye(2, 3)}, rows=sizes, columns=ratios)
    """
    figure = canvas.new_figure(5.5 * len(landscapes), 4.5)
    axes = figure.subplots(1, len(landscapes), squeeze=False)[0]
    for ax, (name, values) in zip(axes, landscapes.items(), strict=True):
        shown = ax.imshow(values, origin="lower", aspect="auto", cmap="viridis")
        row, column = np.unravel_index(np.nanargmin(values), values.shape)
        label = f"lowest: {values[row, column]:.3g}"
        style = {"marker": "*", "s": 140, "color": "white", "edgecolors": "black"}
        ax.scatter(column, row, label=label, **style)
        ax.set_xticks(range(len(columns[1])), [f"{x:.3g}" for x in columns[1]])
        ax.set_yticks(range(len(rows[1])), [f"{y:.3g}" for y in rows[1]])
        labels = ax.set_xlabel(columns[0]), ax.set_ylabel(rows[0])
        canvas.plain(ax.set_title(name, size=10), *labels)
        ax.legend(loc="upper right", fontsize=9)
        figure.colorbar(shown, ax=ax)
    return figure
