"""Runs of several processes: the same as one, and elastic when they are resumed."""

import functools
import json
import re
import signal

import numpy as np
import pytest
from support import faults, many_processes

from rpn_jax.distributed.watchdog import STATUS

pytestmark = pytest.mark.many_processes

STEPS, SIZE = 12, 4
FLAGS = [
    *("--steps", str(STEPS), "--batch-size", str(SIZE), "--seed", "4"),
    *("--checkpoint-every", "4", "--log-every", "1", "--eval-every", "4"),
    *("--pipeline.min-side", "64", "--pipeline.max-side", "96"),
    *("--pipeline.scale-jitter", "0.8", "1.0", "--optimizer.name", "sgd"),
]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fleet")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in many_processes.shared_programs(folder).items():
            patch.setenv(name, value)
        yield many_processes.Fleet(folder)


def logged(fleet, name, file="metrics.jsonl"):
    path = fleet.folder / name / file
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines() if line.endswith("}")]


def run(fleet, name, *flags, processes=1, fault=None):
    """Runs the small network; process 1 may do something to itself, or process 0."""
    changes = [many_processes.be_small]
    if fault is not None:
        changes.append(functools.partial(faults.inject, *fault))
    return fleet.run(name, [*FLAGS, *flags], processes, changes=changes)


def test_two_processes_stop_together_and_one_goes_on_as_if_it_had_always_been_one(
    fleet,
):
    (of_one,) = run(fleet, "one")
    assert of_one.status == 0, of_one.report
    parts = run(fleet, "shared", processes=2, fault=("terminate", "step", 1))
    assert [part.status for part in parts] == [0, 0], parts
    stopped = len(parts[0].rows)
    assert faults.STEP <= stopped < STEPS
    names = [path.name for path in (fleet.folder / "shared/checkpoints").iterdir()]
    assert sorted(map(int, names))[-1] == stopped
    (rest,) = run(fleet, "shared", "--resume")
    assert rest.status == 0, rest.report
    assert rest.report.startswith(f"{stopped} {STEPS} ")

    rows = [np.concatenate([part.rows for part in parts], axis=1), rest.rows]
    np.testing.assert_array_equal(np.concatenate(rows), of_one.rows)
    of_many, expected = (logged(fleet, name) for name in ("shared", "one"))
    assert [line["step"] for line in of_many] == list(range(1, STEPS + 1))
    for name in ("unsampled_fraction", "positives"):  # see `small_network`
        assert [x[name] for x in of_many] == [x[name] for x in expected]
    losses = [[x["loss"] for x in lines] for lines in (of_many, expected)]
    np.testing.assert_allclose(*losses, rtol=1e-5)
    for a, b in zip(rest.state, of_one.state, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)

    printed = fleet.evaluate("evaluation", "one", 2, [many_processes.be_small])
    assert "Step 12. Results are in" in printed[0]
    assert printed[1] == ""
    recall = json.loads((fleet.folder / "evaluation/recall.json").read_text())
    assert recall["num_images"] == faults.NUM_SCENES
    *_, last = logged(fleet, "one", "evaluations.jsonl")
    found = recall["coco"]["AR@100"]["all"]
    assert found == pytest.approx(last["ar@100"], abs=1e-6)
    assert found > 0


def test_weights_of_a_deterministic_run_are_the_same_to_the_bit(fleet):
    digests = set()
    for name, processes, devices in (("alone", 1, 1), ("in_order", 2, 2)):
        flags = [*FLAGS, "--deterministic", "--steps", "3"]
        parts = fleet.run(name, flags, processes, devices)  # the real network
        assert [part.status for part in parts] == [0] * processes, parts
        digests |= {part.report.split()[-1] for part in parts}
    assert len(digests) == 1


def test_an_exception_in_an_evaluation_ends_all_with_its_message(fleet):
    parts = run(fleet, "failed", processes=2, fault=("error", "evaluation", 1))
    assert [part.status for part in parts] == [STATUS, 1], parts
    for part in parts:
        assert "process 1 on" in part.report
        when = "in the evaluation after step 8, after 8 images"
        assert f"{when}: image 7 cannot be read. All processes end" in part.report


def test_a_process_killed_in_a_save_is_named_and_nothing_is_lost(fleet):
    parts = run(fleet, "killed", processes=2, fault=("kill", "save", 1))
    assert [part.status for part in parts] == [STATUS, -signal.SIGKILL], parts
    when = "process 1 on .* ended the run while it saved step 8: "
    assert re.search(f"{when}it has said nothing for 1. s", parts[0].report)
    assert re.search(
        f"{when}it was killed, or JAX ended it", fleet.last_words("killed", 1)
    )
    (rest,) = run(fleet, "killed", "--resume")
    assert rest.status == 0, rest.report
    assert "4 12 " in rest.report  # the save of step 8 had no manifest
    expected = np.arange(4 * SIZE, STEPS * SIZE).reshape(-1, SIZE)
    np.testing.assert_array_equal(rest.rows, expected)
    steps = [line["step"] for line in logged(fleet, "killed")]
    assert steps == list(range(1, STEPS + 1))


def test_if_process_0_is_killed_the_last_line_of_the_others_says_so(fleet):
    parts = run(fleet, "first", processes=2, fault=("kill", "evaluation", 0))
    assert parts[0].status == -signal.SIGKILL
    assert parts[1].status not in (0, None)
    words = fleet.last_words("first", 1)
    assert "process 0 on" in words
    assert "it hosts the coordination service, which is gone" in words
