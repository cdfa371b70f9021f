"""Ends all processes of a run within a bound if one of them cannot go on.

A collective that waits for a lost process never returns, so the main thread cannot
notice. Each process therefore has two threads. One exchanges records through the
key-value store of JAX's coordination service, which blocks if process 0 is lost. The
other one looks at the clock, and ends the process.
"""

import contextlib
import dataclasses
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator

import jax

from .exchange import is_first, store
from .judgement import SILENCE, Judge, Record, Verdict

# Status of a process that ends because of another one: EX_TEMPFAIL, "try again later".
STATUS = 75
_PERIOD = 1.0  # seconds between two looks
# Process 0 hosts the store, without which the others cannot read the verdict.
_SECONDS_FOR_OTHERS = 3.0
_FOLDER = "rpn_jax/watchdog"
_VERDICT = "verdict"
# After an error of a collective, the watchdog may know the process that caused it.
_SECONDS_FOR_VERDICT = SILENCE + 5.0


class Watchdog:
    """Tells the other processes how far this one is, and ends it with them.

    In a run of one process it does nothing.
    """

    def __init__(self) -> None:
        self._record = Record(beat=0, step=0, phase="starting", host=_host())
        self._lock = threading.Lock()
        # Taken by the thread that ends the process, and held until then.
        self._leaving = threading.Lock()
        self._judge = Judge()
        self._heard: dict[int, Record] = {}
        self._told: Verdict | None = None
        self._exchanged = self._stepped = time.monotonic()
        self._is_on = False

    def begin(self) -> None:
        """Starts to watch; call it once, after `start`."""
        if self._is_on or jax.process_count() == 1:
            return
        self._is_on = True
        for loop in (self._exchange, self._look):
            threading.Thread(target=loop, daemon=True).start()

    def end(self) -> None:
        """Stops to watch, at the orderly end of a run."""
        self._is_on = False

    def step(self, number: int) -> None:
        """Says that a step was started, and that the one before has ended."""
        now = time.monotonic()
        if self._record.is_training:
            with self._lock:
                self._judge.add_step(now - self._stepped)
        self._stepped = now
        self._say(step=number, phase="training")

    @contextlib.contextmanager
    def training(self) -> Iterator[None]:
        """Has deadlines after the first step in the body, and none after the body."""
        try:
            yield
        finally:
            self._say(phase="after training")

    @contextlib.contextmanager
    def busy(self, phase: str) -> Iterator[None]:
        """Has no deadline while the body runs.

        Args:
            phase: what the body does.
        """
        self._say(phase=phase)
        yield
        self._say(phase=f"after {phase}")

    def fail(self, error: BaseException, status: int = 1) -> None:
        """Tells the other processes that this one ends with an error, and ends it.

        Args:
            error: the error.
            status: the status of the process.
        """
        if not (self._is_on or self._leaving.locked()):
            return
        if isinstance(error, jax.errors.JaxRuntimeError):
            time.sleep(_SECONDS_FOR_VERDICT)  # which `_look` may end
        failure = str(error).partition("\n")[0] or type(error).__name__
        own = self._record
        verdict = Verdict(
            process=jax.process_index(), step=own.step, cause=failure, host=own.host
        )
        self._leave(verdict, status)

    def _say(self, **changes: object) -> None:
        with self._lock:
            self._record = dataclasses.replace(self._record, **changes)

    def _exchange(self) -> None:
        """Writes the record of this process, and reads those of all."""
        own = f"{_FOLDER}/{jax.process_index()}"
        while self._is_on:
            self._say(beat=self._record.beat + 1)
            text = json.dumps(dataclasses.asdict(self._record))
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
            time.sleep(_PERIOD)

    def _look(self) -> None:
        """Looks at the clock and at the newest records, and ends the process."""
        looked = time.monotonic()
        while self._is_on:
            now = time.monotonic()
            verdict = self._told or self._own_verdict(now, now - looked)
            if verdict is None:
                with self._lock:
                    verdict = self._judge.judge(now, self._heard)
            if verdict is not None and self._is_on:
                self._leave(verdict, STATUS)
            looked = now
            time.sleep(_PERIOD)

    def _own_verdict(self, now: float, gap: float) -> Verdict | None:
        """What this process notices about itself and about the store."""
        own = self._record
        if not own.is_training:
            return None
        if gap > SILENCE:
            cause = f"it was asleep or stopped for {gap:.0f} s"
            number = jax.process_index()
            return Verdict(process=number, step=own.step, cause=cause, host=own.host)
        silence = now - self._exchanged
        if silence > SILENCE:
            first = self._heard.get(0, own)
            cause = (
                f"it hosts the coordination service, which has not answered for "
                f"{silence:.0f} s"
            )
            return Verdict(process=0, step=first.step, cause=cause, host=first.host)
        return None

    def _leave(self, verdict: Verdict, status: int) -> None:
        """Tells the verdict to the other processes and to the user, and ends.

        If another thread is about to do so, this one waits for it.
        """
        self._leaving.acquire()
        self._is_on = False
        sys.stderr.write(
            f"rpn-jax: error: {verdict}. All processes end; the same command with "
            "--resume goes on from the last checkpoint.\n"
        )
        sys.stderr.flush()
        if time.monotonic() - self._exchanged < SILENCE:
            # A thread tells it, because the store may have stopped to answer.
            teller = threading.Thread(target=_tell, args=(verdict,), daemon=True)
            teller.start()
            teller.join(_SECONDS_FOR_OTHERS)
        if is_first():
            time.sleep(_SECONDS_FOR_OTHERS)
        sys.stdout.flush()
        os._exit(status)


def _tell(verdict: Verdict) -> None:
    # Another process may have been earlier, or the store may be gone.
    with contextlib.suppress(jax.errors.JaxRuntimeError, AttributeError):
        text = json.dumps(dataclasses.asdict(verdict))
        store().key_value_set(f"{_FOLDER}/{_VERDICT}", text)


def _host() -> str:
    return socket.gethostname()


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
