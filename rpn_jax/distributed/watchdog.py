"""Ends all processes of a run within a bound if one of them cannot go on.

A collective that waits for a lost process never returns, so the main thread cannot
notice. Each process therefore has two threads. One exchanges records through the
key-value store of JAX's coordination service, which blocks if process 0 is lost. The
other one looks at the clock, and ends the process.
"""

import atexit
import contextlib
import dataclasses
import json
import os
import re
import sys
import threading
import time
from collections.abc import Iterator

import jax

from .exchange import coordinator, is_first, store
from .judgement import SILENCE, Judge, Record, Verdict
from .last_words import LastWords
from .progress import progress

# Status of a process that ends because of another one: EX_TEMPFAIL, "try again later".
STATUS = 75
_PERIOD = 1.0  # seconds between two looks
_PAUSE = 0.05  # seconds between two exchanges, if phases follow one another at once
# Process 0 hosts the store, without which the others cannot read the verdict.
_SECONDS_FOR_OTHERS = 3.0
_FOLDER = "rpn_jax/watchdog"
_VERDICT = "verdict"
# After an error of a collective, the watchdog may know the process that caused it.
_SECONDS_FOR_VERDICT = SILENCE + 5.0
# The functions in which a process waits for others, here and in orbax, and their files.
_WAITING = (("gather", "exchange.py"), ("wait_at_barrier", "signaling_client.py"))


class Watchdog:
    """Tells the other processes how far this one is, and ends it with them.

    In a run of one process it does nothing.
    """

    def __init__(self) -> None:
        # Taken by the thread that ends the process, and held until then.
        self._leaving = threading.Lock()
        self._judge = Judge()
        self._heard: dict[int, Record] = {}
        self._told: Verdict | None = None
        self._exchanged = time.monotonic()
        self._is_on = False
        self._last_words: LastWords | None = None

    def begin(self) -> None:
        """Starts watching; call it once, after `start`."""
        if self._is_on or jax.process_count() == 1:
            return
        self._is_on, self._exchanged = True, time.monotonic()
        self._last_words = LastWords(coordinator())
        atexit.register(self._dismiss)  # for a process that ends without `end`
        for loop in (self._exchange, self._look):
            threading.Thread(target=loop, daemon=True).start()

    def end(self) -> None:
        """Stops watching, at the orderly end of a run."""
        self._is_on = False
        self._dismiss()

    def fail(self, error: BaseException, status: int = 1) -> None:
        """Tells the other processes that this one ends with an error, and ends it.

        Args:
            error: the error.
            status: the status of the process.
        """
        if not (self._is_on or self._leaving.locked()):
            return
        if _is_of_collective(error):
            self._judge.is_strict = True
            time.sleep(_SECONDS_FOR_VERDICT)  # which `_look` may end
        failure = str(error).partition("\n")[0] or type(error).__name__
        where = progress.place_of(error)
        self._leave(Verdict.on(jax.process_index(), where, failure), status)

    def leave_all(self, message: str) -> None:
        """Ends all processes with status 0, if there are several.

        Args:
            message: why, and how to go on; each process writes it.
        """
        if self._is_on:
            verdict = Verdict.on(jax.process_index(), progress.record, message)
            self._leave(dataclasses.replace(verdict, is_wanted=True), 0)

    def _exchange(self) -> None:
        """Writes the record of this process, and reads those of all."""
        own = f"{_FOLDER}/{jax.process_index()}"
        while self._is_on:
            progress.has_entered.clear()
            self._keep_last_words(time.monotonic())
            record = progress.beat(is_waiting=_is_waiting())
            text = json.dumps(dataclasses.asdict(record))
            try:
                store().key_value_set(own, text, allow_overwrite=True)
                found = store().key_value_dir_get(_FOLDER)
            except (jax.errors.JaxRuntimeError, AttributeError):
                time.sleep(_PERIOD)  # `_look` notices that nothing is exchanged
                continue
            values = {key.rpartition("/")[2]: json.loads(x) for key, x in found}
            if _VERDICT in values:
                self._told = Verdict(**values.pop(_VERDICT))
            self._heard = {int(key): Record(**x) for key, x in values.items()}
            self._exchanged = time.monotonic()
            time.sleep(_PAUSE)
            progress.has_entered.wait(_PERIOD)

    def _look(self) -> None:
        """Looks at the clock and at the newest records, and ends the process."""
        looked = time.monotonic()
        while self._is_on:
            now = time.monotonic()
            verdict = self._told or self._own_verdict(now, now - looked)
            if verdict is None:
                for phase, seconds in progress.take_durations():
                    self._judge.add(phase, seconds)
                verdict = self._judge.judge(now, self._heard)
            if verdict is not None and self._is_on:
                self._leave(verdict, 0 if verdict.is_wanted else STATUS)
            self._keep_last_words(now)
            looked = now
            time.sleep(_PERIOD)

    def _own_verdict(self, now: float, gap: float) -> Verdict | None:
        """What this process notices about itself and about the store."""
        own = progress.record
        if gap > SILENCE and own.is_limited:
            cause = f"it was asleep or stopped for {gap:.0f} s"
            return Verdict.on(jax.process_index(), own, cause)
        if gap > SILENCE:  # something kept Python's threads from running
            self._exchanged = now
        silence = now - self._exchanged
        if silence > SILENCE:
            cause = (
                f"it hosts the coordination service, which has not answered for "
                f"{silence:.0f} s"
            )
            return Verdict.on(0, self._heard.get(0, own), cause)
        return None

    def _keep_last_words(self, now: float) -> None:
        """Renews what stands in the log if this process is killed, or ended by JAX.

        JAX ends all processes if one says nothing in a phase without a limit.
        """
        if self._last_words is None:
            return
        own = progress.record
        killed = Verdict.on(
            jax.process_index(),
            own,
            "it was killed, or JAX ended it for the reason above",
        )
        alone = Verdict.on(
            0,
            self._heard.get(0, own),
            "it hosts the coordination service, which is gone, so it was killed or its "
            "host is gone",
        )
        if silent := self._judge.silent(now):
            killed = alone = silent[0]
        elif is_first():
            alone = killed
        self._last_words.keep(_line(killed), if_alone=_line(alone))

    def _dismiss(self) -> None:
        if self._last_words is not None:
            self._last_words.dismiss()
            self._last_words = None

    def _leave(self, verdict: Verdict, status: int) -> None:
        """Tells the verdict to the other processes and to the user, and ends.

        If another thread is about to do so, this one waits for it.
        """
        self._leaving.acquire()
        self._is_on = False
        sys.stderr.write(f"{_line(verdict)}\n")
        sys.stderr.flush()
        if time.monotonic() - self._exchanged < SILENCE:
            # A thread tells it, because the store may not answer any more.
            teller = threading.Thread(target=_tell, args=(verdict,), daemon=True)
            teller.start()
            teller.join(_SECONDS_FOR_OTHERS)
        if is_first():
            time.sleep(_SECONDS_FOR_OTHERS)
        sys.stdout.flush()
        self._dismiss()
        os._exit(status)


