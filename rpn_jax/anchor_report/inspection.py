"""Inspection: measures before any training whether the anchors fit the boxes."""

import math
from collections.abc import Sequence

import numpy as np

from ..core._typing import Float
from ..core.anchor_config import AnchorConfig
from ..core.anchors import make_anchors
from ..core.config import TargetConfig
from ..spread import evenly_spaced
from .coverage import FeatureShapes, ImageBoxes, Size, cover, have_anchor
from .fit_report import RECALL_IOUS, AnchorReport, Suggestion
from .suggest import suggest_anchors


def inspect_anchors(
    images: Sequence[ImageBoxes],
    *,
    anchors: AnchorConfig = AnchorConfig(),
    targets: TargetConfig = TargetConfig(),
    feature_shapes: FeatureShapes | None = None,
    max_matched_images: int = 500,
) -> AnchorReport:
    """Measures how well anchors cover the boxes of a data set, and suggests others.

    The best IoU is exact, and computed for every box. A box may still lose all its
    anchors to other boxes. To find such boxes a whole image must be matched, which is
    done for up to `max_matched_images` evenly spaced images.

    Args:
        images: the objects of every image, as `scaled` makes them.
        anchors: the shapes and spacing of the anchors.
        targets: the rules that match anchors with boxes. There are no predictions yet,
            so `max_iou` takes the place of an assigner that reads them.
        feature_shapes: maps a padded size to `(height, width)` of every level; None
            divides by the strides and rounds up.
        max_matched_images: the largest number of images to match.

    Returns:
        The report. Without any box it is empty and has no suggestion.

    >>> from rpn_jax.anchor_report import scaled
    >>> from rpn_jax.data import Scenes
    >>> images = [scaled(Scenes().truth(0), (0.5, 0.5), (120, 160))]
    >>> anchors = AnchorConfig(sizes=(32,), strides=(16,))
    >>> report = inspect_anchors(images, anchors=anchors)
    >>> report.num_images, report.num_unmatched
    (1, 0)
    """
    targets = targets.before_training()
    # Images without objects count as images, but have nothing to measure.
    shapes_of = feature_shapes or _divider(anchors)
    num_images = len(images)
    images = [image for image in images if len(image.boxes)]
    # An empty array comes first, because NumPy cannot concatenate an empty list.
    sides = np.concatenate(
        [
            np.zeros((0, 2)),
            *(image.boxes[:, 2:] - image.boxes[:, :2] for image in images),
        ]
    )
    best_iou = cover(images, anchors, targets, shapes_of)
    matched = evenly_spaced(images, max_matched_images)
    has_anchor = [
        have_anchor(image, make_anchors(anchors, shapes_of(image.padded_size)), targets)
        for image in matched
    ]
    return AnchorReport(
        anchors=anchors,
        targets=targets,
        num_images=num_images,
        sides=sides,
        best_iou=best_iou,
        num_matched_images=len(matched),
        num_matched_objects=sum(map(len, has_anchor)),
        num_unmatched=sum(int((~found).sum()) for found in has_anchor),
        suggestion=_suggest(images, anchors, targets, shapes_of, best_iou),
    )


def _suggest(
    images: Sequence[ImageBoxes],
    anchors: AnchorConfig,
    targets: TargetConfig,
    shapes_of: FeatureShapes,
    best_iou: Float[np.ndarray, " o"],
) -> Suggestion | None:
    """Suggests other anchors, if their mean IoU is higher and no recall is lower."""
    other = suggest_anchors(images, anchors, targets)
    if other is None:
        return None
    # `suggest_anchors` leaves out the rounding of corners and some of the boxes, so its
    # result is measured on all boxes before it is trusted.
    found = Suggestion(other, cover(images, other, targets, shapes_of))
    # A higher mean can hide a loss at a threshold, so no recall may fall.
    lost = [
        (found.best_iou >= iou).mean() < (best_iou >= iou).mean()
        for iou in (*RECALL_IOUS, targets.positive_iou)
    ]
    is_better = found.best_iou.mean() > best_iou.mean() and not any(lost)
    return found if is_better else None


def _divider(anchors: AnchorConfig) -> FeatureShapes:
    """The feature shapes of a model that divides by the strides and rounds up."""

    def feature_shapes(padded_size: Size) -> list[Size]:
        height, width = padded_size
        return [
            (math.ceil(height / y), math.ceil(width / x))
            for y, x in anchors.level_strides
        ]

    return feature_shapes
