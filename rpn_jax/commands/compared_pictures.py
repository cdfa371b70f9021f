"""Pictures of the images to whose anchors two networks give the most unequal labels."""

import pathlib

import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from .. import plot
from ..core.matching.association import Matches
from ..data import ImageSource
from ..label import ImageLabels
from .compared_objects import Compared
from .pictures import draw_picture

_NUM_PICTURES = 3  # images; each is drawn once for either network


def draw_changed(
    compared: Compared, source: ImageSource, path: pathlib.Path
) -> list[str]:
    """Draws the labels of both networks for the images where they differ most.

    Args:
        compared: the objects of both networks.
        source: the images.
        path: file of the picture.

    Returns:
        The names of the images; none if all positives are the same.
    """
    changed = compared.changed()
    order = np.argsort(-changed, kind="stable")[:_NUM_PICTURES]
    rows = [row for row in order.tolist() if changed[row] > 0.0]
    if not rows:
        path.unlink(missing_ok=True)  # it would belong to other numbers
        return []
    draw_picture(path, lambda: _plot(compared, source, rows))
    return [source.truth(row).name for row in rows]


def _plot(compared: Compared, source: ImageSource, rows: list[int]) -> Figure:
    shown = [
        (name, row, side.labels[row])
        for row in rows
        for name, side in zip("AB", compared.sides, strict=True)
    ]
    images = [_resized(source, row, labels.size) for _, row, labels in shown]
    figure, axes = plot.image_axes(images, columns=2)
    for ax, (name, _, labels) in zip(axes, shown, strict=True):
        _draw(ax, labels, name)
    return figure


def _draw(ax: Axes, labels: ImageLabels, name: str) -> None:
    number = len(labels.grid)
    is_ignored = np.unpackbits(labels.is_ignored, count=number).astype(bool)
    kinds, rows = np.where(is_ignored, -1, 0), np.zeros(number, np.int32)
    boxes = np.zeros((number, 4), np.float32)
    # Of the other anchors, the picture shows no boxes.
    kinds[labels.anchor], rows[labels.anchor] = 1, labels.row
    boxes[labels.anchor] = labels.boxes
    matches = Matches(
        jnp.asarray(kinds, jnp.int32),
        jnp.asarray(rows),
        jnp.zeros(number, jnp.float32),
    )
    plot.draw_labels(ax, labels.grid, matches, labels.objects, boxes=boxes)
    title = f"{name}: {len(labels.anchor):,} positive, {is_ignored.sum():,} ignored"
    ax.set_title(title, size=9)


def _resized(source: ImageSource, row: int, size: tuple[int, int]) -> plot.Pixels:
    """An image at the size that the network sees."""
    height, width = size
    image = Image.fromarray(source.pixels(row))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
