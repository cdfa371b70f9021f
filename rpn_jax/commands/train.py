"""`rpn-jax train`: from a data set to a trained network and its recall."""

import argparse
import dataclasses
from collections.abc import Sequence

from tqdm import tqdm

from ..train import Run, TrainConfig, read_config, resolve
from . import flags
from .artifacts import write_evaluation, write_label_picture, write_loss_picture


def main(arguments: Sequence[str]) -> str:
    """Trains, evaluates and draws.

    Args:
        arguments: of the command line, after `train`.

    Returns:
        The recall as a table, and where the results are.
    """
    run = Run(parse(arguments))
    config, folder = run.config, run.folder.path
    options = {"pipeline": config.pipeline, "config": config.rpn}
    write_label_picture(
        run.model, run.sources.train, folder / "labels.png", seed=config.seed, **options
    )
    with tqdm(total=run.num_steps, initial=run.step, unit="step") as bar:
        for progress in run.steps():
            bar.update(progress.step - bar.n)
            bar.set_postfix(
                loss=f"{progress.metrics['loss']:.3f}",
                images_per_second=f"{progress.metrics['images_per_second']:.1f}",
            )
    write_loss_picture(folder / "metrics.jsonl", folder / "losses.png")
    report = write_evaluation(
        run.model, run.sources.val, folder, batch_size=config.batch_size, **options
    )
    run.close()
    return f"{report.table()}\n\nResults are in {folder}."


def parse(
    arguments: Sequence[str],
    *,
    name: str = "train",
    default: TrainConfig | None = None,
) -> TrainConfig:
    """The configuration that flags, and a file that `--config` names, ask for.

    What depends on other flags is chosen once those are known, so that its own flags
    have the chosen values as defaults: the pipeline on the data, the rules of the
    network on the preset and the backbone.

    Args:
        arguments: of the command line, after the subcommand.
        name: of the subcommand.
        default: what holds without flags and without a file; None takes
            `TrainConfig()`.
    """
    file = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    file.add_argument("--config")
    given, rest = file.parse_known_args(arguments)
    config = default or TrainConfig()
    if given.config is not None:
        config = read_config(TrainConfig, given.config)
    for part in ("optimizer", "pipeline", "rpn"):
        if getattr(config, part) is None:
            draft = flags.parse(TrainConfig, rest, default=config, is_draft=True)
            chosen = getattr(resolve(draft), part)
            config = dataclasses.replace(config, **{part: chosen})
    return flags.parse(TrainConfig, rest, default=config, name=name)
