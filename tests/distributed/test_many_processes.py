"""Runs of several processes: the same as one, and elastic when they are resumed."""

import json
import os
import signal
import time

import numpy as np
import pytest
from support.many_processes import Fleet, fail_at_step_5

from rpn_jax.distributed.watchdog import STATUS

STEPS = 24  # so many that a busy machine can stop a run before its end
FLAGS = [
    *("--steps", str(STEPS), "--batch-size", "4", "--seed", "4"),
    *("--checkpoint-every", "100", "--log-every", "1"),
    *("--pipeline.min-side", "64", "--pipeline.max-side", "96"),
    *("--pipeline.scale-jitter", "0.8", "1.0"),
]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fleet")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_PLATFORMS", "cpu")
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(folder / "compiled"))
        patch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        patch.setenv("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
        yield Fleet(folder)


@pytest.fixture(scope="module")
def of_one(fleet):
    """The run of one process with one device."""
    (ended,) = fleet.run("one", FLAGS)
    assert ended.status == 0, ended.report
    return ended


def logged(fleet, name):
    path = fleet.folder / name / "metrics.jsonl"
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines() if line.endswith("}")]


def test_two_processes_stop_together_and_one_goes_on_as_if_it_had_always_been_one(
    fleet, of_one
):
    started = fleet.launch("shared", FLAGS, processes=2, devices=2)
    while started[1].is_alive() and len(logged(fleet, "shared")) < 2:
        time.sleep(0.005)
    os.kill(started[1].pid, signal.SIGTERM)  # one of them, which tells the other
    parts = fleet.join("shared", started)
    assert [part.status for part in parts] == [0, 0], parts
    stopped = len(parts[0].rows)
    assert 2 <= stopped < STEPS
    assert [path.name for path in (fleet.folder / "shared/checkpoints").iterdir()] == [
        str(stopped)
    ]
    (rest,) = fleet.run("shared", [*FLAGS, "--resume"], devices=2)
    assert rest.status == 0, rest.report

    rows = [np.concatenate([part.rows for part in parts], axis=1), rest.rows]
    np.testing.assert_array_equal(np.concatenate(rows), of_one.rows)
    of_many, expected = (logged(fleet, name) for name in ("shared", "one"))
    assert [line["step"] for line in of_many] == list(range(1, STEPS + 1))
    for name in ("unsampled_fraction", "positives"):  # see `many_processes`
        assert [x[name] for x in of_many] == [x[name] for x in expected]
    for name in ("loss", "objectness", "box"):
        losses = [[x[name] for x in lines] for lines in (of_many, expected)]
        np.testing.assert_allclose(*losses, rtol=1e-5)


def test_weights_of_a_deterministic_run_are_the_same_to_the_bit(fleet):
    digests = set()
    for name, processes, devices in (("alone", 1, 1), ("in_order", 2, 2)):
        flags = [*FLAGS, "--deterministic", "--steps", "3"]
        parts = fleet.run(name, flags, processes, devices)
        assert [part.status for part in parts] == [0] * processes, parts
        digests |= {part.report.split()[-1] for part in parts}
    assert len(digests) == 1


def test_an_exception_in_one_process_ends_all_with_its_message(fleet):
    parts = fleet.run("failed", FLAGS, processes=2, devices=2, change=fail_at_step_5)
    assert [part.status for part in parts] == [STATUS, 1], parts
    for part in parts:
        assert "process 1 on" in part.report
        assert "at step 5: image 7 cannot be read. All processes end" in part.report


def test_a_killed_process_ends_the_other_within_the_bound_and_is_named(fleet):
    flags = [*FLAGS, "--steps", "1000000"]
    started = fleet.launch("killed", flags, processes=2, devices=2)
    while started[1].is_alive() and len(logged(fleet, "killed")) < 5:
        time.sleep(0.005)
    started[1].kill()
    since = time.monotonic()
    parts = fleet.join("killed", started)
    assert time.monotonic() - since < 30
    assert [part.status for part in parts] == [STATUS, -signal.SIGKILL], parts
    assert "process 1 on" in parts[0].report
    assert "it has said nothing for" in parts[0].report
