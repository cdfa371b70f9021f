"""The images of a page, and counts that agree with the recall."""

import base64
import io

import numpy as np
import pytest
from PIL import Image
from support.evaluated import BAD_NAME, guesses, objects_on, recall_of

from rpn_jax.evaluate.recall_report import COCO_SIZES, CURVE_LIMITS
from rpn_jax.report import RunProposals, make_gallery


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return objects_on(tmp_path_factory.mktemp("set"), 5)


def content_of(source, *runs):
    named = [RunProposals(f"run {i}", run) for i, run in enumerate(runs)]
    return make_gallery(source, named).content


def drop_low(proposals, lowest):
    """The proposals with at least a score; their order stays."""
    return {
        row: x._replace(boxes=x.boxes[x.scores >= lowest], scores=kept)
        for row, x in proposals.items()
        for kept in [x.scores[x.scores >= lowest]]
    }


@pytest.mark.parametrize("level", [0, 50, 85])
def test_counts_at_every_slider_position_are_those_of_the_recall(source, level):
    proposals = guesses(source)
    report = recall_of(source, drop_low(proposals, np.float32(level / 100)))
    (run,) = content_of(source, proposals)["runs"]
    totals = report.num_objects[: len(COCO_SIZES)].tolist()
    assert run["total"] == totals
    assert totals[0] == 20
    for size, name in enumerate(COCO_SIZES):
        for row, limit in enumerate(CURVE_LIMITS):
            recall = report.coco.average(limit, size=name, iou=0.5)
            found = run["found"][size][row][level]
            assert found == pytest.approx(recall * totals[size]), (name, limit)


def test_the_script_can_count_the_same_from_the_images(source):
    content = content_of(source, guesses(source))
    (run,) = content["runs"]
    for size in range(len(COCO_SIZES)):
        for row, limit in enumerate(CURVE_LIMITS):
            for level in (0, 40, 100):
                found = sum(
                    rank < limit and reached >= level
                    for image in content["images"]
                    for view in image["views"]
                    for rank, reached in zip(
                        view["rank"][size], view["level"][size], strict=True
                    )
                )
                assert found == run["found"][size][row][level]


def test_the_worst_image_comes_first(source):
    proposals = guesses(source)
    proposals[3] = proposals[3]._replace(
        boxes=np.zeros((0, 4), np.float32), scores=np.zeros(0, np.float32)
    )
    del proposals[2]  # it could not be decoded
    names = [image["name"] for image in content_of(source, proposals)["images"]]
    assert names[0] == "3.png"
    assert set(names) == {BAD_NAME, "1.png", "3.png", "4.png"}


def test_pictures_are_small_and_boxes_lie_in_pixels_of_the_original(source):
    content = content_of(source, guesses(source, per_object=100))
    image = next(x for x in content["images"] if x["name"] == "1.png")
    head, data = image["picture"].split(",")
    assert head == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
        assert picture.size == (image["width"], image["height"])
    assert image["objects"] == source.truth(1).boxes.astype(int).tolist()
    (view,) = image["views"]
    assert len(view["boxes"]) == len(view["levels"]) == 300  # of 400
    assert np.all(np.diff(view["levels"]) <= 0)


def test_of_two_runs_only_images_that_differ_are_shown(source):
    first = guesses(source)
    second = dict(first)
    del second[1]
    content = content_of(source, first, second)
    assert [image["name"] for image in content["images"]] == ["1.png"]
    assert len(content["images"][0]["views"]) == 2
    assert content["runs"][0]["found"] != content["runs"][1]["found"]
