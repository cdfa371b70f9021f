"""The check that all hosts of a run write to one folder."""

import pathlib
import secrets
import socket
import time

import jax

from .exchange import by_first, gather

_SECONDS = 5.0  # how late a network file system may show a new file


def check_shared(folder: pathlib.Path) -> None:
    """Raises an error in every process unless all of them see the same folder.

    Args:
        folder: the folder, which process 0 has made.

    Raises:
        ValueError: some hosts do not see what process 0 writes; it names them.

    >>> check_shared(pathlib.Path.cwd())
    """
    if jax.process_count() == 1:
        return
    name = by_first(lambda: f".shared-{secrets.token_hex(8)}")
    marker = folder / name
    by_first(marker.touch)
    try:
        seen = gather([socket.gethostname(), _appears(marker)])
    finally:
        by_first(lambda: marker.unlink(missing_ok=True))
    blind = [
        f"{host} (process {number})"
        for number, (host, is_seen) in enumerate(seen)
        if not is_seen
    ]
    if blind:
        raise ValueError(
            f"A run of several hosts needs a folder that all of them share, got "
            f"{folder} of {seen[0][0]} (process 0), which is not seen on "
            f"{', '.join(blind)}. Choose a folder on a shared file system with --out."
        )


def _appears(path: pathlib.Path) -> bool:
    """Whether a file is there, or comes soon."""
    end = time.monotonic() + _SECONDS
    while not path.exists():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True
