"""Evaluates the recall of proposals over a data set."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from ..core._typing import Float, Int
from ..data.categories import CategorySplit
from ..data.image_source import GroundTruth
from .coco_recall import count_by_coco
from .detectron2_recall import count_by_detectron2
from .overlaps import Overlaps, find_overlaps
from .recall_report import (
    CURVE_LIMITS,
    CategoryRecall,
    ImageProposals,
    Recall,
    Report,
    checked,
    in_sizes,
)
from .seen_unseen import split_overlaps


def evaluate(
    truths: Sequence[GroundTruth],
    proposals: Sequence[ImageProposals],
    *,
    split: CategorySplit | None = None,
) -> Report:
    """Computes the average recall of class-agnostic proposals.

    The recall is counted in two ways: as COCO does, by faster-coco-eval, and as
    detectron2 does.

    Args:
        truths: the ground truth of every image. Ignored regions need not be found.
        proposals: the proposals of the same images, in any order. An image may have
            none, or be missing. Only the best 1,000 proposals of an image count.
        split: the categories whose recall is also counted separately, from
            `data.split_categories`; None counts no category alone.

    Returns:
        Recall by IoU, by size of the object and by number of proposals.

    Raises:
        ValueError: an image comes twice or has no ground truth, or its boxes and scores
            are not finite or differ in number.

    >>> from rpn_jax.data import Scenes
    >>> truth = Scenes().truth(0)
    >>> scores = np.ones(len(truth.boxes), np.float32)
    >>> found = ImageProposals(truth.image_id, truth.boxes, scores)
    >>> report = evaluate([truth], [found])
    >>> report.coco.average(100)
    1.0
    """
    _check_images(truths, proposals)
    nothing = np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
    by_image = {image.image_id: checked(image, "evaluate") for image in proposals}
    in_order = [
        by_image.get(truth.image_id, ImageProposals(truth.image_id, *nothing))
        for truth in truths
    ]
    overlaps = find_overlaps(truths, in_order, CURVE_LIMITS[-1])
    num_objects = in_sizes(overlaps.objects.areas).sum(axis=1)
    return Report(
        coco=_recall(count_by_coco(overlaps), num_objects),
        detectron2=_recall(count_by_detectron2(overlaps), num_objects),
        num_images=len(truths),
        num_objects=num_objects,
        num_proposals=sum(len(image.scores) for image in proposals),
        categories=() if split is None else _by_category(overlaps, split),
    )


def _by_category(
    overlaps: Overlaps, split: CategorySplit
) -> tuple[CategoryRecall, ...]:
    """The recall of each group of categories."""
    groups = []
    for name, of_group in split_overlaps(overlaps, split).items():
        number = in_sizes(of_group.objects.areas).sum(axis=1)
        recall = _recall(count_by_coco(of_group), number)
        groups.append(CategoryRecall(name, recall, number))
    return tuple(groups)


def _recall(
    found: Float[np.ndarray, "t s l"], num_objects: Int[np.ndarray, " s"]
) -> Recall:
    """The share of objects found; NaN for a size without objects."""
    number = num_objects[None, :, None].astype(float)
    unknown = np.full(found.shape, np.nan)
    return Recall(np.divide(found, number, out=unknown, where=number > 0.0))


def _check_images(
    truths: Sequence[GroundTruth], proposals: Sequence[ImageProposals]
) -> None:
    """Raises an error if an image comes twice, or has proposals but no ground truth."""
    for name, images in (("truths", truths), ("proposals", proposals)):
        counts = Counter(image.image_id for image in images)
        twice = [image_id for image_id, number in counts.items() if number > 1]
        if twice:
            raise ValueError(
                f"evaluate needs each image once, got {len(twice)} image ids more than "
                f"once in {name}, for example {twice[0]}. Merge or rename them."
            )
    known = {truth.image_id for truth in truths}
    unknown = [image.image_id for image in proposals if image.image_id not in known]
    if unknown:
        raise ValueError(
            "evaluate needs the ground truth of every image with proposals, got "
            f"{len(unknown)} images without, for example {unknown[0]}. Pass the ground "
            "truth and the proposals of one data set."
        )
