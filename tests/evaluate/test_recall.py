"""Recall against plain loops, plain faster-coco-eval, and values by hand."""

import json

import numpy as np
import pytest
from faster_coco_eval import COCO, COCOeval_faster
from support.reference import pairwise_iou, random_boxes

from rpn_jax.data.image_source import GroundTruth
from rpn_jax.evaluate import (
    ImageProposals,
    evaluate,
    read_coco_results,
    write_coco_results,
)
from rpn_jax.evaluate.recall_report import CURVE_LIMITS, IOU_THRESHOLDS, LIMITS, SIZES


def truth_of(image_id, boxes, *, is_ignored=None, areas=None):
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    sides = boxes[:, 2:] - boxes[:, :2]
    return GroundTruth(
        image_id=image_id,
        size=(600, 800),
        boxes=boxes,
        is_ignored=np.zeros(len(boxes), bool) if is_ignored is None else is_ignored,
        areas=(sides[:, 0] * sides[:, 1] if areas is None else areas).astype(
            np.float32
        ),
        name=f"{image_id}.jpg",
    )


def proposals_of(image_id, boxes, scores=None):
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    scores = -np.arange(len(boxes)) if scores is None else np.asarray(scores)
    return ImageProposals(image_id, boxes, scores.astype(np.float32))


def random_data_set(seed, num_images=12):
    """Images with few distinct coordinates and scores, so that there are ties."""
    rng = np.random.default_rng(seed)
    truths, proposals = [], []
    for image_id in rng.permutation(100)[:num_images].tolist():
        boxes = random_boxes(rng, rng.integers(0, 9), 300, snap=1)
        ignored = rng.uniform(size=len(boxes)) < 0.2
        areas = rng.choice([100.0, 32.0**2, 5000.0, 96.0**2, 2e4, 3e5], len(boxes))
        truths.append(truth_of(image_id, boxes, is_ignored=ignored, areas=areas))
        number = rng.integers(0, 60)
        found = random_boxes(rng, number, 300, snap=1)
        if len(boxes):
            near = boxes[rng.integers(0, len(boxes), number)]
            near = near + rng.integers(-9, 10, (number, 4))
            near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
            found = np.where(rng.uniform(size=(number, 1)) < 0.7, near, found)
        scores = rng.integers(0, 12, number) / 4
        proposals.append(proposals_of(image_id, found, scores))
    return truths, proposals


def recall_by_faster_coco_eval(truths, proposals):
    """The official evaluation gets everything, ignored regions included."""

    def annotation(image_id, box, number, **other):
        x0, y0, x1, y1 = box.tolist()
        side = {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0)}
        keys = {"id": number, "image_id": image_id, "category_id": 1, "iscrowd": 0}
        return keys | side | other

    objects, found = [], []
    for truth in truths:
        for box, area, ignored in zip(
            truth.boxes, truth.areas, truth.is_ignored, strict=True
        ):
            extra = {"area": float(area), "iscrowd": int(ignored)}
            objects.append(annotation(truth.image_id, box, len(objects) + 1, **extra))
    for image in proposals:
        for box, score in zip(image.boxes, image.scores, strict=True):
            number = len(found) + 1
            found.append(annotation(image.image_id, box, number, score=float(score)))
    shared = {
        "images": [{"id": truth.image_id} for truth in truths],
        "categories": [{"id": 1, "name": "thing"}],
    }
    ranges = {name: list(ends) for name, ends in SIZES.items() if name != "all"}
    run = COCOeval_faster(
        COCO(shared | {"annotations": objects}),
        COCO(shared | {"annotations": found}),
        "bbox",
        ranges=ranges,
        print_function=lambda *_: None,
    )
    run.params.useCats = 0
    run.params.maxDets = list(CURVE_LIMITS)
    run.evaluate()
    recall = run.eval["recall"][:, 0]
    return np.where(recall < 0, np.nan, recall)


def sorted_ious(truths, proposals):
    """For each image, the IoU of its proposals, best first, with its boxes."""
    by_image = {image.image_id: image for image in proposals}
    for truth in truths:
        image = by_image[truth.image_id]
        order = sorted(range(len(image.scores)), key=lambda i: -image.scores[i])
        yield pairwise_iou(image.boxes[order], truth.boxes)


