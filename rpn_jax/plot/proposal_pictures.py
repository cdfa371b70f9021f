"""Pictures of proposals and of the objects that they find."""

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
    """Draws the best proposals, and shows which objects they find.

    An object is found if its IoU with some proposal is at least `iou`. The proposal
    that overlaps it most is drawn with a thick line, the others with thin lines.

    Args:
        ax: the axes to draw into, usually those of the image.
        truth: the objects and ignored regions, in pixels of the image.
        proposals: the proposals of the same image.
        top_k: number of proposals that count, the best scores first.
        iou: the lowest IoU that finds an object.

    >>> from rpn_jax.data import Scenes
    >>> from rpn_jax.plot import image_axes
    >>> scenes = Scenes()
    >>> truth = scenes.truth(0)
    >>> found = ImageProposals(truth.image_id, truth.boxes, np.ones(len(truth.boxes)))
    >>> _, (ax,) = image_axes([scenes.pixels(0)], columns=1)
    >>> draw_proposals(ax, truth, found)
    >>> ax.get_title()
    'scene_000000: 3 of 3 found by 3'
    """
    order = np.argsort(-proposals.scores, kind="stable")[:top_k]
    boxes, objects = proposals.boxes[order], truth.boxes[~truth.is_ignored]
    overlaps = np.asarray(pairwise_iou(objects, boxes))
    is_found = (overlaps >= iou).any(axis=1)
    best = overlaps[is_found].argmax(axis=1) if is_found.any() else np.zeros(0, int)
    # Later boxes lie on top: all proposals, ignored regions, objects, best proposals.
    blue = canvas.PROPOSAL
    canvas.draw_boxes(ax, boxes, blue, line_width=0.6, alpha=0.35)
    regions = truth.boxes[truth.is_ignored]
    canvas.draw_boxes(ax, regions, canvas.IGNORED, line_style=":", cased=True)
    for chosen, color in ((is_found, canvas.FOUND), (~is_found, canvas.MISSED)):
        canvas.draw_boxes(ax, objects[chosen], color, line_width=2.2, cased=True)
    canvas.draw_boxes(ax, boxes[best], blue, line_width=1.4, cased=True)
    found = f"{is_found.sum()} of {len(objects)} found by {len(boxes)}"
    canvas.plain(ax.set_title(f"{truth.name[-30:]}: {found}", size=9))


def plot_proposals(
    images: Sequence[Pixels],
    truths: Sequence[GroundTruth],
    proposals: Sequence[ImageProposals],
    *,
    top_k: int = 100,
    iou: float = 0.5,
) -> Figure:
    """Draws the proposals of several images; see `draw_proposals`.

    Args:
        images: at least one image in RGB.
        truths: the ground truth of the same images.
        proposals: the proposals of the same images.
        top_k: number of proposals per image that count, the best scores first.
        iou: the lowest IoU that finds an object.

    >>> from rpn_jax.data import Scenes
    >>> scenes = Scenes()
    >>> truth = scenes.truth(0)
    >>> found = ImageProposals(truth.image_id, truth.boxes, np.ones(len(truth.boxes)))
    >>> figure = plot_proposals([scenes.pixels(0)], [truth], [found])
    >>> figure.axes[0].get_title()
    'scene_000000: 3 of 3 found by 3'
    """
    figure, axes = canvas.image_axes(images, columns=3)
    for ax, truth, of_image in zip(axes, truths, proposals, strict=True):
        draw_proposals(ax, truth, of_image, top_k=top_k, iou=iou)
    names = {
        canvas.FOUND: f"object found, IoU >= {iou:g}",
        canvas.MISSED: "object missed",
        canvas.PROPOSAL: "proposal (thick: the best of an object)",
        canvas.IGNORED: "ignored region",
    }
    handles = [Line2D([], [], color=color, lw=2) for color in names]
    labels = list(names.values())
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    return figure
