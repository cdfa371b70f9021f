"""When a run of several processes is over, from what each process says of itself.

All processes do the same one after the other, so that the others wait for the one that
is behind: it alone can be late. Nothing here talks to other processes or knows the
time: `watchdog.py` does both.
"""

import dataclasses
import enum
import statistics
from collections import deque
from collections.abc import Mapping

# Seconds after which a process that says nothing is lost. JAX gives up 12.5 s after
# process 0 has become silent, and its message does not say at which step.
SILENCE = 10.0
# Seconds that a step, a batch or a pause of a save may always take. In the table of
# `docs/many_devices.md`, a run with a process that sleeps for ever then ends within
# 24 to 28 s.
_SHORTEST = 22.0
_USUAL_TIMES = 3.0  # steps, batches and pauses may take so many times the usual ones
_NUM_MEASURED = 50  # number of durations, whose median is the usual one


class Phase(enum.StrEnum):
    """What a process does."""

    STARTING = "starting"
    COMPILING = "compiling"
    TRAINING = "training"
    SAVING = "saving"
    EVALUATING = "evaluating"
    COUNTING = "counting"
    OTHER = "other"


_WHEN = {
    Phase.STARTING: "while it started",
    Phase.COMPILING: "while it compiled",
    Phase.TRAINING: "at step {step}",
    Phase.SAVING: "while it saved step {step}",
    Phase.EVALUATING: "in the evaluation after step {step}, after {images} images",
    Phase.COUNTING: "while it counted the recall after step {step}",
    Phase.OTHER: "after step {step}",
}
_LATE = {
    Phase.TRAINING: "it made no step for {late:.0f} s, where {limit:.0f} s is the "
    "limit",
    Phase.SAVING: "its checkpoint did not grow for {late:.0f} s, where {limit:.0f} s "
    "is the limit",
    Phase.EVALUATING: "it evaluated no image for {late:.0f} s, where {limit:.0f} s is "
    "the limit",
}
_REASONS = {
    Phase.TRAINING: "its reader or a device hangs",
    Phase.SAVING: "its file system hangs",
    Phase.EVALUATING: "its reader or a device hangs",
}
# How many durations have to be known before something is usual, and the seconds that
# hold until then. A save has one duration, its longest pause.
_FEWEST = {Phase.TRAINING: 3, Phase.SAVING: 1, Phase.EVALUATING: 3}
_UNMEASURED = {Phase.TRAINING: 300.0, Phase.SAVING: 60.0, Phase.EVALUATING: 300.0}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """What a process says of itself about once a second.

    Attributes:
        beat: a number that is larger each time.
        step: number of steps that the process has started.
        phase: what the process does. Only training, saving and evaluating have limits.
        place: number of steps, batches and phases so far; the smallest one is behind.
        life: number of other signs of life, such as a file that has grown.
        images: number of images that the evaluation has done.
        is_waiting: whether the process waits for others at a barrier.
        has_read: whether the process has read the images of the step or batch that is
            under way, and waits for the devices of all processes.
        host: name of its host.
    """

    beat: int = 0
    step: int = 0
    phase: str = Phase.STARTING
    place: int = 0
    life: int = 0
    images: int = 0
    is_waiting: bool = False
    has_read: bool = False
    host: str

    @property
    def is_limited(self) -> bool:
        """Whether the process is lost if it says nothing, or comes no further."""
        return self.phase in _LATE

    @property
    def when(self) -> str:
        """How far the process has come, as a part of a sentence."""
        return _WHEN[Phase(self.phase)].format(step=self.step, images=self.images)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """Why all processes end.

    Attributes:
        process: number of the process that is the cause.
        host: name of its host.
        when: how far it had come, as a part of a sentence.
        cause: what happened to it.
        is_wanted: whether a user asked for the end, so that it is no failure.
    """

    process: int
    host: str
    when: str
    cause: str
    is_wanted: bool = False

    def __str__(self) -> str:
        if self.is_wanted:
            return self.cause
        return (
            f"process {self.process} on {self.host} ended the run {self.when}: "
            f"{self.cause}"
        )

    @classmethod
    def on(cls, process: int, record: Record, cause: str) -> "Verdict":
        """Names a process as the cause, as it last said where it was."""
        return cls(process=process, host=record.host, when=record.when, cause=cause)


class Judge:
    """Watches records for processes that say nothing, or come no further.

    Attributes:
        is_strict: whether silence counts in every phase. A process that does not let
            Python's threads run, for example while it parses a large file, says nothing
            although all is well. Only training, saving and evaluating never do.
    """

    def __init__(self) -> None:
        self.is_strict = False
        self._last: dict[int, Record] = {}
        self._spoke: dict[int, float] = {}
        self._moved: dict[int, float] = {}
        self._durations = {phase: deque[float](maxlen=_NUM_MEASURED) for phase in _LATE}

    def limit(self, phase: str) -> float | None:
        """Seconds in which a process has to come further; None is for ever."""
        if phase not in _LATE:
            return None
        kind = Phase(phase)
        durations = self._durations[kind]
        if len(durations) < _FEWEST[kind]:
            return _UNMEASURED[kind]
        # Saves are few, and may pause only once in a while.
        usual = max(durations) if kind is Phase.SAVING else statistics.median(durations)
        return max(_SHORTEST, _USUAL_TIMES * usual)

    def add(self, phase: str, seconds: float) -> None:
        """Adds the measured duration of a step or batch, or the pause of a save."""
        self._durations[Phase(phase)].append(seconds)

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
        for verdict in self.silent(now):
            if self.is_strict or self._last[verdict.process].is_limited:
                return verdict
        return self._late(now)

    def silent(self, now: float) -> list[Verdict]:
        """What there is to say about processes that say nothing, in any phase."""
        return [
            Verdict.on(
                number,
                record,
                f"it has said nothing for {now - self._spoke[number]:.0f} s, so it was "
                "killed or stopped, or its host is gone",
            )
            for number, record in list(self._last.items())
            if now - self._spoke[number] > SILENCE
        ]

    def _late(self, now: float) -> Verdict | None:
        if not self._last:
            return None
        slowest = min(record.place for record in self._last.values())
        behind = {n: x for n, x in self._last.items() if x.place == slowest}
        for number, record in behind.items():
            limit = self.limit(record.phase)
            if limit is None or now - self._moved[number] <= limit:
                return None
        # Who waits for the others is not the cause.
        number = min(
            behind, key=lambda n: (behind[n].is_waiting or behind[n].has_read, n)
        )
        record = behind[number]
        phase, late = Phase(record.phase), now - self._moved[number]
        cause = _LATE[phase].format(late=late, limit=self.limit(phase))
        # No process can tell whose device it is, because all wait for one another.
        is_shared = record.has_read and len(behind) > 1
        reason = "a device or the network hangs" if is_shared else _REASONS[phase]
        return Verdict.on(number, record, f"{cause}; {reason}")

    def _note(self, now: float, number: int, record: Record) -> None:
        before = self._last.get(number)
        if before is None or record.beat != before.beat:
            self._spoke[number] = now
        if before is None or (record.place, record.life) != (before.place, before.life):
            self._moved[number] = now
        self._last[number] = record  # last, because another thread may read meanwhile
