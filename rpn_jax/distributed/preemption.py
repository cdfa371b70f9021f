"""SIGTERM as a request: schedulers send it some time before they kill a process."""

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator

import jax

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
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    # The handler does nothing, but with one the number of each signal goes to the pipe.
    handler = signal.signal(signal.SIGTERM, lambda *_: None)
    descriptor = signal.set_wakeup_fd(writer)
    listener = threading.Thread(target=_listen, args=(reader, asked), daemon=True)
    listener.start()
    try:
        yield asked.is_set
    finally:
        signal.set_wakeup_fd(descriptor)
        signal.signal(signal.SIGTERM, handler or signal.SIG_DFL)
        os.close(writer)  # which ends the listener
        listener.join()


@contextlib.contextmanager
def exit_on_sigterm(message: str) -> Iterator[None]:
    """Lets SIGTERM end the process with status 0, where nothing is left to be saved.

    Args:
        message: what is logged then.

    >>> with exit_on_sigterm("Everything is saved already."):
    ...     recall = max([0.3, 0.5])
    """

    def leave(*_: object) -> None:
        _logger.warning("%s", message)
        if jax.distributed.is_initialized():
            os._exit(0)  # an orderly end would wait for the other processes
        raise SystemExit(0)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler or signal.SIG_DFL)


def _listen(reader: int, asked: threading.Event) -> None:
    """Reads the numbers of signals until the other end of the pipe is closed."""
    with open(reader, "rb", buffering=0) as pipe:
        while number := pipe.read(1):
            if number[0] != signal.SIGTERM:
                continue
            if asked.is_set():
                os._exit(_STATUS)
            asked.set()
            _logger.warning(
                "SIGTERM: the run ends after the present step and saves it. A second "
                "SIGTERM ends it at once."
            )