def _line(verdict: Verdict) -> str:
    if verdict.is_wanted:
        return f"rpn-jax: {verdict}"
    return (
        f"rpn-jax: error: {verdict}. All processes end; the same command with "
        "--resume goes on from the last checkpoint."
    )


def _tell(verdict: Verdict) -> None:
    # Another process may have been earlier, or the store may be gone.
    with contextlib.suppress(jax.errors.JaxRuntimeError, AttributeError):
        text = json.dumps(dataclasses.asdict(verdict))
        store().key_value_set(f"{_FOLDER}/{_VERDICT}", text)


def _is_of_collective(error: BaseException) -> bool:
    """Whether an error may come from another process that is gone.

    A collective that fails raises a `JaxRuntimeError`, or an error of another type
    whose message begins with a code such as `UNKNOWN`.
    """
    is_coded = re.match("[A-Z_]+: ", str(error)) is not None
    return is_coded or isinstance(error, jax.errors.JaxRuntimeError)


def _is_waiting() -> bool:
    """Whether a thread of this process waits for others."""
    for frame in sys._current_frames().values():
        while frame is not None:
            code = frame.f_code
            if (code.co_name, os.path.basename(code.co_filename)) in _WAITING:
                return True
            frame = frame.f_back
    return False


watchdog = Watchdog()


@contextlib.contextmanager
def failing_together() -> Iterator[None]:
    """Ends the other processes of a run if the body of this one raises an error.

    >>> with failing_together():
    ...     raise OSError("the disk is full")
    Traceback (most recent call last):
        ...
    OSError: the disk is full
    """
    try:
        yield
    except KeyboardInterrupt:
        watchdog.fail(RuntimeError("it was interrupted"), 130)
        raise
    except Exception as error:
        watchdog.fail(error)
        raise
