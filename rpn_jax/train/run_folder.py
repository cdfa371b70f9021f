"""The folder of a run: its files, and the check that it belongs to the run."""

import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from ..distributed import by_first, check_shared
from .config_file import flat, read_config, write_config
from .earlier_defaults import earlier_settings, with_earlier
from .train_config import ResolvedConfig, TrainConfig

# The settings that may change when a run is resumed: they do not affect its numbers.
_FREE = (
    "out",
    "resume",
    "log_every",
    "checkpoint_every",
    "max_skipped",
    "pipeline.threads",
    "pipeline.workers",
)


class RunFolder:
    """The folder of one training run.

    Attributes:
        path: the folder, which also holds `metrics.jsonl` and the pictures.
        config: the file of the settings.
        checkpoints: the folder of the checkpoints.
        best: the folder of the best checkpoint, if the run is evaluated on its way.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Names the files, and creates nothing.

        Args:
            path: the folder.
        """
        self.path = pathlib.Path(path)
        self.config = self.path / "config.json"
        self.checkpoints = self.path / "checkpoints"
        self.best = self.path / "best"

    def continued(self, config: TrainConfig) -> TrainConfig:
        """Settings with what they leave open to the run that they resume.

        That is the batch size, whose default follows the number of devices, the
        learning rate, and defaults of version 0.1.0; see `with_earlier`.

        Args:
            config: the settings as they were given.
        """

        def before() -> Mapping[str, Any] | None:
            if not config.resume or not self.config.exists():
                return None
            return earlier_settings(read_config(ResolvedConfig, self.config))

        earlier = by_first(before)
        return config if earlier is None else with_earlier(config, earlier)

    def claim(self, config: ResolvedConfig) -> None:
        """Creates the folder, or checks that it belongs to this run.

        Args:
            config: the settings of the run.

        Raises:
            ValueError: the folder has a run that is not to be resumed, or a run with
                other settings, which the message names; or not all hosts share it.
        """
        by_first(lambda: self._claim(config))
        check_shared(self.path)

    def _claim(self, config: ResolvedConfig) -> None:
        if self.config.exists():
            self._check_resumable(config)
        self.path.mkdir(parents=True, exist_ok=True)
        write_config(config, self.config)

    def _check_resumable(self, config: ResolvedConfig) -> None:
        """Raises an error unless `config` continues the run in the folder."""
        if not config.resume:
            raise ValueError(
                f"train needs a folder without a run, got {self.path}. Pass --resume "
                "to continue it, or another --out."
            )
        # One error lists all changed settings, so that they are corrected together.
        before = flat(dataclasses.asdict(read_config(ResolvedConfig, self.config)))
        now = flat(dataclasses.asdict(config))
        changed = [k for k in now if k not in _FREE and now[k] != before[k]]
        if changed:
            differences = "; ".join(
                f"{k} was {before[k]} and is {now[k]}" for k in changed
            )
            raise ValueError(
                f"--resume needs the settings of the run in {self.path}, got other "
                f"ones: {differences}. Pass another --out for a new run."
            )
