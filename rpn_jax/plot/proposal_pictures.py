"""Pictures of proposals on images, and which objects they find."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..core.boxes import pairwise_iou
from ..data.image_source import GroundTruth
from ..evaluate import ImageProposals
from . import canvas
from .canvas import Pixels


def draw_proposals(
    ax: Axes,
    truth: GroundTruth,
    proposals: ImageProposals,
    *,
    top_k: int = 100,
    iou: float = 0.5,
) -> None:
    """Draws the best proposals, and which objects they find.

    An object is found if some proposal overlaps it enough; the one that overlaps it
    most is drawn strong, the others faint.

    Args:
        ax: where to draw, on the image as a rule.
        truth: the objects, in pixels of the image.
        proposals: of the same image.
        top_k: how many proposals count.
        iou: how much of an overlap is enough.
    """
    order = np.argsort(-proposals.scores, kind="stable")[:top_k]
    boxes, objects = proposals.boxes[order], truth.boxes[~truth.is_crowd]
    overlaps = np.asarray(pairwise_iou(objects, boxes))
    is_found = (overlaps >= iou).any(axis=1)
    best = overlaps[is_found].argmax(axis=1) if is_found.any() else np.zeros(0, int)
    blue = canvas.PROPOSAL
    canvas.draw_boxes(ax, boxes, blue, line_width=0.6, alpha=0.35)
    crowds = truth.boxes[truth.is_crowd]
    canvas.draw_boxes(ax, crowds, canvas.IGNORED, line_style=":", cased=True)
    for chosen, color in ((is_found, canvas.FOUND), (~is_found, canvas.MISSED)):
        canvas.draw_boxes(ax, objects[chosen], color, line_width=2.2, cased=True)
    canvas.draw_boxes(ax, boxes[best], blue, line_width=1.4, cased=True)
    found = f"{is_found.sum()} of {len(objects)} found by {len(boxes)}"
    ax.set_title(f"{truth.name[-30:]}: {found}", size=9)


def plot_proposals(
    images: Sequence[Pixels],
    truths: Sequence[GroundTruth],
    proposals: Sequence[ImageProposals],
    *,
    top_k: int = 100,
    iou: float = 0.5,
) -> Figure:
    """`draw_proposals` on several images.

    Args:
        images: RGB, at least one.
        truths: of the same images.
        proposals: of the same images.
        top_k: how many proposals of an image count.
        iou: the overlap that finds an object.
    """
    figure, axes = canvas.image_axes(images, columns=3)
    for ax, truth, of_image in zip(axes, truths, proposals, strict=True):
        draw_proposals(ax, truth, of_image, top_k=top_k, iou=iou)
    names = {
        canvas.FOUND: f"object found, IoU >= {iou:g}",
        canvas.MISSED: "object missed",
        canvas.PROPOSAL: "proposal, strong: the best of its object",
        canvas.IGNORED: "crowd, does not count",
    }
    handles = [Line2D([], [], color=color, lw=2) for color in names]
    labels = list(names.values())
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    return figure
