"""Starts JAX in the processes of a run that spans several hosts."""

import dataclasses
import logging
import socket

import jax

from .exchange import meet
from .watchdog import watchdog

_START_SECONDS = 300  # how long a process waits for the others to start
# JAX ends all processes if one is silent for so long. In steps, saves and evaluations
# the watchdog is faster, and it leaves a silence in other phases to JAX, whose threads
# do not need Python.
_HEARTBEAT_SECONDS = 25


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProcessConfig:
    """Which processes share a run; the same command starts each of them.

    Attributes:
        distributed: joins the other processes of this run. A TPU pod, SLURM and Open
            MPI tell who they are; elsewhere give the next three settings.
        coordinator: `HOST:PORT` of process 0, with a free port. All processes get the
            same.
        num_processes: number of processes.
        process_id: number of this process, from 0.

    >>> second = ProcessConfig(
    ...     distributed=True, coordinator="host0:8476", num_processes=2, process_id=1
    ... )
    >>> second.process_id
    1
    """

    distributed: bool = False
    coordinator: str | None = None
    num_processes: int | None = None
    process_id: int | None = None


def start(processes: ProcessConfig) -> None:
    """Joins the other processes, before anything has used a device.

    Only process 0 logs from here on, except errors.

    Args:
        processes: who they are. Nothing happens unless it is `distributed`.

    Raises:
        ValueError: it is not known who the other processes are, or they did not come.

    >>> from rpn_jax.distributed import ProcessConfig, finish
    >>> start(ProcessConfig())
    >>> finish()
    """
    _check(processes)
    if not processes.distributed or jax.distributed.is_initialized():
        return
    # gloo is the only implementation for CPUs that all builds of JAX have.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # The processes agree on their last step themselves; see `StopTogether`.
    jax.config.update("jax_enable_preemption_service", False)
    by_hand = processes.coordinator is not None
    try:
        jax.distributed.initialize(
            processes.coordinator,
            processes.num_processes,
            processes.process_id,
            cluster_detection_method="deactivate" if by_hand else None,
            initialization_timeout=_START_SECONDS,
            heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
        )
    except (ValueError, RuntimeError) as error:
        raise ValueError(_explained(processes, error)) from error
    watchdog.begin()
    if jax.process_index():
        logging.getLogger("rpn_jax").setLevel(logging.ERROR)


def finish() -> None:
    """Waits for the other processes, and leaves them.

    >>> from rpn_jax.distributed import ProcessConfig
    >>> start(ProcessConfig())
    >>> finish()
    """
    if jax.distributed.is_initialized():
        meet()
        watchdog.end()
        jax.distributed.shutdown()


def _check(processes: ProcessConfig) -> None:
    given = (processes.coordinator, processes.num_processes, processes.process_id)
    is_by_hand = given != (None, None, None)
    if is_by_hand and (None in given or not processes.distributed):
        raise ValueError(
            "--coordinator, --num-processes and --process-id need each other and "
            f"--distributed, got {given} and distributed={processes.distributed}."
        )


def _explained(processes: ProcessConfig, error: Exception) -> str:
    if processes.coordinator is None and isinstance(error, ValueError):
        return (
            "--distributed needs a TPU pod, SLURM or Open MPI to find the other "
            f"processes, got none of these on {socket.gethostname()} ({error}). Give "
            "--coordinator HOST:PORT --num-processes P --process-id I."
        )
    return (
        "--distributed needs all processes to start with the same --coordinator within "
        f"{_START_SECONDS} s, got an error on {socket.gethostname()}: {error}"
    )
