"""A line in the log of a process that cannot write it any more.

A process that is killed says nothing, and JAX ends a process within half a second after
process 0 is gone, without step or phase. So a small process beside it keeps the newest
words, and writes them when the pipe between both is closed.

This file is also the program of that process, which imports nothing of the package.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from typing import TextIO

_SECONDS = 1.0  # for an answer of the coordination service


class LastWords:
    """Words that are written if this process ends without `dismiss`.

    Args:
        coordinator: `HOST:PORT` of the coordination service of JAX.
    """

    def __init__(self, coordinator: str) -> None:
        """Starts the process that keeps the words."""
        self._lock, self._is_open = threading.Lock(), True
        reader, self._writer = os.pipe()
        # Words are dropped rather than waited for, if the other process is slow.
        os.set_blocking(self._writer, False)
        self._keeper = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, coordinator],
            stdin=reader,
            stdout=subprocess.DEVNULL,
            stderr=_descriptor(sys.stderr),
        )
        os.close(reader)

    def keep(self, words: str, *, if_alone: str) -> None:
        """Replaces the words.

        Args:
            words: a line.
            if_alone: the line if the coordination service is gone as well.
        """
        self._write(json.dumps([words, if_alone]))

    def dismiss(self) -> None:
        """Lets the process end in silence."""
        self._write(json.dumps(None))
        with self._lock:
            self._is_open = False
            os.close(self._writer)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._keeper.wait(_SECONDS)

    def _write(self, line: str) -> None:
        # The other process may be slow, or may have been killed.
        with self._lock, contextlib.suppress(OSError):
            if self._is_open:
                os.write(self._writer, f"{line}\n".encode())


def _descriptor(stream: TextIO) -> int | None:
    """The file behind a stream; None, which inherits that of this process, has none."""
    try:
        return stream.fileno()
    except (AttributeError, OSError):
        return None


def _keep(coordinator: str) -> None:
    """Reads words to the end of the pipe, and writes the newest ones."""
    # A scheduler sends these to all processes of a job, and this one has to be last.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    newest = None
    for line in sys.stdin:
        newest = json.loads(line)
    if newest is not None:
        words, if_alone = newest
        sys.stderr.write(f"{words if _answers(coordinator) else if_alone}\n")


def _answers(coordinator: str) -> bool:
    host, _, port = coordinator.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _SECONDS).close()
    except (OSError, ValueError):
        return False
    return True


if __name__ == "__main__":
    _keep(sys.argv[1])
