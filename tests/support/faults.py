"""Faults that a process of a run does to itself, at one place of the run.

The places are reading the batch of step 6, the save after step 8 when its arrays are
written and its manifest is not, and reading the third batch of the second evaluation.
"""

import errno
import functools
import os
import pathlib
import signal
import time

import jax

from rpn_jax import predict as predict_module
from rpn_jax.commands import evaluate as evaluate_module
from rpn_jax.data import ImageError, Scenes
from rpn_jax.train import checkpoints as checkpoints_module
from rpn_jax.train import run as run_module

STEP, SAVED_STEP, EVALUATION, BATCH = 6, 8, 2, 3
NUM_SCENES, SCENE_SIZE = 16, (64, 96)  # of each evaluation


def few_scenes():
    """Lets a run be evaluated on a few scenes."""
    read = run_module.open_sources

    def changed(config):
        return read(config)._replace(val=Scenes(num_images=NUM_SCENES, size=SCENE_SIZE))

    run_module.open_sources = evaluate_module.open_sources = changed


def inject(kind, place, process, marker=None):
    """Lets one process do something to itself.

    Args:
        kind: a name in `ACTIONS`.
        place: a name in `PLACES`.
        process: its number.
        marker: file that is made just before.
    """

    def act():
        if marker is not None:
            pathlib.Path(marker).touch()
        ACTIONS[kind]()

    if jax.process_index() == process:
        PLACES[place](act)


def break_image(place, process, *, everywhere, batch_size):
    """Makes one image undecodable, in one process or wherever it is read.

    Args:
        place: `"step"` or `"evaluation"`.
        process: number of the process that reads it, 0 or the last one.
        everywhere: whether the others could not decode it either.
        batch_size: images in a batch of two processes.
    """
    if not everywhere and jax.process_index() != process:
        return
    batch = STEP - 1 if place == "step" else BATCH - 1
    # The last image of the batch is read by the last process, its first by process 0.
    broken = batch * batch_size + (0 if process == 0 else batch_size - 1)
    decode = Scenes.decode

    def changed(self, row):
        if row == broken and (len(self) == NUM_SCENES) == (place == "evaluation"):
            raise ImageError("it cannot be decoded")
        return decode(self, row)

    Scenes.decode = changed


def _send(*numbers):
    def act():
        for number in numbers:
            os.kill(os.getpid(), number)
            time.sleep(0.3)  # two signals at once may arrive as one

    return act


def _fail():
    raise ValueError("image 7 cannot be read")


def _fill():
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


ACTIONS = {
    "kill": _send(signal.SIGKILL),
    "terminate": _send(signal.SIGTERM),
    "terminate twice": _send(signal.SIGTERM, signal.SIGTERM),
    "stop": _send(signal.SIGSTOP),
    "sleep": lambda: time.sleep(10_000),
    "error": _fail,
    "full": _fill,
}


def _in_step(number, act):
    read = run_module.train_batches

    def changed(*arguments, start_step, **options):
        batches = read(*arguments, start_step=start_step, **options)
        for step, batch in enumerate(batches, start_step + 1):
            if step == number:
                act()
            yield batch

    run_module.train_batches = changed


def _in_save(act):
    save, meet = checkpoints_module.CheckpointStore.save, checkpoints_module.meet
    armed = []

    def changed_save(self, step, state):
        if step == SAVED_STEP and self.folder.name == "checkpoints":
            armed.append(True)
        save(self, step, state)

    def changed_meet():
        if armed:
            armed.clear()
            act()
        meet()

    checkpoints_module.CheckpointStore.save = changed_save
    checkpoints_module.meet = changed_meet


def _in_evaluation(act):
    read, evaluations = predict_module.eval_batches, []

    def changed(*arguments, **options):
        evaluations.append(True)
        for number, batch in enumerate(read(*arguments, **options), 1):
            if number == BATCH and len(evaluations) == EVALUATION:
                act()
            yield batch

    predict_module.eval_batches = changed


PLACES = {
    "step": functools.partial(_in_step, STEP),
    "save": _in_save,
    "evaluation": _in_evaluation,
    "after": functools.partial(_in_step, SAVED_STEP + 2),  # the save
}
