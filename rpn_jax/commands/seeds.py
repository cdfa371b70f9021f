"""Several runs that differ in their seed, and the mean of their recall."""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from ..evaluate.over_seeds import CONFIDENCE, recall_over_seeds, table_over_seeds
from ..train import TrainConfig
from ..train.run_folder import RunFolder
from .artifacts import write_json


class Outcome(NamedTuple):
    """How a run ended.

    Attributes:
        text: what the command prints.
        is_finished: whether all steps were made and the recall was measured.
    """

    text: str
    is_finished: bool


def train_seeds(
    config: TrainConfig, train: Callable[[Sequence[TrainConfig]], Iterator[Outcome]]
) -> str:
    """Trains with several seeds, and averages the recall.

    Run `i` has the seed `seed + i`, and the folder `seed_<seed + i>` in `out`. The file
    `seeds.json` in `out` has the means.

    Args:
        config: the settings, with the number of runs in `seeds`.
        train: makes and evaluates runs, yields how each has ended, and writes its
            `recall.json`. It does not repeat what was finished before.

    Returns:
        The mean recall as a table. If a run was stopped, what it returned.

    Raises:
        ValueError: `resume` is not set, and the folder of one of the runs has a run.
    """
    runs = _runs_of(config)
    # All folders are checked first, so that the last run does not fail after hours.
    taken = [run.out for run in runs if RunFolder(run.out).config.exists()]
    if taken and not config.resume:
        raise ValueError(
            f"train needs folders without runs, got {', '.join(taken)}. Pass --resume "
            "to continue them, or another --out."
        )
    recalls = []
    for run, outcome in zip(runs, train(runs), strict=False):
        if not outcome.is_finished:
            return outcome.text
        recall = json.loads((pathlib.Path(run.out) / "recall.json").read_text())
        recalls.append(recall)
    summary = recall_over_seeds(recalls)
    seeds = [run.seed for run in runs]
    facts = {"seeds": seeds, "confidence": CONFIDENCE, **summary}
    write_json(facts, pathlib.Path(config.out) / "seeds.json")
    table = table_over_seeds(summary, len(runs))
    return f"{table}\n\nResults are in {config.out}, with a folder for each run."


def _runs_of(config: TrainConfig) -> list[TrainConfig]:
    """The settings of each run."""
    return [
        dataclasses.replace(
            config,
            seeds=1,
            seeds_mode=None,
            seed=seed,
            out=str(pathlib.Path(config.out) / f"seed_{seed}"),
        )
        for seed in range(config.seed, config.seed + config.seeds)
    ]
