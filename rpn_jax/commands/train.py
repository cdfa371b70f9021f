"""`rpn-jax train`: trains a network on a data set and measures its recall."""

import dataclasses
import functools
import shlex
from collections.abc import Callable, Sequence

from tqdm import tqdm

from ..data import split_categories
from ..devices import local_copy
from ..distributed import (
    exit_on_sigterm,
    failing_together,
    finish,
    is_first,
    start,
    stop_on_sigterm,
)
from ..report import PageFacts
from ..train import Run, TrainConfig, read_metrics
from ..train.programs import Programs
from . import flags, pages
from .artifacts import write_evaluation
from .pictures import draw_labels, draw_losses
from .seeds import Outcome, train_seeds


def main(arguments: Sequence[str]) -> str:
    """Trains a network, evaluates it and draws pictures.

    Args:
        arguments: the command line after `train`.

    Returns:
        The recall as a table, and the folder of the results. After SIGTERM it is how
        to go on. Only process 0 has something to say.
    """
    config, processes = flags.parse_distributed_training(arguments)
    if config.seeds > 1:
        if processes.distributed:
            raise ValueError(
                f"--seeds needs a run of one process, got {config.seeds} and "
                "--distributed. Start one run for each --seed."
            )
        return train_seeds(config, functools.partial(_make_run, shared=Programs()))
    with failing_together():
        start(processes)
        text = _make_run(config).text
        finish()
    return text if is_first() else ""


def _make_run(config: TrainConfig, *, shared: Programs | None = None) -> Outcome:
    """Trains and evaluates.

    Args:
        config: the settings.
        shared: the compiled steps of several runs, each of which is skipped if it was
            finished before. None makes a single run, which is always evaluated.
    """
    with stop_on_sigterm() as is_stopped:
        run = Run(config, shared)
        is_evaluated = (run.folder.path / "recall.json").exists()
        if shared is not None and run.is_finished and is_evaluated:
            run.close()
            return Outcome("", is_finished=True)
        _train(run, is_stopped)
        if run.is_stopped:
            run.close()
            saved = ", which is saved" if run.step else ""
            text = (
                f"SIGTERM ended the run after step {run.step} of {run.num_steps}"
                f"{saved}. The same command with --resume goes on from there."
            )
            return Outcome(text, is_finished=False)
    with exit_on_sigterm(
        f"SIGTERM ended the evaluation. All steps are saved in {run.folder.path}; "
        "`rpn-jax evaluate` measures the recall."
    ):
        return Outcome(_evaluate(run), is_finished=True)


def _train(run: Run, is_stopped: Callable[[], bool]) -> None:
    """Trains to the end, or until it is stopped, with a progress bar."""
    config, model = run.config, local_copy(run.model)
    if is_first():
        draw_labels(
            model,
            run.sources.train,
            run.folder.path / "labels.png",
            pipeline=config.pipeline,
            config=config.rpn,
            seed=config.seed,
        )
    with tqdm(
        total=run.num_steps, initial=run.step, unit="step", disable=not is_first()
    ) as bar:
        for progress in run.steps(is_stopped):
            bar.update(progress.step - bar.n)
            bar.set_postfix(
                loss=f"{progress.metrics['loss']:.3f}",
                images_per_second=f"{progress.metrics['images_per_second']:.1f}",
            )


def _evaluate(run: Run) -> str:
    """Measures the recall on the validation images, and draws pictures."""
    config, folder, val = run.config, run.folder.path, run.sources.val
    report = write_evaluation(
        run.model,
        val,
        folder,
        pipeline=config.pipeline,
        config=config.rpn,
        batch_size=config.batch_size,
        split=split_categories(
            val.categories, config.train_categories, config.test_categories
        ),
        find_facts=lambda: _facts(run),
    )
    if is_first():
        draw_losses(folder / "metrics.jsonl", folder / "losses.png")
    run.close()
    best = ""
    if run.best is not None:
        step, recall = run.best
        best = (
            f" The best AR@100 on the way was {recall:.3f}, after step {step}; "
            "`evaluate` and `propose` use it with --best."
        )
    return f"{report.table()}\n\nResults are in {folder}.{best}"


def _facts(run: Run) -> PageFacts:
    """What the page of the run says beside the recall."""
    folder = run.folder.path
    again = ["--config", str(run.folder.config), "--out", f"{folder}_again"]
    return PageFacts(
        title=f"Training run {folder.name}, step {run.step}",
        command=shlex.join(["rpn-jax", "train", *again]),
        config=dataclasses.asdict(run.config),
        metrics=read_metrics(folder / "metrics.jsonl"),
        labels=pages.labels_of(folder),
        problems=pages.problems_of(
            Training=run.sources.train, Validation=run.sources.val
        ),
    )
