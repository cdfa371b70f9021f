"""Several runs that differ in their seed, whose steps are made by one program."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax

from ..core._typing import PRNGKey
from ..devices import TrainBatch
from .asked_steps import Loop, Made, Progress, Wanted
from .programs import KeyedStep
from .run import Run
from .step import TrainState


def steps_together(
    runs: Sequence[Run], is_stopped: Callable[[], bool] = lambda: False
) -> Iterator[tuple[Run, Progress]]:
    """Trains several runs to their ends, as `Run.steps` trains each of them.

    Runs that differ in their seed alone share one program. It makes a step of every run
    for the batches that all of them have read. Its operations are those of each run, so
    that they round as in a run alone.

    Where it does not fit, each run makes its step by itself: if a run has ended, if
    batches have other shapes, or if the seed has changed the number of steps.

    Args:
        runs: the runs, which may be at different steps.
        is_stopped: asked by every run after every step; True ends training.

    Yields:
        A run and its progress, as `Run.steps` yields it.
    """
    joint = _JointSteps(len(runs))
    with contextlib.ExitStack() as stack:
        loops = [
            stack.enter_context(contextlib.closing(run.loop(is_stopped)))
            for run in runs
        ]
        made: list[Made | None] = [None] * len(runs)
        while True:
            wanted: dict[int, Wanted] = {}
            for i, (run, loop) in enumerate(zip(runs, loops, strict=True)):
                for found in _until_step(loop, made[i]):
                    if isinstance(found, Wanted):
                        wanted[i] = found
                    else:
                        yield run, found
            if not wanted:
                return
            results = joint.make(list(wanted.values()))
            made = [None] * len(runs)
            for i, result in zip(wanted, results, strict=True):
                made[i] = result


def _until_step(loop: Loop, made: Made | None) -> Iterator[Progress | Wanted]:
    """What a run says until it waits for its next step or ends."""
    with contextlib.suppress(StopIteration):
        found = loop.send(made)
        while not isinstance(found, Wanted):
            yield found
            found = next(loop)
        yield found


class _JointSteps:
    """Programs that make a step of several runs.

    Args:
        number: number of runs.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._known: dict[KeyedStep, Any] = {}

    def make(self, wanted: Sequence[Wanted]) -> Sequence[Made]:
        """Makes the steps that runs wait for, by one program if all of them share it.

        Args:
            wanted: the steps of the runs that have not ended.
        """
        shared = {x.program.compiled for x in wanted}
        if len(wanted) < self._number or len(shared) > 1 or self._number == 1:
            return [x.program(x.state, x.batch) for x in wanted]
        keys = tuple(x.program.key for x in wanted)
        states = tuple(x.state for x in wanted)
        batches = tuple(x.batch for x in wanted)
        (compiled,) = shared
        if compiled not in self._known:
            self._known[compiled] = _compiled(
                wanted[0].program.step, keys, states, batches
            )
        return self._known[compiled](keys, states, batches)


def _compiled(
    step: KeyedStep,
    keys: tuple[PRNGKey, ...],
    states: tuple[TrainState, ...],
    batches: tuple[TrainBatch, ...],
) -> Callable[..., Sequence[Made]]:
    """The step of all runs as one program."""

    def together(
        keys: tuple[PRNGKey, ...],
        states: tuple[TrainState, ...],
        batches: tuple[TrainBatch, ...],
    ) -> tuple[Made, ...]:
        rows = zip(keys, states, batches, strict=True)
        # Each run has its own operations, which XLA rounds as in a program of one run.
        # On a CPU, neither `vmap` nor `lax.map` over the runs gave the same bits: they
        # differed by 7e-9 in a fifth or more of the numbers after three steps.
        return tuple(step(*row) for row in rows)

    # The next step of a run may be one by itself, so its state stays where it was.
    places = jax.tree.map(lambda x: x.sharding, states)
    shardings = tuple((place, None) for place in places)
    program = jax.jit(together, donate_argnums=1, out_shardings=shardings)
    return program.lower(keys, states, batches).compile()
