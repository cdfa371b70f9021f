"""The order of batches, which only the seed and the step decide."""

import dataclasses
import itertools
import threading

import numpy as np
import pytest
from support.pipeline_data import COMPOSED, MIXED, PLAIN, VARIED, FakeSource, take

from rpn_jax.data import (
    ImageError,
    ReadProblem,
    Scenes,
    bucket_shapes,
    eval_batches,
    steps_per_epoch,
    train_batches,
)


def assert_same(batches, others):
    for batch, other in zip(batches, others, strict=True):
        for name, a, b in zip(batch._fields, batch, other, strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b, err_msg=name)


def test_every_image_comes_once_in_an_epoch_and_batches_have_one_shape():
    source = FakeSource(MIXED)
    steps = steps_per_epoch(source, PLAIN, 2)
    shapes = bucket_shapes(source, PLAIN)
    epochs = [take(source, PLAIN, steps, start_step=e * steps) for e in range(3)]
    orders = []
    for epoch in epochs:
        rows = np.concatenate([batch.rows for batch in epoch])
        assert set(rows.tolist()) == set(range(len(MIXED)))
        assert len(rows) - len(MIXED) <= len(shapes)  # repeats in a last batch
        assert {batch.images.shape[1:3] for batch in epoch} == set(shapes)
        orders.append(rows.tolist())
    assert orders[0] != orders[1] != orders[2]


def test_another_seed_gives_another_order():
    source = FakeSource([(40, 60)] * 20)
    orders = [
        np.concatenate([b.rows for b in take(source, PLAIN, 10, seed=seed)]).tolist()
        for seed in (0, 0, 1)
    ]
    assert orders[0] == orders[1] != orders[2]


@pytest.mark.parametrize("source", [FakeSource(MIXED), Scenes(0), Scenes(1, 5)])
@pytest.mark.parametrize("start", [1, 5, 11])
def test_a_resumed_run_continues_as_if_it_had_not_stopped(source, start):
    whole = take(source, VARIED, 14)
    assert_same(take(source, VARIED, 14 - start, start_step=start), whole[start:])


@pytest.mark.parametrize("source", [FakeSource(MIXED, [[4, 6, 20, 30]]), Scenes(0)])
def test_a_resumed_run_composes_the_same_images(source):
    whole = take(source, COMPOSED, 8)
    assert_same(take(source, COMPOSED, 3, start_step=5), whole[5:])


@pytest.mark.parametrize("config", [VARIED, COMPOSED])
@pytest.mark.parametrize("threads", [0, 1, 3])
def test_the_number_of_threads_makes_no_difference(threads, config):
    source = FakeSource(MIXED, [[4, 6, 20, 30]], unreadable=[2])
    expected = take(source, config, 9)
    assert_same(take(source, config, 9, num_threads=threads), expected)
    set_so = dataclasses.replace(config, threads=threads)
    assert_same(take(source, set_so, 4, start_step=5), expected[5:])


@pytest.mark.parametrize(
    ("source", "count", "config"),
    [
        (FakeSource(MIXED), 2, VARIED),
        (FakeSource(MIXED), 4, VARIED),
        (Scenes(0), 2, VARIED),
        (Scenes(0), 4, VARIED),
        (FakeSource(MIXED, [[4, 6, 20, 30]]), 2, COMPOSED),
    ],
)
def test_processes_share_the_batches_of_one(source, count, config):
    whole = take(source, config, 5, batch_size=4)
    shares = [
        take(source, config, 5, batch_size=4, process_index=p, process_count=count)
        for p in range(count)
    ]
    joined = [
        type(parts[0])(*map(np.concatenate, zip(*parts, strict=True)))
        for parts in zip(*shares, strict=True)
    ]
    assert_same(joined, whole)


def test_an_unreadable_image_is_replaced_by_the_next_of_its_shape():
    source = FakeSource([(32, 64)] * 4 + [(64, 32)], unreadable=[1, 2], truncated=[3])
    seen = {}
    for batch in take(source, PLAIN, steps_per_epoch(source, PLAIN, 1), batch_size=1):
        seen.setdefault(int(batch.rows[0]), []).append(int(batch.problems[0]))
    assert {row: sorted(problems) for row, problems in seen.items()} == {
        0: [ReadProblem.NONE],
        3: [ReadProblem.TRUNCATED, ReadProblem.UNREADABLE, ReadProblem.UNREADABLE],
        4: [ReadProblem.NONE],
    }


