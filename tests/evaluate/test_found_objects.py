"""How proposals find each object, against the recall over all of them and loops."""

import numpy as np
import pytest
from support.evaluated import guesses, objects_on, recall_of
from support.reference import overlaps_by_hand

from rpn_jax.evaluate.found_objects import BEST_LIMITS, MOST, find_objects
from rpn_jax.evaluate.recall_report import IOU_THRESHOLDS, LIMITS


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return objects_on(tmp_path_factory.mktemp("set"))


def test_objects_add_up_to_the_recall_at_every_limit_and_iou(source):
    proposals = guesses(source)
    found = find_objects([source.truth(row) for row in range(4)], proposals)
    report = recall_of(source, proposals)
    for limit in LIMITS:
        share = found.share_found(limit).mean()
        assert share == pytest.approx(report.coco.average(limit)), limit
        for iou in IOU_THRESHOLDS:
            share = found.is_found(limit, iou).mean()
            assert share == pytest.approx(report.coco.average(limit, iou=iou))


def test_the_best_iou_is_that_of_loops_and_a_lost_image_has_none(source):
    truths, proposals = [source.truth(row) for row in range(4)], guesses(source)
    del proposals[2]
    found = find_objects(truths, proposals)
    for row, truth in enumerate(truths):
        of_image = found.objects.image == row
        if row == 2:
            assert (found.needed[:, of_image] == MOST + 1).all()
            assert (found.best_iou[:, of_image] == 0.0).all()
            continue
        order = np.argsort(-proposals[row].scores, kind="stable")
        boxes = proposals[row].boxes[order]
        for place, limit in enumerate(BEST_LIMITS):
            best = [max(overlaps_by_hand(x, boxes[:limit])) for x in truth.boxes]
            np.testing.assert_allclose(found.best_iou[place, of_image], best, rtol=1e-5)
