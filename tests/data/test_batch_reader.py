"""Who reads batches: threads and worker processes."""

import dataclasses
import os

import pytest
from support import data_files
from support.pipeline_data import PLAIN

from rpn_jax.data import (
    ImageError,
    PipelineConfig,
    Scenes,
    only_seen,
    read_coco,
    split_categories,
    train_batches,
)
from rpn_jax.data.batch_reader import count_readers


def with_damage(folder):
    """Six wide images and a tall one, which shares no shape and cannot be decoded."""
    images = []
    for number in range(7):
        height, width = (96, 48) if number == 3 else (48, 90 + number)
        path = folder / f"images/{number}.jpg"
        data_files.save(path, data_files.noise(height, width, number))
        images.append(
            {"id": number, "file_name": path.name, "height": height, "width": width}
        )
    records = [data_files.coco_record(number, [4, 6, 20, 30]) for number in range(7)]
    content = {"images": images, "annotations": records}
    source = read_coco(data_files.write_json(folder / "set.json", content))
    damaged = folder / "images/3.jpg"
    damaged.write_bytes(damaged.read_bytes()[:200])
    return source


def until_error(source, config, start):
    """The batches from a step on, and the error that ends them."""
    found = []
    try:
        for batch in train_batches(
            source, config, batch_size=1, seed=0, start_step=start
        ):
            found.append([column.tobytes() for column in batch])
    except ImageError as error:
        return found, str(error)
    raise AssertionError("training batches never end without an error")


def test_two_workers_read_what_one_process_reads_and_report_its_errors(tmp_path):
    source = with_damage(tmp_path)
    start = 1  # as a resumed run, from where several images come before the damaged one
    found, message = until_error(source, PLAIN, start)
    while len(found) < 3:
        start += len(found) + 1
        found, message = until_error(source, PLAIN, start)
    assert "images/3.jpg cannot be decoded" in message
    two = dataclasses.replace(PLAIN, workers=2, threads=1)
    assert until_error(source, two, start) == (found, message)


def test_sources_without_end_can_be_sent_to_another_process():
    """Their caches cannot, and their lists of sizes are too long."""
    import cloudpickle

    split = split_categories(Scenes().categories, train=["star"], test=None)
    assert split is not None
    for source in (Scenes(3, size=(48, 64)), only_seen(Scenes(3), split, "ignored")):
        content = cloudpickle.dumps(source)
        assert len(content) < 2000
        again = cloudpickle.loads(content)
        for row in (0, 7):
            assert (again.pixels(row) == source.pixels(row)).all()
            assert (again.truth(row).is_ignored == source.truth(row).is_ignored).all()


def test_threads_share_the_cores_of_the_machine(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(24), raising=False)
    assert count_readers(None).threads == 16
    assert count_readers(None, 2) == (12, 2)
    assert count_readers(None, 5) == (5, 5)
    assert count_readers(3, 2) == (3, 2)
    with pytest.raises(ValueError, match="threads and workers of at least 0"):
        PipelineConfig(workers=-1)