def test_the_last_image_is_replaced_by_the_first():
    source = FakeSource([(32, 64)] * 3, unreadable=[2])
    rows = [int(b.rows[0]) for b in take(source, PLAIN, 3, batch_size=1)]
    assert sorted(rows) == [0, 0, 1]


def test_a_shape_without_a_readable_image_is_an_error():
    source = FakeSource([(32, 64)] * 3, unreadable=[0, 1, 2])
    with pytest.raises(ImageError, match=r"none among 3 images.* \d\.png"):
        take(source, PLAIN, 1)


def test_evaluation_sees_every_image_once_in_order_and_unchanged():
    source = FakeSource(MIXED, [[4, 6, 20, 30]])
    batches = list(eval_batches(source, VARIED, batch_size=3))
    shapes = [batch.images.shape[1:3] for batch in batches]
    assert set(shapes) == set(bucket_shapes(source, PLAIN))
    assert [key for key, _ in itertools.groupby(shapes)] == sorted(set(shapes))
    for _, group in itertools.groupby(batches, lambda batch: batch.images.shape):
        rows = np.concatenate([batch.rows for batch in group])
        rows = rows[rows >= 0]
        assert rows.tolist() == sorted(rows.tolist())
    rows = np.concatenate([batch.rows for batch in batches])
    assert sorted(rows[rows >= 0].tolist()) == list(range(len(MIXED)))
    for batch in batches:
        real = batch.rows >= 0
        assert (batch.gt_valid.sum(axis=1) == real).all()
        assert not batch.images[~real].any()
        boxes = batch.gt_boxes[real, 0] / np.tile(batch.scales[real, ::-1], 2)
        np.testing.assert_allclose(boxes, [[4, 6, 20, 30]] * real.sum(), rtol=1e-5)


def test_evaluation_has_no_augmentation():
    source = FakeSource(MIXED, [[4, 6, 20, 30]])
    assert_same(
        list(eval_batches(source, COMPOSED, batch_size=3)),
        list(eval_batches(source, PLAIN, batch_size=3)),
    )


def test_evaluation_leaves_out_what_it_cannot_read():
    source = FakeSource([(32, 64)] * 3, unreadable=[1], truncated=[2])
    (batch,) = eval_batches(source, PLAIN, batch_size=4)
    assert batch.rows.tolist() == [0, -1, 2, -1]
    assert batch.problems.tolist() == [
        ReadProblem.NONE,
        ReadProblem.UNREADABLE,
        ReadProblem.TRUNCATED,
        ReadProblem.NONE,
    ]


def test_processes_share_the_batches_of_evaluation():
    source = FakeSource(MIXED)
    whole = list(eval_batches(source, PLAIN, batch_size=4))
    parts = [{"process_index": p, "process_count": 2} for p in range(2)]
    halves = [list(eval_batches(source, PLAIN, batch_size=4, **p)) for p in parts]
    for batch, *parts in zip(whole, *halves, strict=True):
        rows = np.concatenate([part.rows for part in parts])
        np.testing.assert_array_equal(rows, batch.rows)


def test_threads_end_when_the_caller_stops():
    def readers():
        names = ("grain", "rpn_jax_reader")
        return [t for t in threading.enumerate() if t.name.startswith(names)]

    batches = train_batches(FakeSource(MIXED), PLAIN, batch_size=2, seed=0)
    next(batches)
    assert readers()
    batches.close()
    for thread in readers():
        thread.join(timeout=5)
    assert not readers()


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 0},
        {"batch_size": 3, "process_count": 2},
        {"process_index": 1},
        {"process_index": -1},
        {"seed": -1},
        {"start_step": -1},
    ],
)
def test_impossible_batches_are_refused_before_the_first(options):
    arguments = {"batch_size": 2, "seed": 0} | options
    with pytest.raises(ValueError, match=r"needs a (batch_size|seed)"):
        train_batches(FakeSource(MIXED), PLAIN, **arguments)


def test_an_endless_source_has_no_epoch():
    with pytest.raises(
        ValueError, match="needs a finite source, got an endless Scenes"
    ):
        steps_per_epoch(Scenes(), PLAIN, 2)
    with pytest.raises(ValueError, match="endless"):
        eval_batches(Scenes(), PLAIN, batch_size=2)
