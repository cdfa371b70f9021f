"""Signs of life of a save: whether the files of a folder grow."""

import contextlib
import pathlib
import threading
from collections.abc import Callable, Iterator

_PERIOD = 1.0  # seconds between two looks


@contextlib.contextmanager
def reporting_growth(
    folder: pathlib.Path, report: Callable[[], None]
) -> Iterator[None]:
    """Reports each time that the files of a folder have changed in number or size.

    A thread of its own looks, because a file system that hangs would stop it. Nothing
    waits for the thread.

    Args:
        folder: the folder, which need not exist.
        report: what is called.
    """
    is_over = threading.Event()

    def look() -> None:
        before = None
        while not is_over.wait(_PERIOD):
            now = _sizes(folder)
            if now != before and not is_over.is_set():
                report()
            before = now

    threading.Thread(target=look, daemon=True).start()
    try:
        yield
    finally:
        is_over.set()


def _sizes(folder: pathlib.Path) -> tuple[int, int]:
    number = total = 0
    with contextlib.suppress(OSError):  # a file or a folder was renamed meanwhile
        for path in folder.rglob("*"):
            total += path.stat().st_size
            number += 1
    return number, total
