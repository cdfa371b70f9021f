"""The images of a page, with the objects that one run or several runs find in them."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..core._typing import Float, Int
from ..data import ImageError, ImageSource
from ..data.image_source import GroundTruth, all_truths
from ..evaluate import ImageProposals
from ..evaluate.overlaps import proposals_in_order
from ..evaluate.recall_report import COCO_SIZES, CURVE_LIMITS
from .finders import IOU, NUM_LEVELS, Finders, find_finders, score_level
from .page_parts import pixels_url

MOST_IMAGES = 40
MOST_BOXES = 300  # proposals that are drawn per image; counts take all of them
_SIDE = 480  # longest side of an image in pixels
# Characters of all images. With plotly's five million and the boxes, a page of many
# large images stays under 10 MB.
_MOST_CHARACTERS = 4_000_000
LIMIT = 100  # number of proposals by which images are ordered


class RunProposals(NamedTuple):
    """The proposals of a run.

    Attributes:
        name: what the page calls the run.
        proposals: the proposals by row of the data set, without images that could not
            be decoded.
    """

    name: str
    proposals: Mapping[int, ImageProposals]


class Gallery(NamedTuple):
    """Images with boxes, and the counts over the whole data set, for JSON.

    Attributes:
        content: what the page's script reads; its fields are those of `make_gallery`.
        num_images: number of images that are shown.
    """

    content: dict[str, Any]
    num_images: int


def make_gallery(source: ImageSource, runs: Sequence[RunProposals]) -> Gallery:
    """Chooses images, scales them, and lists the boxes that a page draws.

    Of one run, the images with the lowest recall at 100 proposals come first. Of
    several runs, those come first whose numbers of found objects differ most, and
    others are left out.

    Args:
        source: the images with their ground truth.
        runs: the proposals of each run for these images.

    >>> from rpn_jax.data import Scenes
    >>> gallery = make_gallery(Scenes(num_images=2), [RunProposals("photos", {})])
    >>> gallery.num_images, gallery.content["numImages"]
    (0, 2)
    """
    truths = all_truths(source)
    finders = [
        find_finders(truths, proposals_in_order(truths, run.proposals)) for run in runs
    ]
    chosen = _images(source, truths, runs, finders)
    counted = [
        {
            "name": run.name,
            "total": of_run.in_size.sum(axis=1).tolist(),
            "found": of_run.counts().tolist(),
        }
        for run, of_run in zip(runs, finders, strict=True)
    ]
    content = {
        "limits": CURVE_LIMITS,
        "limit": CURVE_LIMITS.index(LIMIT),
        "levels": NUM_LEVELS - 1,
        "sizes": COCO_SIZES,
        "iou": IOU,
        "numImages": len(truths),
        "runs": counted,
        "images": chosen,
    }
    return Gallery(content, len(chosen))


def _images(
    source: ImageSource,
    truths: Sequence[GroundTruth],
    runs: Sequence[RunProposals],
    finders: Sequence[Finders],
) -> list[dict[str, Any]]:
    """The images that are shown, as many as there is space for."""
    chosen: list[dict[str, Any]] = []
    characters = 0
    for row in _order(finders, len(truths)):
        if len(chosen) == MOST_IMAGES or characters > _MOST_CHARACTERS:
            break
        if row >= len(source) or not any(row in run.proposals for run in runs):
            continue  # it could not be decoded
        try:
            picture = pixels_url(source.pixels(row), _SIDE)
        except ImageError:
            continue
        characters += len(picture)
        views = [
            _view(of_run, row, run.proposals.get(row))
            for of_run, run in zip(finders, runs, strict=True)
        ]
        chosen.append(_image(truths[row], finders[0], row, picture) | {"views": views})
    return chosen


def _order(finders: Sequence[Finders], num_images: int) -> list[int]:
    """The images with objects: the worst first, or those where runs differ most."""
    image = finders[0].image
    total = np.bincount(image, minlength=num_images)
    found = np.array(
        [
            np.bincount(image[of_run.rank[0] < LIMIT], minlength=num_images)
            for of_run in finders
        ]
    )
    if len(finders) == 1:
        recall = found[0] / np.maximum(total, 1)
        order = np.lexsort((found[0] - total, recall))
        return order[total[order] > 0].tolist()
    difference = np.ptp(found, axis=0)
    order = np.argsort(-difference, kind="stable")
    return order[difference[order] > 0].tolist()


def _image(
    truth: GroundTruth, finders: Finders, row: int, picture: str
) -> dict[str, Any]:
    """What all runs share: the picture, the objects, and the sizes they count in."""
    of_image = finders.image == row
    return {
        "name": truth.name,
        "height": int(truth.size[0]),
        "width": int(truth.size[1]),
        "picture": picture,
        "objects": _rounded(finders.boxes[of_image]),
        "ignored": _rounded(truth.boxes[truth.is_ignored]),
        "inSize": finders.in_size[:, of_image].astype(int).tolist(),
    }


def _view(finders: Finders, row: int, found: ImageProposals | None) -> dict[str, Any]:
    """The proposals of a run for an image, and which of them find its objects."""
    of_image = finders.image == row
    boxes, levels = np.zeros((0, 4)), np.zeros(0, int)
    if found is not None:
        order = np.argsort(-found.scores, kind="stable")[:MOST_BOXES]
        boxes, levels = found.boxes[order], score_level(found.scores[order])
    return {
        "rank": finders.rank[:, of_image].tolist(),
        "level": finders.level[:, of_image].tolist(),
        "boxes": _rounded(boxes),
        "levels": levels.tolist(),
    }


def _rounded(boxes: Float[np.ndarray, "k 4"]) -> list[list[int]]:
    """Boxes in whole pixels, which a picture of 480 pixels cannot tell from finer."""
    whole: Int[np.ndarray, "k 4"] = np.rint(boxes).astype(int)
    return whole.tolist()
