"""`rpn-jax train`: trains a network on a data set and measures its recall."""

import dataclasses
import logging
import shlex
from collections.abc import Callable, Iterator, Sequence

import jax
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
from ..train.together import steps_together
from . import flags, pages
from .artifacts import write_evaluation
from .pictures import draw_labels, draw_losses
from .seeds import Outcome, train_seeds

_logger = logging.getLogger(__name__)


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
        usual = "in_turn" if jax.default_backend() == "cpu" else "together"
        modes = {"in_turn": _train_in_turn, "together": _train_together}
        return train_seeds(config, modes[config.seeds_mode or usual])
    with failing_together():
        start(processes)
        text = _make_run(config).text
        finish()
    return text if is_first() else ""


def _train_in_turn(configs: Sequence[TrainConfig]) -> Iterator[Outcome]:
    """Makes one run after the other, which share their compiled steps."""
    shared = Programs()
    for number, config in enumerate(configs, start=1):
        _logger.info(
            "Run %d of %d, with the seed %d.", number, len(configs), config.seed
        )
        yield _make_run(config, shared=shared)


def _train_together(configs: Sequence[TrainConfig]) -> Iterator[Outcome]:
    """Makes all runs at the same time, and then evaluates one after the other."""
    shared = Programs()
    with stop_on_sigterm() as is_stopped:
        runs = [Run(config, shared) for config in configs]
        _logger.info("%d runs make their steps together.", len(runs))
        left = [run for run in runs if not run.is_finished]
        for run in left:
            _draw_labels(run)
        steps = [(run.num_steps, run.step) for run in left]
        total, initial = map(sum, zip(*steps, strict=True)) if left else (0, 0)
        with tqdm(total=total, initial=initial, unit="step") as bar:
            for _, progress in steps_together(left, is_stopped):
                bar.update(sum(run.step for run in left) - bar.n)
                bar.set_postfix(loss=f"{progress.metrics['loss']:.3f}")
        if stopped := [run for run in runs if run.is_stopped]:
            for run in runs:
                run.close()
            yield _stopped(stopped[0])
            return
    for run in runs:
        if (run.folder.path / "recall.json").exists() and run not in left:
            run.close()
            yield Outcome("", is_finished=True)
        else:
            yield _evaluated(run)


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
            return _stopped(run)
    return _evaluated(run)


def _stopped(run: Run) -> Outcome:
    """How a run ends after SIGTERM."""
    saved = ", which is saved" if run.step else ""
    text = (
        f"SIGTERM ended the run after step {run.step} of {run.num_steps}{saved}. The "
        "same command with --resume goes on from there."
    )
    return Outcome(text, is_finished=False)


def _evaluated(run: Run) -> Outcome:
    """Evaluates a run whose training has ended."""
    with exit_on_sigterm(
        f"SIGTERM ended the evaluation. All steps are saved in {run.folder.path}; "
        "`rpn-jax evaluate` measures the recall."
    ):
        return Outcome(_evaluate(run), is_finished=True)


def _train(run: Run, is_stopped: Callable[[], bool]) -> None:
    """Trains to the end, or until it is stopped, with a progress bar."""
    _draw_labels(run)
    with tqdm(
        total=run.num_steps, initial=run.step, unit="step", disable=not is_first()
    ) as bar:
        for progress in run.steps(is_stopped):
            bar.update(progress.step - bar.n)
            bar.set_postfix(
                loss=f"{progress.metrics['loss']:.3f}",
                images_per_second=f"{progress.metrics['images_per_second']:.1f}",
            )


def _draw_labels(run: Run) -> None:
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
