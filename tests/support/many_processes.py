"""One run in several processes that meet over loopback: training, and evaluation."""

import json
import multiprocessing
import os
import pathlib
import socket
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rpn_jax import predict as predict_module
from rpn_jax.commands import evaluate as evaluate_module
from rpn_jax.core import rpn
from rpn_jax.distributed import ProcessConfig, finish, start
from rpn_jax.train import build as build_module
from rpn_jax.train import programs as programs_module
from rpn_jax.train import run as run_module

from . import faults, small_network, small_rpn, small_run


class Ended(NamedTuple):
    """How a process of a run ended.

    Attributes:
        status: its exit status.
        report: its output.
        rows: the rows that it read by step, if it came to its end.
        state: the arrays of the final state, if it came to its end.
    """

    status: int | None
    report: str
    rows: np.ndarray
    state: list[np.ndarray]


class Fleet:
    """Starts runs of several processes, forked from one that has imported everything.

    Args:
        folder: where runs and reports are written.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["support.many_processes"])

    def launch(self, name, flags, processes=1, devices=1, changes=()):
        """Starts the processes of a run, and returns them without waiting."""
        port, started = free_port(), []
        flags = [*flags, "--out", str(self.folder / name)]
        for number in range(processes):
            config = ProcessConfig()
            if processes > 1:
                config = ProcessConfig(
                    distributed=True,
                    coordinator=f"127.0.0.1:{port}",
                    num_processes=processes,
                    process_id=number,
                )
            report = str(self.folder / f"{name}.{number}")
            process = self._context.Process(
                target=_work, args=(flags, report, config, devices, changes)
            )
            process.start()
            started.append(process)
        return started

    def evaluate(self, name, run, processes, changes=()):
        """What `rpn-jax evaluate` prints in each process about a run, by its flags."""
        flags = ["--run", str(self.folder / run), "--out", str(self.folder / name)]
        flags += ["--distributed", "--coordinator", f"127.0.0.1:{free_port()}"]
        flags += ["--num-processes", str(processes), "--process-id"]
        reports = [self.folder / f"{name}.{number}" for number in range(processes)]
        started = [
            self._context.Process(
                target=_evaluate, args=([*flags, str(number)], str(report), changes)
            )
            for number, report in enumerate(reports)
        ]
        for process in started:
            process.start()
        for process in started:
            process.join(300.0)
        assert [process.exitcode for process in started] == [0] * processes
        return [report.read_text() for report in reports]

    def join(self, name, started, seconds=300.0):
        """Waits for the processes of a run."""
        ended = []
        for number, process in enumerate(started):
            process.join(seconds)
            base = str(self.folder / f"{name}.{number}")
            rows, state = np.zeros((0, 0)), []
            if process.exitcode == 0:
                rows, state = np.load(f"{base}.npy"), [*np.load(f"{base}.npz").values()]
            report = pathlib.Path(base)
            text = report.read_text() if report.exists() else ""
            ended.append(Ended(process.exitcode, text, rows, state))
        return ended

    def last_words(self, name, number, seconds=30.0):
        """What stands in the log of a process that was killed, or ended by JAX."""
        path, began = self.folder / f"{name}.{number}.end", time.monotonic()
        while time.monotonic() - began < seconds:
            lines = path.read_text().splitlines() if path.exists() else []
            if words := [line for line in lines if line.startswith("rpn-jax: ")]:
                return words[-1]
            time.sleep(0.05)
        return ""

    def run(self, name, flags, processes=1, devices=1, changes=()):
        """Runs to the end."""
        started = self.launch(name, flags, processes, devices, changes)
        return self.join(name, started)


def shared_programs(folder):
    """The environment in which processes share what they compile, in a folder."""
    return {
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


def be_small():
    """Exchanges the network for one that takes no time to trace and to compile.

    All else is what users run. The run is evaluated on a few scenes.
    """
    faults.few_scenes()
    programs_module.make_train_step = small_network.make_train_step
    predict_module._propose_on_mesh = small_network.propose


def use_a_key_of_the_rank():
    """Lets each process sample with another key, which must be noticed."""
    make = programs_module.make_train_step

    def changed(graphdef, optimizer, key, **options):
        key = jax.random.fold_in(key, jax.process_index())
        return make(graphdef, optimizer, key, **options)

    programs_module.make_train_step = changed


def drop_a_shard():
    """Lets process 1 read what process 0 reads, which must be noticed."""
    read = run_module.train_batches

    def changed(*arguments, process_index, **options):
        del process_index
        return read(*arguments, process_index=0, **options)

    run_module.train_batches = changed


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _work(flags, report, config, devices, changes):
    os.environ["XLA_FLAGS"] = (
        f"{os.environ.get('XLA_FLAGS', '')} "
        f"--xla_force_host_platform_device_count={devices}"
    )
    _keep_errors(report)
    start(config)
    assert jax.local_device_count() == devices
    _log_samples()
    rows = _record_rows(f"{report}.rows")
    for change in changes:
        change()
    state = small_run.train(flags, report)
    # A run that was killed after its last step has nothing left to read.
    np.save(f"{report}.npy", np.reshape(rows, (len(rows), -1 if rows else 0)))
    np.savez(f"{report}.npz", *state)
    finish()


def _evaluate(flags, report, changes):
    _keep_errors(report)
    build_module.build_model = lambda config, *_: small_rpn.make_rpn(config.seed)
    for change in changes:
        change()
    pathlib.Path(report).write_text(evaluate_module.main(flags))


def _keep_errors(report):
    # JAX and what speaks for a killed process write to the file behind the stream.
    end = os.open(f"{report}.end", os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_APPEND)
    os.dup2(end, 2)


def _log_samples():
    """Puts a number of 24 bits in the log for everything that was sampled in a step."""

    def number_of(samples, *_):
        columns = (samples.anchor_index, samples.targets.labels, samples.gt_index)
        places = [jnp.arange(size, dtype=jnp.uint32) for size in columns[0].shape]
        number = jnp.zeros((), jnp.uint32)
        for factor, column in zip((7, 11, 13), columns, strict=True):
            mixed = (column.astype(jnp.uint32) + 3) * jnp.uint32(
                2654435761 * factor % 2**32
            )
            mixed = (mixed ^ (mixed >> 15)) * (2 * places[1] + 1)
            number += jnp.sum(mixed * (2 * places[0][:, None] + 1), dtype=jnp.uint32)
        return (number >> 8).astype(jnp.float32)

    rpn._unsampled_fraction = number_of


def _record_rows(path):
    """A list of the rows of every batch that this process reads.

    They are also appended to a file as lines of the step, the time and the rows, so
    that they outlive a process that is killed.
    """
    rows, read = [], run_module.train_batches

    def recorded(*arguments, start_step, **options):
        batches = read(*arguments, start_step=start_step, **options)
        for step, batch in enumerate(batches, start_step + 1):
            rows.append(batch.rows)
            with open(path, "a") as file:
                file.write(
                    f"{step} {time.time_ns()} {json.dumps(batch.rows.tolist())}\n"
                )
            yield batch

    run_module.train_batches = recorded
    return rows
