"""Where the numbers of a run are written: JSON lines, and TensorBoard's events."""

import importlib
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any


class MetricsLog:
    """Appends to `metrics.jsonl`, and to TensorBoard's event files if it is installed.

    A line is whole or, if the process was killed while writing, dropped when the file
    is opened again.
    """

    def __init__(self, folder: str | os.PathLike[str], *, step: int = 0) -> None:
        """Opens the log of a run.

        Args:
            folder: of the run.
            step: where the run goes on; later lines are of steps that were not saved
                and will be made again, so they are dropped.
        """
        folder = pathlib.Path(folder)
        self.path = folder / "metrics.jsonl"
        kept = [line for line in read_metrics(self.path) if line["step"] <= step]
        draft = self.path.with_suffix(".tmp")
        draft.write_text("".join(json.dumps(line) + "\n" for line in kept))
        draft.replace(self.path)
        self._file = self.path.open("a")
        self._events = _open_events(folder / "tensorboard")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes the numbers of a step.

        Args:
            step: the step they belong to.
            values: numbers by name.
        """
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        if self._events is not None:
            for name, value in values.items():
                self._events.add_scalar(name, value, step)

    def close(self) -> None:
        """Writes what is still in memory."""
        self._file.close()
        if self._events is not None:
            self._events.close()


def read_metrics(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The lines of a `metrics.jsonl`, without one that was cut off.

    Args:
        path: of the file, which need not exist.

    Returns:
        The numbers of each line by name, `step` among them.
    """
    path = pathlib.Path(path)
    text = path.read_text() if path.exists() else ""
    whole = text[: text.rfind("\n") + 1]
    return [json.loads(line) for line in whole.splitlines()]


def _open_events(folder: pathlib.Path) -> Any:
    try:
        summary = importlib.import_module("tensorboard.summary")
    except ModuleNotFoundError:
        return None
    return summary.Writer(str(folder))
