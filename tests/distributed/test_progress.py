"""What a process says of itself in each phase."""

import time

import pytest

from rpn_jax.distributed import progress as progress_module
from rpn_jax.distributed.judgement import Phase
from rpn_jax.distributed.progress import Progress


def test_phases_end_with_the_one_before_and_count_as_places():
    progress = Progress()
    with progress.compiling():
        assert progress.record.when == "while it compiled"
    assert progress.record.when == "while it started"
    with progress.training():
        progress.step(1)
        with progress.evaluating():
            with progress.compiling():
                pass
            progress.batch(4)
            assert progress.record.when.endswith("after step 1, after 4 images")
        assert progress.record.when == "at step 1"
        progress.step(2)
    assert progress.record.when == "after step 2"
    assert progress.record.place == 2 + 2 + 4 + 1 + 2


def test_only_steps_that_nothing_interrupts_are_measured(monkeypatch):
    now = iter([0.0, 2.0, 10.0, 13.0])
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: next(now))
    progress = Progress()
    with progress.training():
        progress.step(1)
        progress.step(2)
        with progress.counting():
            pass
        progress.step(3)
        progress.step(4)
    assert progress.take_durations() == [(Phase.TRAINING, 2.0), (Phase.TRAINING, 3.0)]
    assert progress.take_durations() == []


def test_a_batch_that_is_read_waits_until_its_end_and_is_one_duration(monkeypatch):
    now = iter([0.0, 2.0])
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: next(now))
    progress = Progress()
    with progress.evaluating():
        progress.batch(4)
        place = progress.record.place
        assert not progress.record.has_read
        progress.read()
        assert progress.record.has_read
        assert progress.record.place == place
        progress.batch(4)
        assert not progress.record.has_read
    assert progress.take_durations() == [(Phase.EVALUATING, 2.0)]


def test_a_save_says_which_step_and_that_its_files_grow(tmp_path, monkeypatch):
    monkeypatch.setattr(progress_module.jax, "process_count", lambda: 2)
    monkeypatch.setattr("rpn_jax.distributed.growth._PERIOD", 0.01)
    progress = Progress()
    error = OSError("full")

    def save():
        with progress.training(), progress.saving(7, tmp_path):
            before = progress.record
            assert before.when == "while it saved step 7"
            while progress.record.life == before.life:
                time.sleep(0.01)
            before = progress.record
            (tmp_path / "file").write_text("a")
            while progress.record.life == before.life:
                time.sleep(0.01)
            raise error

    with pytest.raises(OSError, match="full"):
        save()
    assert progress.record.when == "after step 7"
    assert progress.place_of(error).when == "while it saved step 7"
    assert progress.place_of(OSError("another")).when == "after step 7"
