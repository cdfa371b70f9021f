"""Killing a training run at many moments, and resuming it."""

import json
import multiprocessing
import os
import pathlib
import shutil
import signal
import time

import pytest
from support import many_processes, small_run

STEPS = 8
FLAGS = [
    *("--steps", str(STEPS), "--batch-size", "2", "--seed", "4"),
    *("--checkpoint-every", "2", "--log-every", "1"),
    *("--pipeline.min-side", "64", "--pipeline.max-side", "96"),
    *("--pipeline.scale-jitter", "0.8", "1.0"),
]


class Runner:
    """Starts runs in processes of their own, which share what they compile.

    The processes are forked from one that has imported everything.
    """

    def __init__(self, folder):
        self.folder = folder
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["rpn_jax.commands.flags"])

    def start(self, name, *flags):
        out = ["--out", str(self.folder / name)]
        report = self.folder / "report.txt"
        arguments = ([*FLAGS, *out, *flags], str(report))
        process = self.context.Process(target=small_run.train_quickly, args=arguments)
        process.start()
        return process, report

    def finish(self, name, *flags):
        process, report = self.start(name, *flags)
        process.join()
        assert process.exitcode == 0, report.read_text()[-3000:]
        first, last, digest = report.read_text().splitlines()[-1].split()
        return int(first), int(last), digest

    def fail(self, name, *flags):
        process, report = self.start(name, *flags)
        process.join()
        assert process.exitcode == 1
        return report.read_text()

    def kill_when(self, name, is_time, *flags):
        status, report = self.signal_when(signal.SIGKILL, name, is_time, *flags)
        assert status == -signal.SIGKILL, report

    def signal_when(self, number, name, is_time, *flags):
        process, report = self.start(name, *flags)
        while process.is_alive() and not is_time():
            time.sleep(0.001)
        assert process.pid is not None
        os.kill(process.pid, number)
        process.join()
        return process.exitcode, report.read_text()[-3000:]


def logged(folder):
    path = pathlib.Path(folder, "metrics.jsonl")
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines() if line.endswith("}")]


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in many_processes.shared_programs(folder).items():
            patch.setenv(name, value)
        yield Runner(folder)


@pytest.fixture(scope="module")
def undisturbed(runner):
    first, last, digest = runner.finish("undisturbed")
    assert (first, last) == (0, STEPS)
    return digest


def test_a_killed_run_ends_with_the_same_bits(runner, undisturbed):
    folder = runner.folder / "killed"
    checkpoints = folder / "checkpoints"

    def saving(step):
        return lambda: (checkpoints / f"{step}.orbax-checkpoint-tmp").exists()

    moments = [
        lambda: (folder / "config.json").exists(),  # before the first step
        saving(2),
        lambda: (checkpoints / "2").exists(),  # its manifest may be missing
        lambda: len(logged(folder)) >= 7,
    ]
    for number, is_time in enumerate(moments):
        runner.kill_when("killed", is_time, *["--resume"] * (number > 0))
    first, last, digest = runner.finish("killed", "--resume")
    assert 0 < first < last == STEPS
    assert digest == undisturbed
    lines = {name: logged(runner.folder / name) for name in ("killed", "undisturbed")}
    assert [line["step"] for line in lines["killed"]] == list(range(1, STEPS + 1))
    losses = [[line["loss"] for line in of_run] for of_run in lines.values()]
    assert losses[0] == losses[1]


def test_sigterm_saves_the_present_step_and_no_step_is_repeated(runner, undisturbed):
    folder = runner.folder / "stopped"

    def is_time():
        return len(logged(folder)) >= 3

    flags = ["--checkpoint-every", "100"]  # so that nothing else saves
    status, report = runner.signal_when(signal.SIGTERM, "stopped", is_time, *flags)
    assert status == 0, report
    _, stopped, _ = report.splitlines()[-1].split()
    assert 3 <= int(stopped) < STEPS
    first, last, digest = runner.finish("stopped", "--resume")
    assert (first, last) == (int(stopped), STEPS)
    assert digest == undisturbed
    assert [line["step"] for line in logged(folder)] == list(range(1, STEPS + 1))


def test_a_second_sigterm_ends_a_process_at_once(runner):
    is_ready = runner.context.Event()
    process = runner.context.Process(
        target=small_run.wait_for_signals, args=(is_ready,)
    )
    process.start()
    assert is_ready.wait(20)
    for _ in range(2):
        assert process.is_alive()
        os.kill(process.pid, signal.SIGTERM)
        time.sleep(0.2)  # two signals at once may arrive as one
    process.join(20)
    assert process.exitcode == 128 + signal.SIGTERM


def test_a_damaged_newest_checkpoint_costs_two_steps_and_no_bit(runner, undisturbed):
    damaged = runner.folder / "damaged"
    shutil.copytree(runner.folder / "undisturbed", damaged)
    (damaged / "checkpoints" / str(STEPS) / "manifest.json").write_text("{")
    first, last, digest = runner.finish("damaged", "--resume")
    assert (first, last) == (STEPS - 2, STEPS)
    assert digest == undisturbed


def test_a_folder_with_a_run_is_not_touched_without_resume(runner, undisturbed):
    error = runner.fail("undisturbed")
    assert "Pass --resume to continue it, or another --out" in error


def test_other_settings_do_not_resume_a_run(runner, undisturbed):
    error = runner.fail("undisturbed", "--resume", "--seed", "5")
    assert "seed was 4 and is 5" in error
