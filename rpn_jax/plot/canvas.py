"""Figures, images, boxes and colours, which all pictures share.

A colour has one meaning in all pictures. The colours are those of Okabe and Ito, which
people with any colour vision can distinguish (https://jfly.uni-koeln.de/color/).
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import UInt8
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.text import Text

from ..core._typing import Float

FOUND = "#009E73"  # an object that was found, or anchors that find more
MISSED = "#D55E00"  # an object that was not found
PROPOSAL = "#56B4E9"
ANCHOR = "#CC79A7"
NEGATIVE = "#D55E00"
IGNORED = "#999999"  # ignored anchors and regions, and data in the background
# The objects of an image take these colours in turn.
OBJECTS = ("#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#F0E442", "#0072B2")

_ASPECT_BOUNDS = (0.1, 5.0)  # height over width of an image in a figure

Pixels = UInt8[np.ndarray, "h w 3"]


def new_figure(width: float, height: float) -> Figure:
    """Makes an empty figure that belongs to no window and whose parts do not overlap.

    Args:
        width: width in inches.
        height: height in inches.

    >>> new_figure(4.0, 3.0).get_size_inches().tolist()
    [4.0, 3.0]
    """
    return Figure(figsize=(width, height), layout="constrained", dpi=120)


def image_axes(images: Sequence[Pixels], *, columns: int) -> tuple[Figure, list[Axes]]:
    """Makes a figure that shows every image in a grid.

    Args:
        images: at least one image; their sizes may differ.
        columns: largest number of images beside each other.

    >>> figure, axes = image_axes([np.zeros((40, 60, 3), np.uint8)], columns=1)
    >>> len(axes)
    1
    """
    # Rows have the height of an image of mean aspect, and a quarter of an inch for the
    # title. Places without an image stay blank. The bounds keep strips of images from
    # making figures that matplotlib refuses.
    columns = min(columns, len(images))
    rows = math.ceil(len(images) / columns)
    aspects = [image.shape[0] / image.shape[1] for image in images]
    aspect = float(np.clip(np.mean(aspects), *_ASPECT_BOUNDS))
    width = 12.0 / columns if columns > 1 else 9.0
    figure = new_figure(columns * width, rows * (width * aspect + 0.25) + 0.3)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for ax in axes[len(images) :]:
        ax.set_axis_off()
    for ax, image in zip(axes, images, strict=False):
        draw_image(ax, image)
    return figure, axes[: len(images)]


def plain(*texts: Text) -> None:
    """Shows texts as they are, although matplotlib would read `$` as mathematics.

    Everything that a user may have named goes through this function: a file name such
    as `a_$5_$^_6.jpg` is no formula. Characters that cannot be drawn, such as the
    remains of a file name that is not UTF-8, become a replacement character.

    Args:
        texts: titles, labels and entries of legends, before they are drawn.
    """
    for text in texts:
        drawable = (
            x if x.isprintable() or x == "\n" else "\ufffd" for x in text.get_text()
        )
        text.set(text="".join(drawable), parse_math=False, usetex=False)


def draw_image(ax: Axes, image: Pixels) -> None:
    """Shows an image with the corner of its first pixel at `(0, 0)`, as boxes need it.

    Args:
        ax: the axes to draw into.
        image: the image in RGB.

    >>> figure = new_figure(4.0, 3.0)
    >>> draw_image(figure.add_subplot(), np.zeros((40, 60, 3), np.uint8))
    """
    height, width = image.shape[:2]
    ax.imshow(image, extent=(0, width, height, 0), interpolation="antialiased")
    ax.set_xlim(0, width)
    ax.set_ylim(height, 0)
    ax.set_xticks([])
    ax.set_yticks([])


def draw_boxes(
    ax: Axes,
    boxes: Float[np.ndarray, "k 4"],
    color: str | Sequence[str],
    *,
    line_width: float = 1.5,
    line_style: str = "-",
    alpha: float = 1.0,
    cased: bool = False,
    label: str | None = None,
) -> None:
    """Draws the outlines of boxes.

    Args:
        ax: the axes to draw into.
        boxes: `(x0, y0, x1, y1)` in pixels of the image.
        color: one colour for all boxes, or one for each.
        line_width: line width in points.
        line_style: line style of matplotlib.
        alpha: opacity, from 0 (invisible) to 1 (opaque).
        cased: gives each line dark edges, so that it stands out on any image.
        label: the text in the legend; None adds no entry.

    >>> _, (ax,) = image_axes([np.zeros((40, 60, 3), np.uint8)], columns=1)
    >>> draw_boxes(ax, np.array([[5.0, 5, 20, 30]]), "red", label="an object")
    """
    # The columns are the corners in a circle, from the top left back to the top left.
    boxes = np.asarray(boxes)
    corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3, 0, 1]].reshape(-1, 5, 2)
    # One collection draws all boxes, because thousands of separate rectangles would be
    # slow.
    lines = LineCollection(
        list(corners),
        colors=color or IGNORED,  # a legend needs a colour even without a box
        linewidths=line_width,
        linestyles=line_style,
        alpha=alpha,
        label=label,
        capstyle="projecting",
    )
    if cased:
        lines.set_path_effects(
            [withStroke(linewidth=line_width + 1.5, foreground="black", alpha=0.6)]
        )
    ax.add_collection(lines, autolim=False)


def legend_below(figure: Figure, ax: Axes) -> None:
    """Puts the legend of an image below it, where it hides nothing.

    Args:
        figure: the figure that holds the image.
        ax: the axes whose drawings have labels.

    >>> figure, (ax,) = image_axes([np.zeros((40, 60, 3), np.uint8)], columns=1)
    >>> draw_boxes(ax, np.array([[5.0, 5, 20, 30]]), "red", label="an object")
    >>> legend_below(figure, ax)
    """
    handles, labels = ax.get_legend_handles_labels()
    style = {"frameon": False, "fontsize": 9, "columnspacing": 1.2}
    place: Any = {"loc": "outside lower center", "ncols": 4}
    plain(*figure.legend(handles, labels, **place, **style).get_texts())


def finish_chart(
    ax: Axes,
    *,
    title: str | None = None,
    place: Literal["best", "lower right", "beside"] = "best",
) -> None:
    """Adds a legend and faint grid lines to a chart.

    Args:
        ax: the axes of the chart.
        title: the title of the legend.
        place: the place of the legend; `"beside"` puts it to the right of the chart.
    """
    style: dict[str, Any] = {"loc": place}
    if place == "beside":
        style = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)}
    legend = ax.legend(title=title, edgecolor="none", fontsize=9, **style)
    plain(legend.get_title(), *legend.get_texts())
    ax.grid(alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)
