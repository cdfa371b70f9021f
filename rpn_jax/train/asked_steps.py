"""The loop of a run that asks for its steps, so that others can make them."""

import contextlib
from collections.abc import Generator, Iterator
from typing import NamedTuple

from ..devices import TrainBatch
from .programs import Program
from .step import StepMetrics, TrainState


class Progress(NamedTuple):
    """How far a run has come.

    Attributes:
        step: number of steps made so far.
        metrics: numbers by name, averaged over the steps since the last report.
    """

    step: int
    metrics: dict[str, float]


class Wanted(NamedTuple):
    """A step that a run waits for.

    Attributes:
        program: the compiled step.
        state: the state of the run, whose memory the step reuses.
        batch: the images.
    """

    program: Program
    state: TrainState
    batch: TrainBatch


Made = tuple[TrainState, StepMetrics]  # the result of a step
# It yields a `Wanted` before each step, and is then sent the result.
Loop = Generator[Progress | Wanted, Made | None, None]


def make_steps(loop: Loop) -> Iterator[Progress]:
    """Makes every step that a run asks for, and passes on its progress."""
    with contextlib.closing(loop):
        made = None
        while True:
            try:
                found = loop.send(made)
            except StopIteration:
                return
            made = None
            if isinstance(found, Wanted):
                made = found.program(found.state, found.batch)
            else:
                yield found
