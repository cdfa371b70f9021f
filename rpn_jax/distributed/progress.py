"""How far this process has come, for the watchdogs of all processes."""

import contextlib
import dataclasses
import pathlib
import socket
import threading
import time
from collections.abc import Generator, Iterator

import jax

from .growth import reporting_growth
from .judgement import Phase, Record


class Progress:
    """The record of this process, and the durations that were measured.

    In a run of one process nobody reads them.

    Attributes:
        has_entered: is set whenever another phase begins. The others have to know it,
            because what silence means depends on the phase.
    """

    def __init__(self) -> None:
        """Starts before the first step."""
        self.has_entered = threading.Event()
        self._record = Record(host=socket.gethostname())
        self._lock = threading.Lock()
        self._durations: list[tuple[Phase, float]] = []
        # When the present step or batch began, unless something came in between.
        self._began: float | None = None
        # An error is known by its number: a reference would keep what it refers to.
        self._failed: tuple[int, Record] | None = None

    @property
    def record(self) -> Record:
        """The newest record."""
        return self._record

    def beat(self, *, is_waiting: bool) -> Record:
        """The newest record with the next number.

        Args:
            is_waiting: whether the process waits for others.
        """
        return self._say(beat=self._record.beat + 1, is_waiting=is_waiting)

    def take_durations(self) -> list[tuple[Phase, float]]:
        """What was measured since the last call: phases, with seconds."""
        with self._lock:
            found, self._durations = self._durations, []
        return found

    def place_of(self, error: BaseException) -> Record:
        """How far this process had come when an error was raised."""
        if self._failed is not None and self._failed[0] == id(error):
            return self._failed[1]
        return self._record

    def resumed(self, step: int) -> None:
        """Says from which step this process goes on."""
        self._say(step=step)

    def read(self) -> None:
        """Says that the images of a step or batch are read.

        From here to the next `step` or `batch`, this process waits for the others.
        """
        self._say(has_read=True)

    def step(self, number: int) -> None:
        """Says that a step was started, and that the one before has ended."""
        self._advance(step=number)

    def batch(self, num_images: int) -> None:
        """Says that a batch of an evaluation has ended."""
        self._advance(images=self._record.images + num_images)

    def stir(self) -> None:
        """Says that a save goes on, although its files may not grow."""
        self._say(life=self._record.life + 1)

    def training(self) -> contextlib.AbstractContextManager[None]:
        """Has a deadline for each `step` in the body, which may have other phases."""
        return self._phase(Phase.TRAINING)

    def evaluating(self) -> contextlib.AbstractContextManager[None]:
        """Has a deadline for each `batch` in the body."""
        return self._phase(Phase.EVALUATING, images=0)

    def compiling(self) -> contextlib.AbstractContextManager[None]:
        """Has no deadline in the body."""
        return self._phase(Phase.COMPILING)

    def counting(self) -> contextlib.AbstractContextManager[None]:
        """Has no deadline in the body, in which process 0 counts the recall."""
        return self._phase(Phase.COUNTING)

    @contextlib.contextmanager
    def saving(self, step: int, folder: pathlib.Path) -> Iterator[None]:
        """Has a deadline for each time in which a folder does not grow.

        Args:
            step: number of steps made before the state that is saved.
            folder: the folder of the checkpoints, which all processes share.
        """
        if jax.process_count() == 1:
            yield
            return
        began, pauses = time.monotonic(), [0.0]

        def note() -> None:
            nonlocal began
            now = time.monotonic()
            pauses.append(now - began)
            began = now
            self.stir()

        with self._phase(Phase.SAVING, step=step), reporting_growth(folder, note):
            yield
        with self._lock:
            self._durations.append((Phase.SAVING, max(pauses)))

    @contextlib.contextmanager
    def _phase(self, phase: Phase, **changes: int) -> Generator[None, None, None]:
        before = Phase(self._record.phase)
        if before is Phase.STARTING and phase is not Phase.COMPILING:
            before = Phase.OTHER
        self._enter(phase, **changes)
        try:
            yield
        except Exception as error:
            if self._failed is None or self._failed[0] != id(error):
                self._failed = id(error), self._record
            raise
        finally:
            self._enter(before)

    def _enter(self, phase: Phase, **changes: int) -> None:
        self._began = None
        self._say(phase=phase, place=self._record.place + 1, **changes)
        self.has_entered.set()

    def _advance(self, **changes: int) -> None:
        now = time.monotonic()
        if self._began is not None:
            with self._lock:
                self._durations.append((Phase(self._record.phase), now - self._began))
        self._began = now
        self._say(place=self._record.place + 1, has_read=False, **changes)

    def _say(self, **changes: object) -> Record:
        with self._lock:
            self._record = dataclasses.replace(self._record, **changes)
            return self._record


progress = Progress()
