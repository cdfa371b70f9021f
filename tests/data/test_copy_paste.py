"""Which objects are pasted, where, and in what size."""

import numpy as np
from support.marked_pictures import picture_of

from rpn_jax.data import CopyPasteConfig, PipelineConfig
from rpn_jax.data.collage import Labels, whole
from rpn_jax.data.copy_paste import paste_objects

CONFIG = PipelineConfig(
    min_side=100,
    max_side=200,
    copy_paste=CopyPasteConfig(max_objects=9, scale=(1.5, 1.5)),
)


def picture(size, boxes, ignored=()):
    is_ignored = np.isin(np.arange(len(boxes)), ignored)
    labels = Labels(
        np.array(boxes, np.float32).reshape(-1, 4), is_ignored, np.arange(len(boxes))
    )
    return picture_of(np.zeros((*size, 3), np.uint8), labels)


def pasted(target, source, draws=20):
    rng = np.random.default_rng(0)
    collages = [paste_objects(whole(target), source, CONFIG, rng) for _ in range(draws)]
    return [collage.parts[1:] for collage in collages]


def test_objects_that_others_cover_and_regions_are_not_pasted():
    alone, below, above = [0, 0, 10, 10], [20, 20, 30, 30], [20, 20, 30, 24]
    region, touched = [40, 40, 50, 50], [60, 60, 70, 70]
    neighbour = [60, 60, 62, 62]  # covers 4 percent of the other
    boxes = [alone, below, above, region, touched, neighbour]
    parts = pasted(picture((100, 100), []), picture((100, 100), boxes, [3]))
    found = {tuple(part.shown) for draw in parts for part in draw}
    assert found == {tuple(alone), tuple(touched)}
    assert {len(draw) for draw in parts} == {1, 2}


def test_objects_keep_their_size_after_resizing_times_the_factor():
    """The source is resized by 0.5 and the target by 2, so objects shrink to 1/4."""
    parts = pasted(picture((50, 80), []), picture((200, 200), [[0, 0, 40, 80]]))
    places = np.array([part.place for (part,) in parts])
    np.testing.assert_allclose(places[:, 2:] - places[:, :2], [[15.0, 30.0]] * 20)
    assert (places[:, :2] >= 0).all()
    assert (places[:, 2:] <= (80, 50)).all()
    assert (np.ptp(places[:, :2], axis=0) > (30, 10)).all()


def test_an_object_that_is_too_large_becomes_smaller():
    parts = pasted(picture((100, 100), []), picture((100, 100), [[0, 0, 80, 40]]), 3)
    for (part,) in parts:
        np.testing.assert_allclose(part.place[[0, 2]], [0, 100], atol=1e-9)
        assert abs(part.place[3] - part.place[1] - 50) < 1e-9


def test_nothing_is_pasted_where_there_is_no_room():
    source = picture((100, 100), [[0, 0, 40, 40]])
    assert pasted(picture((100, 100), [[0, 0, 100, 100]], [0]), source) == [()] * 20
    small = [[x, y, x + 9, y + 9] for x in range(0, 99, 10) for y in range(0, 99, 10)]
    assert pasted(picture((100, 100), small), source) == [()] * 20
    assert pasted(picture((100, 100), []), picture((100, 100), [])) == [()] * 20
