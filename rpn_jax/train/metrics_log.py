"""Writes the metrics of a run as JSON lines and as TensorBoard events."""

import importlib
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from ..atomic_file import replace_file


class MetricsLog:
    """Appends to `metrics.jsonl`, and to TensorBoard's event files if it is installed.

    If the process is killed while it writes a line, the incomplete line is dropped when
    the file is opened again.
    """

    def __init__(self, folder: str | os.PathLike[str], *, step: int = 0) -> None:
        """Opens the log of a run.

        Args:
            folder: folder of the run.
            step: step from which the run continues. Later lines are dropped, because
                their steps were not saved and will be repeated.
        """
        folder = pathlib.Path(folder)
        self.path = folder / "metrics.jsonl"
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


def read_metrics(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Reads the lines of a `metrics.jsonl`, without an incomplete last line.

    Args:
        path: the file, which need not exist.

    Returns:
        For each line, the numbers by name, including `step`.
    """
    path = pathlib.Path(path)
    text = path.read_text() if path.exists() else ""
    whole = text[: text.rfind("\n") + 1]
    return [json.loads(line) for line in whole.splitlines()]


def _open_events(folder: pathlib.Path) -> Any:
    """A writer of TensorBoard events, or None if TensorBoard is not installed."""
    try:
        summary = importlib.import_module("tensorboard.summary")
    except ModuleNotFoundError:
        return None
    return summary.Writer(str(folder))
