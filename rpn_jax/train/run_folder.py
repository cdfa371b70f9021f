"""The folder of a run: what lies where, and whose it is."""

import dataclasses
import os
import pathlib

from .config_file import read_config, write_config
from .train_config import ResolvedConfig

_FREE = ("out", "resume", "log_every", "checkpoint_every", "max_skipped")


class RunFolder:
    """The folder of one training run.

    Attributes:
        path: the folder itself, with `metrics.jsonl` and the pictures.
        config: the file with the settings.
        checkpoints: the folder with the checkpoints.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Names the places; nothing is made.

        Args:
            path: of the folder.
        """
        self.path = pathlib.Path(path)
        self.config = self.path / "config.json"
        self.checkpoints = self.path / "checkpoints"

    def claim(self, config: ResolvedConfig) -> None:
        """Makes the folder, or makes sure that it is this run's.

        Args:
            config: of the run, resolved.

        Raises:
            ValueError: the folder has a run that is not to be resumed, or one with
                other settings, which are named.
        """
        if self.config.exists():
            if not config.resume:
                raise ValueError(
                    f"train needs a folder without a run, got {self.path}. Pass "
                    "--resume to go on with it, or another --out."
                )
            before = dataclasses.asdict(read_config(ResolvedConfig, self.config))
            now = dataclasses.asdict(config)
            changed = [k for k in now if k not in _FREE and now[k] != before[k]]
            if changed:
                differences = "; ".join(
                    f"{k} was {before[k]} and is {now[k]}" for k in changed
                )
                raise ValueError(
                    f"--resume needs the settings of the run in {self.path}, got "
                    f"others: {differences}. Pass another --out for a new run."
                )
        self.path.mkdir(parents=True, exist_ok=True)
        write_config(config, self.config)
