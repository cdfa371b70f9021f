"""Writes the metrics of a run as JSON lines and as TensorBoard events."""

import importlib
import json
import logging
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from ..atomic_file import replace_file
from ..distributed import is_first

_logger = logging.getLogger(__name__)


class MetricsLog:
    """Appends to a file of JSON lines, and to TensorBoard's if it is installed.

    Damaged lines are dropped when the file is opened again; see `read_metrics`.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     log = MetricsLog(folder)
    ...     log.write(10, {"loss": 0.5})
    ...     log.close()
    ...     read_metrics(log.path)
    [{'step': 10, 'loss': 0.5}]
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        step: int = 0,
        name: str = "metrics.jsonl",
    ) -> None:
        """Opens the log of a run.

        Args:
            folder: folder of the run.
            step: step from which the run continues. Later lines are dropped, because
                their steps were not saved and will be repeated.
            name: name of the file of JSON lines.
        """
        folder = pathlib.Path(folder)
        self.path = folder / name
        kept = [line for line in read_metrics(self.path) if line["step"] <= step]
        # The file is replaced atomically, so that a kill here keeps the history.
        with replace_file(self.path) as draft:
            draft.write_text("".join(json.dumps(line) + "\n" for line in kept))
        self._file = self.path.open("a")
        self._events = _open_events(folder / "tensorboard")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes the metrics of a step.

        Args:
            step: number of the step, counted from 1.
            values: numbers by name.
        """
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        if self._events is not None:
            for name, value in values.items():
                self._events.add_scalar(name, value, step)

    def close(self) -> None:
        """Closes the files."""
        self._file.close()
        if self._events is not None:
            self._events.close()


class SilentLog:
    """A log that writes nothing, for the processes that leave it to process 0."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes nothing."""

    def close(self) -> None:
        """Does nothing."""


def open_log(
    folder: str | os.PathLike[str], *, step: int = 0, name: str = "metrics.jsonl"
) -> MetricsLog | SilentLog:
    """Opens the log of a run in process 0; the arguments are those of `MetricsLog`."""
    return MetricsLog(folder, step=step, name=name) if is_first() else SilentLog()


def read_metrics(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Reads the lines of a `metrics.jsonl`, without those that are damaged.

    A process that is killed leaves an incomplete last line, which is dropped without a
    word. A machine that crashes may leave bytes of zero in the place of lines. One
    warning says how many lines are damaged in this or another way.

    Args:
        path: the file, which need not exist.

    Returns:
        For each line, the numbers by name, including `step`.

    >>> read_metrics("no/such/file")
    []
    """
    path = pathlib.Path(path)
    content = path.read_bytes() if path.exists() else b""
    *whole, rest = content.split(b"\n")
    lines = [line for line in whole if line.strip()]
    # Zeros may lie around an intact line, but inside of a line they hide its numbers.
    found = [_parsed(line.strip(b"\0")) for line in lines]
    damaged = [
        b"\0" in line or values is None
        for line, values in zip(lines, found, strict=True)
    ]
    if number := sum(damaged) + (b"\0" in rest):
        _logger.warning(
            "%s is damaged in %d lines; what cannot be read is left out.", path, number
        )
    return [values for values in found if values is not None]


def _parsed(line: bytes) -> dict[str, Any] | None:
    """The numbers of a line, or None if it is damaged."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return None
    is_complete = isinstance(values, dict) and isinstance(values.get("step"), int)
    return values if is_complete else None


def _open_events(folder: pathlib.Path) -> Any:
    """A writer of TensorBoard events, or None if TensorBoard is not installed."""
    try:
        summary = importlib.import_module("tensorboard.summary")
    except ModuleNotFoundError:
        return None
    return summary.Writer(str(folder))
