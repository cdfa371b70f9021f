"""A training run of a tiny network, for a process that may be killed."""

import contextlib
import dataclasses
import hashlib
import sys
import time
import traceback

import jax
import numpy as np

from rpn_jax.commands.flags import parse_training
from rpn_jax.distributed import failing_together, stop_on_sigterm
from rpn_jax.train import Run
from rpn_jax.train import programs as programs_module
from rpn_jax.train import run as run_module

from . import small_network, small_rpn


def train(flags, report, pause=0.0):
    """Trains to the end and writes what happened to the file `report`.

    The network has a few hundred parameters, because a run saves and restores the same
    kind of pytree for any network.

    Args:
        flags: those of `rpn-jax train`.
        report: path of the file.
        pause: seconds to wait after each step that is logged.

    Returns:
        The arrays of the final state.
    """
    with (
        open(report, "w", encoding="utf-8") as file,
        contextlib.redirect_stdout(file),
        contextlib.redirect_stderr(file),
    ):
        try:
            with failing_together():
                return _train(flags, pause)
        except Exception:
            traceback.print_exc()
            sys.exit(1)


def train_quickly(flags, report):
    """Trains by a step that takes no time to trace and to compile; see `train`.

    There is a pause after each step, so that a signal can arrive between two steps.
    """
    programs_module.make_train_step = small_network.make_train_step
    train(flags, report, pause=0.03)


def _train(flags, pause):
    run_module.build_model = lambda config: small_rpn.make_rpn(config.seed)
    run = Run(dataclasses.replace(parse_training(flags), rpn=small_rpn.RULES))
    first = run.step
    with stop_on_sigterm() as is_stopped:
        for _ in run.steps(is_stopped):
            time.sleep(pause)
    digest, state = hashlib.sha256(), jax.device_get(jax.tree.leaves(run._state))
    for leaf in state:
        digest.update(np.asarray(leaf).tobytes())
    sys.stdout.write(f"{first} {run.step} {digest.hexdigest()}\n")
    run.close()
    return state


def wait_for_signals(is_ready):
    """Does nothing but obey SIGTERM, for a minute."""
    with stop_on_sigterm():
        is_ready.set()
        time.sleep(60)
