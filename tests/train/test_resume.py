"""Killing a training run at many moments, and resuming it."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

STEPS = 8
FLAGS = [
    *("--steps", str(STEPS), "--batch-size", "2", "--seed", "4"),
    *("--checkpoint-every", "2", "--log-every", "1"),
    *("--pipeline.min-side", "64", "--pipeline.max-side", "96"),
    *("--pipeline.scale-jitter", "0.8", "1.0"),
]
PROGRAM = """
import sys, hashlib
import jax, numpy as np
from rpn_jax.commands.flags import parse_training
from rpn_jax.train import Run

run = Run(parse_training(sys.argv[1:]))
first = run.step
for _ in run.steps():
    pass
digest = hashlib.sha256()
for leaf in jax.tree.leaves(run._state):
    digest.update(np.asarray(leaf).tobytes())
print(first, run.step, digest.hexdigest())
run.close()
"""


class Runner:
    """Starts runs that share what they compile."""

    def __init__(self, folder):
        self.folder = folder
        cache = {
            "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        self.environment = os.environ | cache | {"JAX_PLATFORMS": "cpu"}

    def start(self, name, *flags):
        out = ["--out", str(self.folder / name)]
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *FLAGS, *out, *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment,
        )

    def finish(self, name, *flags):
        process = self.start(name, *flags)
        out, error = process.communicate()
        assert process.returncode == 0, error[-3000:]
        first, last, digest = out.split()
        return int(first), int(last), digest

    def kill_when(self, name, is_time, *flags):
        process = self.start(name, *flags)
        while process.poll() is None and not is_time():
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        _, error = process.communicate()
        assert process.returncode == -signal.SIGKILL, error[-3000:]


def logged(folder):
    path = pathlib.Path(folder, "metrics.jsonl")
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines() if line.endswith("}")]


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    return Runner(tmp_path_factory.mktemp("runs"))


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
        lambda: len(logged(folder)) >= 1,
        saving(2),
        lambda: (checkpoints / "2").exists(),  # its manifest may be missing
        saving(4),
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


def test_a_damaged_newest_checkpoint_costs_two_steps_and_no_bit(runner, undisturbed):
    first, _, _ = runner.finish("damaged")
    newest = runner.folder / "damaged" / "checkpoints" / str(STEPS)
    (newest / "manifest.json").write_text("{")
    first, last, digest = runner.finish("damaged", "--resume")
    assert (first, last) == (STEPS - 2, STEPS)
    assert digest == undisturbed


def test_a_folder_with_a_run_is_not_touched_without_resume(runner, undisturbed):
    process = runner.start("undisturbed")
    _, error = process.communicate()
    assert process.returncode != 0
    assert "Pass --resume to continue it, or another --out" in error


def test_other_settings_do_not_resume_a_run(runner, undisturbed):
    process = runner.start("undisturbed", "--resume", "--seed", "5")
    _, error = process.communicate()
    assert process.returncode != 0
    assert "seed was 4 and is 5" in error
