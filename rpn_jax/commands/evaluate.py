"""`rpn-jax evaluate`: measures the recall of a trained network on a data set."""

import dataclasses
import pathlib
import shlex
from collections.abc import Sequence

from ..data import (
    CategorySplit,
    ImageSource,
    check_categories,
    only_evaluated,
    split_categories,
)
from ..distributed import ProcessConfig, failing_together, finish, is_first, start
from ..report import PageFacts
from ..train import (
    TrainConfig,
    TrainedRun,
    load_run,
    log_problems,
    open_sources,
    read_metrics,
)
from . import flags, pages
from .artifacts import write_evaluation
from .evaluated_data import open_evaluated


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateConfig(ProcessConfig):
    """Recall of a trained network on a data set, with pictures.

    Attributes:
        run: folder of the training run; its newest checkpoint is evaluated.
        best: uses the checkpoint with the best AR@100 of the evaluations during
            training instead of the newest one.
        data: a COCO JSON file, a folder with VOC XML, the `data.yaml` or folder of a
            YOLO set, or `scenes`; None uses the validation images of the run.
        images: folder of the images; None looks beside the annotations.
        split: list `ImageSets/Main/<split>.txt` of a VOC folder, or a split of a YOLO
            set. None evaluates the images of all splits.
        train_categories: names or numbers of the categories that count as seen. None
            takes all but `test_categories`, or those of the run if both are None.
        test_categories: names or numbers of the categories that count as unseen. None
            takes all but `train_categories`.
        out: folder for recall, pictures and proposals; None uses `evaluation` in the
            folder of the run.
        batch_size: images per batch.
    """

    run: str
    best: bool = False
    data: str | None = None
    images: str | None = None
    split: str | None = None
    train_categories: tuple[str, ...] | None = None
    test_categories: tuple[str, ...] | None = None
    out: str | None = None
    batch_size: int = 8


def main(arguments: Sequence[str]) -> str:
    """Evaluates a run.

    Args:
        arguments: the command line after `evaluate`.

    Returns:
        The recall as a table, and the folder of the results. Only process 0 has
        something to say.
    """
    options = flags.parse(EvaluateConfig, arguments, name="evaluate")
    start(options)
    with failing_together():
        return _evaluate(options, arguments)


def _evaluate(options: EvaluateConfig, arguments: Sequence[str]) -> str:
    """Evaluates the run that the settings name."""
    trained = load_run(options.run, best=options.best)
    if options.data is None:
        source = open_sources(trained.config).val
    else:
        source = open_evaluated(options.data, options.images, options.split)
    log_problems(source)
    categories = _categories(options, trained.config, source)
    if categories is not None:
        source = only_evaluated(source, categories)
    folder = pathlib.Path(options.out or pathlib.Path(options.run) / "evaluation")
    report = write_evaluation(
        trained.model,
        source,
        folder,
        pipeline=trained.config.pipeline,
        config=trained.config.rpn,
        batch_size=options.batch_size,
        split=categories,
        find_facts=lambda: _facts(options, arguments, trained, source),
    )
    finish()
    if not is_first():
        return ""
    return f"{report.table()}\n\nStep {trained.step}. Results are in {folder}."


def _facts(
    options: EvaluateConfig,
    arguments: Sequence[str],
    trained: TrainedRun,
    source: ImageSource,
) -> PageFacts:
    """What the page of the evaluation says beside the recall."""
    run = pathlib.Path(options.run)
    return PageFacts(
        title=f"Evaluation of {run.name}, step {trained.step}",
        command=shlex.join(["rpn-jax", "evaluate", *arguments]),
        config=dataclasses.asdict(trained.config),
        metrics=read_metrics(run / "metrics.jsonl"),
        labels=pages.labels_of(run),
        problems=pages.problems_of(Evaluated=source),
    )


def _categories(
    options: EvaluateConfig, config: TrainConfig, source: ImageSource
) -> CategorySplit | None:
    """The categories whose recall is counted separately, if there are any."""
    seen, unseen = options.train_categories, options.test_categories
    if seen is None and unseen is None:
        seen, unseen = config.train_categories, config.test_categories
    else:
        for wanted in (seen, unseen):
            check_categories(wanted, [source])
    return split_categories(source.categories, seen, unseen)
