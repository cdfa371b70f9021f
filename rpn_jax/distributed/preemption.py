"""SIGTERM as a request: schedulers send it some time before they kill a process."""

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator

import jax

from .watchdog import watchdog

_logger = logging.getLogger(__name__)
_STATUS = 128 + signal.SIGTERM  # the status that shells report for this signal


@contextlib.contextmanager
def stop_on_sigterm() -> Iterator[Callable[[], bool]]:
    """Lets SIGTERM ask for a stop, and a second SIGTERM end the process at once.

    Python handles a signal only between two instructions of its main thread, which may
    wait for a compiler or a device. So a thread listens, and the second signal ends the
    process with status 143 whatever the main thread does. Outside of the main thread,
    where no signal can be handled, nothing changes.

    Yields:
        A function that tells whether SIGTERM has come.

    >>> with stop_on_sigterm() as is_stopped:
    ...     for step in range(1, 4):
    ...         if is_stopped():
    ...             break
    >>> step
    3
    """
    asked = threading.Event()

    def act() -> None:
        if asked.is_set():
            os._exit(_STATUS)
        asked.set()
        _logger.warning(
            "SIGTERM: the run ends after the present step and saves it. A second "
            "SIGTERM ends it at once."
        )

    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    with _listening(act):
        yield asked.is_set


@contextlib.contextmanager
def exit_on_sigterm(message: str) -> Iterator[None]:
    """Lets SIGTERM end all processes with status 0, where nothing is left to be saved.

    Args:
        message: what is logged then.

    >>> with exit_on_sigterm("Everything is saved already."):
    ...     recall = max([0.3, 0.5])
    """

    def leave_all() -> None:
        watchdog.leave_all(message)  # which returns if nothing was started
        _logger.warning("%s", message)
        os._exit(0)

    def leave(*_: object) -> None:
        _logger.warning("%s", message)
        raise SystemExit(0)

    if threading.current_thread() is not threading.main_thread():
        yield
    elif jax.process_count() > 1:
        # The main thread may wait for another process, and would not handle a signal.
        with _listening(leave_all):
            yield
    else:
        handler = signal.signal(signal.SIGTERM, leave)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, handler or signal.SIG_DFL)


@contextlib.contextmanager
def _listening(act: Callable[[], None]) -> Iterator[None]:
    """Calls a function in a thread for each SIGTERM, whatever the main thread does."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    # The handler does nothing, but with one the number of each signal goes to the pipe.
    handler = signal.signal(signal.SIGTERM, lambda *_: None)
    descriptor = signal.set_wakeup_fd(writer)
    listener = threading.Thread(target=_listen, args=(reader, act), daemon=True)
    listener.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(descriptor)
        signal.signal(signal.SIGTERM, handler or signal.SIG_DFL)
        os.close(writer)  # which ends the listener
        listener.join()


def _listen(reader: int, act: Callable[[], None]) -> None:
    """Reads the numbers of signals until the other end of the pipe is closed."""
    with open(reader, "rb", buffering=0) as pipe:
        while number := pipe.read(1):
            if number[0] == signal.SIGTERM:
                act()
