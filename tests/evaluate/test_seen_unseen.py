"""Recall of seen and of unseen objects, against plain loops."""

import numpy as np
from support.reference import pairwise_iou, random_boxes

from rpn_jax.data import CategorySplit
from rpn_jax.data.image_source import GroundTruth
from rpn_jax.evaluate import ImageProposals, evaluate

SPLIT = CategorySplit(frozenset({1, 2}), frozenset({5}))


def random_data_set(seed):
    rng = np.random.default_rng(seed)
    truths, proposals = [], []
    for image_id in range(8):
        number = int(rng.integers(0, 9))
        boxes = random_boxes(rng, number, 300).astype(np.float32)
        sides = boxes[:, 2:] - boxes[:, :2]
        ignored, kinds = (
            rng.uniform(size=number) < 0.1,
            rng.choice([1, 2, 5, 9], number),
        )
        areas = sides.prod(axis=1)
        truth = GroundTruth(image_id, (400, 400), boxes, ignored, areas, "x", kinds)
        truths.append(truth)
        found = random_boxes(rng, 40, 300)
        if number:
            near = boxes[rng.integers(0, number, 40)] + rng.normal(0, 6, (40, 4))
            near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
            found = np.where(rng.uniform(size=(40, 1)) < 0.8, near, found)
        scores = rng.permutation(40).astype(np.float32)
        proposals.append(ImageProposals(image_id, found.astype(np.float32), scores))
    return truths, proposals


def match(ious, is_first):
    """COCO's greedy pairing: the object of every proposal, or -1."""
    taken, found = set(), []
    for row in ious:
        best, best_key = -1, (False, 0.0)
        for j, iou in enumerate(row):
            key = (bool(is_first[j]), iou)
            if j not in taken and iou >= 0.5 and key > best_key:
                best, best_key = j, key
        taken.add(best)
        found.append(best)
    return found


def recall_at_half(truths, proposals, wanted, limit, budget=None):
    """The share of wanted objects that the best proposals find at an IoU of 0.5.

    `budget` names the seen categories whose finders do not count, as in OLN.
    """
    found = total = 0
    for truth, image in zip(truths, proposals, strict=True):
        boxes = image.boxes[np.argsort(-image.scores)].astype(float)
        is_object = ~truth.is_ignored
        kinds = truth.categories[is_object]
        iou = pairwise_iou(boxes, truth.boxes[is_object].astype(float))
        if budget is not None:
            relevant = np.isin(kinds, [*wanted, *budget])
            own = kinds[relevant]
            of = match(iou[:, relevant], np.isin(own, list(wanted)))
            keep = [j < 0 or own[j] in wanted for j in of]
            iou = iou[keep]
        is_wanted = np.isin(kinds, list(wanted))
        of = match(iou[:limit, is_wanted], np.ones(is_wanted.sum()))
        found += sum(j >= 0 for j in of)
        total += int(is_wanted.sum())
    return found / total


def test_both_groups_and_olns_way_agree_with_loops():
    differs = 0
    for seed in range(4):
        truths, proposals = random_data_set(seed)
        report = evaluate(truths, proposals, split=SPLIT)
        seen, unseen, oln = report.categories
        for limit in (1, 2, 5, 10, 100):
            half = [group.coco.average(limit, iou=0.5) for group in report.categories]
            args = truths, proposals
            expected = (
                recall_at_half(*args, SPLIT.seen, limit),
                recall_at_half(*args, SPLIT.unseen, limit),
                recall_at_half(*args, SPLIT.unseen, limit, budget=SPLIT.seen),
            )
            np.testing.assert_allclose(half, expected, atol=1e-9)
            differs += half[1] < half[2]
        assert oln.num_objects[0] == unseen.num_objects[0]
        others = sum(((t.categories == 9) & ~t.is_ignored).sum() for t in truths)
        of_groups = seen.num_objects[0] + unseen.num_objects[0]
        assert report.num_objects[0] == of_groups + others
        assert len(evaluate(truths, proposals).categories) == 0
    assert differs > 3


def test_the_table_and_the_dictionary_have_a_row_for_each_group():
    truths, proposals = random_data_set(1)
    plain = evaluate(truths, proposals)
    report = evaluate(truths, proposals, split=SPLIT)
    lines = report.table().splitlines()
    added = [line for line in lines if line not in plain.table().splitlines()]
    assert len(lines) - len(plain.table().splitlines()) == 3
    assert ["unseen, OLN" in line for line in added].count(True) == 1
    content = report.as_dict()
    assert list(content.pop("categories")) == ["seen", "unseen", "unseen, OLN's way"]
    assert content == plain.as_dict()
    # Without categories, no object is in a group.
    bare = [truth._replace(categories=None) for truth in truths]
    of_none = evaluate(bare, proposals, split=SPLIT).categories
    assert [group.num_objects[0] for group in of_none] == [0, 0, 0]
