"""When a run of several processes is over, from what each process says of itself.

Nothing here talks to other processes or knows the time: `watchdog.py` does both.
"""

import dataclasses
import statistics
from collections import deque
from collections.abc import Mapping

# Seconds after which a process that says nothing is lost. JAX gives up 12.5 s after
# process 0 has become silent, and its message does not say at which step.
SILENCE = 10.0
_SHORTEST = 22.0  # seconds that a step may always take
_USUAL_TIMES = 3.0  # a step may take so many times the usual one
_NUM_MEASURED = 50  # steps whose median is the usual one
_FEWEST = 3  # steps without which nothing is usual, and the next limit holds
_UNMEASURED = 300.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """What a process says of itself about once a second.

    Attributes:
        beat: a number that is larger each time.
        step: number of steps that the process has started.
        phase: what the process does; only in `"training"` there are deadlines.
        host: name of its host.
    """

    beat: int
    step: int
    phase: str
    host: str

    @property
    def is_training(self) -> bool:
        """Whether the process makes one step after the other."""
        return self.phase == "training"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """Why all processes end.

    Attributes:
        process: number of the process that is the cause.
        step: number of steps that it had started.
        cause: what happened to it.
        host: name of its host.
    """

    process: int
    step: int
    cause: str
    host: str

    def __str__(self) -> str:
        return (
            f"process {self.process} on {self.host} ended the run at step {self.step}: "
            f"{self.cause}"
        )


class Judge:
    """Watches records for processes that say nothing, or make no step."""

    def __init__(self) -> None:
        self._last: dict[int, Record] = {}
        self._spoke: dict[int, float] = {}
        self._moved: dict[int, float] = {}
        self._durations: deque[float] = deque(maxlen=_NUM_MEASURED)

    @property
    def deadline(self) -> float:
        """Seconds that a step may take."""
        if len(self._durations) < _FEWEST:
            return _UNMEASURED
        return max(_SHORTEST, _USUAL_TIMES * statistics.median(self._durations))

    def add_step(self, seconds: float) -> None:
        """Adds the measured duration of a step."""
        self._durations.append(seconds)

    def judge(self, now: float, records: Mapping[int, Record]) -> Verdict | None:
        """Looks at the newest records of all processes.

        Args:
            now: seconds by a clock of this process.
            records: the newest record of each process that ever wrote one.

        Returns:
            Who ends the run and why, or None if all is well.
        """
        for number, record in records.items():
            self._note(now, number, record)
        training = [n for n, record in self._last.items() if record.is_training]
        for number in training:
            silence = now - self._spoke[number]
            if silence > SILENCE:
                return self._verdict(
                    number,
                    f"it has said nothing for {silence:.0f} s, so it was killed or "
                    "stopped, or its host is gone",
                )
        # All processes wait for the one that is behind, so that one is the cause.
        late = [n for n in training if now - self._moved[n] > self.deadline]
        if not late:
            return None
        first = min(self._last, key=lambda n: (self._last[n].step, n not in late, n))
        return self._verdict(
            first if first in late else late[0],
            f"it made no step for {now - self._moved[late[0]]:.0f} s, where "
            f"{self.deadline:.0f} s is the limit; its reader or a device hangs",
        )

    def _note(self, now: float, number: int, record: Record) -> None:
        before = self._last.get(number)
        self._last[number] = record
        if before is None or record.beat != before.beat:
            self._spoke[number] = now
        if before is None or (record.step, record.phase) != (before.step, before.phase):
            self._moved[number] = now

    def _verdict(self, number: int, cause: str) -> Verdict:
        record = self._last[number]
        return Verdict(process=number, step=record.step, cause=cause, host=record.host)
