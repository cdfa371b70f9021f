"""One training run in several processes that meet over loopback."""

import multiprocessing
import os
import pathlib
import socket
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rpn_jax.core import rpn
from rpn_jax.distributed import ProcessConfig, finish, start
from rpn_jax.train import programs as programs_module
from rpn_jax.train import run as run_module

from . import small_run


class Ended(NamedTuple):
    """How a process ended: its status, its output, and the rows it read by step."""

    status: int | None
    report: str
    rows: np.ndarray | None


class Fleet:
    """Starts runs of several processes, forked from one that has imported everything.

    Args:
        folder: where runs and reports are written.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["support.many_processes"])

    def launch(self, name, flags, processes=1, devices=1, change=None):
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
                target=_work, args=(flags, report, config, devices, change)
            )
            process.start()
            started.append(process)
        return started

    def join(self, name, started, seconds=300.0):
        """Waits for the processes of a run."""
        ended = []
        for number, process in enumerate(started):
            process.join(seconds)
            base = self.folder / f"{name}.{number}"
            rows = base.with_suffix(f".{number}.npy")
            ended.append(
                Ended(
                    process.exitcode,
                    base.read_text() if base.exists() else "",
                    np.load(rows) if rows.exists() else None,
                )
            )
        return ended

    def run(self, name, flags, processes=1, devices=1, change=None):
        """Runs to the end."""
        started = self.launch(name, flags, processes, devices, change)
        return self.join(name, started)


def fail_at_step_5():
    """Lets the reader of process 1 raise an error."""
    _at_step_5_of(1, _fail)


def fail_first_at_step_5():
    """Lets the reader of process 0 raise an error."""
    _at_step_5_of(0, _fail)


def sleep_at_step_5():
    """Lets the reader of process 1 hang."""
    _at_step_5_of(1, lambda: time.sleep(1000))


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


def _at_step_5_of(process, action):
    if jax.process_index() != process:
        return
    read = run_module.train_batches

    def changed(*arguments, **options):
        for number, batch in enumerate(read(*arguments, **options)):
            if number == 5:
                action()
            yield batch

    run_module.train_batches = changed


def _fail():
    raise ValueError("image 7 cannot be read")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _work(flags, report, config, devices, change):
    os.environ["XLA_FLAGS"] = (
        f"{os.environ.get('XLA_FLAGS', '')} "
        f"--xla_force_host_platform_device_count={devices}"
    )
    start(config)
    assert jax.local_device_count() == devices
    _log_samples()
    if change is not None:
        change()
    rows = _record_rows()
    small_run.train(flags, report)
    np.save(f"{report}.npy", np.stack(rows))
    finish()


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


def _record_rows():
    """A list of the rows of every batch that this process reads."""
    rows, read = [], run_module.train_batches

    def recorded(*arguments, **options):
        for batch in read(*arguments, **options):
            rows.append(batch.rows)
            yield batch

    run_module.train_batches = recorded
    return rows
