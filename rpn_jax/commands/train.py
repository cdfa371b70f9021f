"""`rpn-jax train`: trains a network on a data set and measures its recall."""

from collections.abc import Sequence

from tqdm import tqdm

from ..data import split_categories
from ..train import Run
from . import flags
from .artifacts import write_evaluation
from .pictures import draw_labels, draw_losses


def main(arguments: Sequence[str]) -> str:
    """Trains a network, evaluates it and draws pictures.

    Args:
        arguments: the command line after `train`.

    Returns:
        The recall as a table, and the folder of the results.
    """
    run = Run(flags.parse_training(arguments))
    config, folder = run.config, run.folder.path
    options = {"pipeline": config.pipeline, "config": config.rpn}
    draw_labels(
        run.model, run.sources.train, folder / "labels.png", seed=config.seed, **options
    )
    with tqdm(total=run.num_steps, initial=run.step, unit="step") as bar:
        for progress in run.steps():
            bar.update(progress.step - bar.n)
            bar.set_postfix(
                loss=f"{progress.metrics['loss']:.3f}",
                images_per_second=f"{progress.metrics['images_per_second']:.1f}",
            )
    val = run.sources.val
    report = write_evaluation(
        run.model,
        val,
        folder,
        batch_size=config.batch_size,
        split=split_categories(
            val.categories, config.train_categories, config.test_categories
        ),
        **options,
    )
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