def recall_by_detectron2(truths, ious, size, limit, thresholds):
    """A transcription of `_evaluate_box_proposals` that counts every image."""
    low, high = SIZES[size]
    overlaps, number = [], 0
    for truth, of_image in zip(truths, ious, strict=True):
        inside = [
            i
            for i, (area, ignored) in enumerate(
                zip(truth.areas, truth.is_ignored, strict=True)
            )
            if low <= area <= high and not ignored
        ]
        number += len(inside)
        iou = of_image[:limit, inside]
        for _ in range(min(iou.shape)):
            best_of_object, best_row = iou.max(axis=0), iou.argmax(axis=0)
            column = best_of_object.argmax()
            overlaps.append(best_of_object[column])
            iou[best_row[column], :] = -1
            iou[:, column] = -1
    found = [sum(overlap >= t for overlap in overlaps) for t in thresholds]
    return np.array(found) / number if number else np.nan


@pytest.mark.parametrize("seed", range(4))
def test_recall_is_that_of_faster_coco_eval(seed):
    truths, proposals = random_data_set(seed)
    report = evaluate(truths, proposals)
    expected = recall_by_faster_coco_eval(truths, proposals)
    np.testing.assert_allclose(report.coco.values, expected, atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_recall_is_that_of_detectron2(seed):
    truths, proposals = random_data_set(seed + 10)
    values = evaluate(truths, proposals).detectron2.values
    ious = list(sorted_ious(truths, proposals))
    for s, size in enumerate(SIZES):
        for row, limit in enumerate(CURVE_LIMITS):
            expected = recall_by_detectron2(truths, ious, size, limit, IOU_THRESHOLDS)
            np.testing.assert_allclose(values[:, s, row], expected, atol=1e-12)


def test_the_two_rules_differ_where_one_proposal_serves_two_objects():
    # The proposal of best score overlaps both objects, the first one more. The other
    # proposal overlaps only the first object. In the order of scores the second object
    # is lost; in the order of overlaps both are found.
    objects = [[0, 0, 100, 100], [0, 0, 100, 80]]
    found = [[0, 0, 100, 91], [0, 0, 100, 100]]
    report = evaluate([truth_of(1, objects)], [proposals_of(1, found)])
    assert report.coco.average(10, iou=0.85) == 0.5
    assert report.detectron2.average(10, iou=0.85) == 1.0


def test_of_equal_overlaps_the_first_object_is_served_first():
    # Either object may take the first proposal, but only one has a second choice.
    upper, lower = [0, 0, 100, 80], [0, 20, 100, 100]
    found = proposals_of(1, [[0, 0, 100, 100], [0, 0, 100, 60]])
    for objects, recall in (([upper, lower], 0.5), ([lower, upper], 1.0)):
        report = evaluate([truth_of(1, objects)], [found])
        assert report.detectron2.average(10, iou=0.5) == recall


def test_proposals_count_by_score_and_not_by_place():
    truth = truth_of(1, [[0, 0, 50, 50]])
    boxes = [[200, 200, 250, 250], [0, 0, 50, 50]]
    report = evaluate([truth], [proposals_of(1, boxes, [0.1, 0.9])])
    assert report.coco.average(1) == report.detectron2.average(1) == 1.0
    report = evaluate([truth], [proposals_of(1, boxes, [0.9, 0.1])])
    assert report.coco.average(1) == report.detectron2.average(1) == 0.0
    assert report.coco.average(10) == report.detectron2.average(10) == 1.0


def test_equal_scores_keep_the_order_of_the_rows():
    truth = truth_of(1, [[0, 0, 50, 50]])
    boxes = [[0, 0, 50, 50], [200, 200, 250, 250]]
    assert evaluate([truth], [proposals_of(1, boxes, [1, 1])]).coco.average(1) == 1.0
    turned = proposals_of(1, boxes[::-1], [1, 1])
    assert evaluate([truth], [turned]).coco.average(1) == 0.0


def test_average_recall_is_the_mean_over_ten_overlaps():
    # With an IoU of 0.72 it is found at 0.5, 0.55, 0.6, 0.65 and 0.7.
    truth, found = [[0, 0, 100, 100]], [[0, 0, 100, 72]]
    report = evaluate([truth_of(1, truth)], [proposals_of(1, found)])
    for recall in (report.coco, report.detectron2):
        assert recall.average(1) == pytest.approx(0.5)
        assert recall.average(1, iou=0.5) == 1.0
        assert recall.average(1, iou=0.75) == 0.0
        assert recall.over_iou(1).tolist() == [1.0] * 5 + [0.0] * 5


def test_an_overlap_of_exactly_the_threshold_counts():
    truth, found = [[0, 0, 100, 100]], [[0, 0, 100, 50]]
    report = evaluate([truth_of(1, truth)], [proposals_of(1, found)])
    assert report.coco.average(1, iou=0.5) == 1.0
    assert report.detectron2.average(1, iou=0.5) == 1.0


def test_sizes_go_by_the_given_area_and_not_by_the_box():
    truth = truth_of(1, [[0, 0, 100, 100]], areas=np.array([500.0]))
    report = evaluate([truth], [proposals_of(1, truth.boxes)])
    assert report.coco.average(1, size="small") == 1.0
    assert np.isnan(report.coco.average(1, size="large"))


def test_an_area_on_the_border_belongs_to_both_sizes():
    truth = truth_of(1, [[0, 0, 32, 32]])
    report = evaluate([truth], [proposals_of(1, truth.boxes)])
    numbers = dict(zip(SIZES, report.num_objects.tolist(), strict=True))
    assert (numbers["small"], numbers["medium"], numbers["large"]) == (1, 1, 0)


def test_images_without_proposals_count_as_missed():
    truths = [truth_of(i, [[0, 0, 50, 50]]) for i in (3, 7, 9, 4)]
    found = [proposals_of(9, [[0, 0, 50, 50]]), proposals_of(7, [])]
    report = evaluate(truths, found)
    assert report.coco.average(100) == report.detectron2.average(100) == 0.25
    assert (report.num_images, report.num_proposals) == (4, 1)


def test_images_without_objects_change_nothing():
    truths, proposals = random_data_set(5)
    alone = evaluate(truths, proposals)
    ignored = truth_of(801, [[0, 0, 90, 90]], is_ignored=np.array([True]))
    truths += [truth_of(800, []), ignored]
    proposals += [proposals_of(i, [[0, 0, 90, 90]]) for i in (801, 800)]
    more = evaluate(truths, proposals)
    np.testing.assert_array_equal(alone.coco.values, more.coco.values)
    np.testing.assert_array_equal(alone.detectron2.values, more.detectron2.values)


@pytest.mark.parametrize(
    "truths",
    [
        [],
        [truth_of(1, [])],
        [truth_of(1, [[0, 0, 9, 9]], is_ignored=np.array([True]))],
    ],
)
def test_without_any_object_recall_is_unknown(truths):
    proposals = [proposals_of(truth.image_id, [[0, 0, 9, 9]]) for truth in truths]
    report = evaluate(truths, proposals)
    assert np.isnan(report.coco.values).all()
    assert np.isnan(report.detectron2.values).all()
    assert "nan" not in report.table()
    json.dumps(report.as_dict(), allow_nan=False)


def test_objects_and_no_proposals_at_all():
    report = evaluate([truth_of(1, [[0, 0, 50, 50]])], [])
    assert report.coco.average() == report.detectron2.average() == 0.0


def test_a_box_without_extent_finds_nothing():
    truths = [truth_of(1, [[5, 5, 5, 5], [0, 0, 9, 9]])]
    report = evaluate(truths, [proposals_of(1, [[5, 5, 5, 5], [0, 0, 9, 9]])])
    assert report.coco.average(10) == report.detectron2.average(10) == 0.5


@pytest.mark.parametrize(
    ("truths", "proposals", "message"),
    [
        ([truth_of(1, []), truth_of(1, [])], [], "more than once in truths"),
        ([truth_of(1, [])], [proposals_of(1, [])] * 2, "more than once in proposals"),
        ([truth_of(1, [])], [proposals_of(2, [])], "images without, for example 2"),
        (
            [truth_of(1, [])],
            [proposals_of(1, [[0, 0, np.nan, 9]])],
            "finite boxes and scores",
        ),
        (
            [truth_of(1, [])],
            [proposals_of(1, [[0, 0, 9, 9]], [np.inf])],
            "finite boxes and scores",
        ),
        (
            [truth_of(1, [])],
            [proposals_of(1, [[0, 0, 9, 9]], [1.0, 2.0])],
            "Drop padding",
        ),
    ],
)
def test_what_cannot_be_evaluated_is_said(truths, proposals, message):
    with pytest.raises(ValueError, match=message):
        evaluate(truths, proposals)


def test_nothing_is_printed(capfd, caplog):
    caplog.set_level("INFO")
    evaluate(*random_data_set(1))
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_the_curve_over_limits_passes_through_the_table():
    recall = evaluate(*random_data_set(2)).coco
    curve = dict(zip(CURVE_LIMITS, recall.over_limits(), strict=True))
    for limit in LIMITS:
        assert curve[limit] == pytest.approx(recall.average(limit))
    assert (np.diff(recall.over_limits()) >= 0).all()
    assert (np.diff(recall.over_iou()) <= 0).all()


def test_a_limit_that_was_not_evaluated_is_an_error():
    recall = evaluate(*random_data_set(2)).coco
    with pytest.raises(ValueError, match="needs a limit that was evaluated, got 25"):
        recall.average(25)
    with pytest.raises(ValueError, match="needs an IoU that was evaluated, got 0.92"):
        recall.average(iou=0.92)


@pytest.mark.parametrize("written", [0.5, 0.7, 0.9, 0.95, *IOU_THRESHOLDS])
def test_every_threshold_is_found_as_it_is_written(written):
    recall = evaluate(*random_data_set(2)).coco
    place = int(np.argmin(np.abs(np.array(IOU_THRESHOLDS) - written)))
    assert recall.average(iou=written) == recall.over_iou()[place]


def test_the_table_is_aligned_and_complete():
    report = evaluate(*random_data_set(3))
    lines = report.table().splitlines()
    assert len({len(line) for line in lines}) == 1
    share = f"{report.coco.average(100):.3f}"
    row = next(line for line in lines if line.startswith("| AR  "))
    assert row.split("|")[5].strip() == share
    assert "| @1,000 |" in lines[0]


def test_numbers_survive_json():
    report = evaluate(*random_data_set(3))
    read = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert read["coco"]["AR@100"]["all"] == pytest.approx(
        report.coco.average(100), abs=1e-6
    )


def test_proposals_come_back_from_a_results_file(tmp_path):
    _, proposals = random_data_set(4)
    proposals = [image for image in proposals if len(image.scores)]
    rng = np.random.default_rng(0)
    proposals = [
        image._replace(scores=rng.uniform(size=len(image.scores)).astype(np.float32))
        for image in proposals
    ]
    write_coco_results(tmp_path / "proposals.json", proposals)
    read = read_coco_results(tmp_path / "proposals.json")
    assert [image.image_id for image in read] == [image.image_id for image in proposals]
    for actual, expected in zip(read, proposals, strict=True):
        np.testing.assert_allclose(actual.boxes, expected.boxes, atol=2e-3)
        np.testing.assert_array_equal(actual.scores, expected.scores)


def test_a_results_file_has_the_form_of_coco(tmp_path):
    path = tmp_path / "proposals.json"
    write_coco_results(
        path, [proposals_of(7, [[1, 2, 4, 8]], [0.5]), proposals_of(8, [])]
    )
    row = {"image_id": 7, "category_id": 1, "bbox": [1, 2, 3, 6], "score": 0.5}
    assert json.loads(path.read_text()) == [row]


def test_a_results_file_without_proposals_is_an_empty_list(tmp_path):
    write_coco_results(tmp_path / "none.json", [])
    assert read_coco_results(tmp_path / "none.json") == []


@pytest.mark.parametrize(
    "text",
    [
        "no json",
        "3",
        '{"annotations": []}',
        '[{"image_id": 1}]',
        '[{"image_id": 1, "bbox": [1, 2], "score": 1}]',
        '[{"image_id": 1, "bbox": [1, 2, 3, "x"], "score": 1}]',
        '[{"image_id": 1, "bbox": [1, 2, 3, NaN], "score": 1}]',
        '[{"image_id": Infinity, "bbox": [1, 2, 3, 4], "score": 1}]',
    ],
)
def test_a_file_that_holds_no_results_is_an_error(tmp_path, text):
    path = tmp_path / "wrong.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="read_coco_results needs"):
        read_coco_results(path)
