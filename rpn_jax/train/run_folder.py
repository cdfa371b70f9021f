"""The folder of a run: its files, and the check that it belongs to the run."""

import dataclasses
import os
import pathlib
from typing import Any

from ..data import PipelineConfig
from ..distributed import by_first, check_shared
from .config_file import flat, read_config, write_config
from .resolve import with_parts
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
        """Settings with three things of the run that they resume.

        * The batch size, if they have none. Its default follows the number of devices,
          which may have changed.
        * No reduced decoding, greedy suppression alone, and uniform samples, if the run
          has them. Runs of version 0.1.0 have all of them, and today's defaults are
          others.

        Args:
            config: the settings as they were given.
        """

        def before() -> list[Any] | None:
            if not config.resume or not self.config.exists():
                return None
            run = read_config(ResolvedConfig, self.config)
            return [
                run.batch_size,
                run.pipeline.reduced_decoding,
                run.rpn.proposals.is_greedy,
                run.rpn.targets.is_uniform,
            ]

        found = by_first(before)
        if found is None:
            return config
        batch_size, reduced_decoding, is_greedy, is_uniform = found
        if config.batch_size is None:
            config = dataclasses.replace(config, batch_size=batch_size)
        parts = with_parts(config)
        if not reduced_decoding:
            pipeline = parts.pipeline or PipelineConfig()
            pipeline = dataclasses.replace(pipeline, reduced_decoding=False)
            config = dataclasses.replace(config, pipeline=pipeline)
        rules = parts.rpn
        if is_greedy and rules is not None:
            rules = dataclasses.replace(rules, proposals=rules.proposals.greedy())
        if is_uniform and rules is not None:
            rules = dataclasses.replace(rules, targets=rules.targets.uniform())
        return config if rules is parts.rpn else dataclasses.replace(config, rpn=rules)

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
