"""Files that several commands write: recall, pictures and proposals."""

import json
import pathlib

import jax
import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from .. import plot
from ..core.config import RPNConfig
from ..core.matching.match import match_anchors
from ..core.targets import sample_anchors
from ..data import Batch, ImageSource, PipelineConfig, train_batches
from ..evaluate import Report, evaluate, write_coco_results
from ..models import RPN, grid_for
from ..predict import predict
from ..spread import evenly_spaced
from ..train import read_metrics

_NUM_PICTURES = 6  # images in `proposals.png`
_DPI = 110


def write_evaluation(
    model: RPN,
    source: ImageSource,
    folder: pathlib.Path,
    *,
    pipeline: PipelineConfig,
    config: RPNConfig,
    batch_size: int,
) -> Report:
    """Evaluates a model and writes the results.

    The files are `recall.json`, `recall.png`, `proposals.json` in COCO's result format,
    and `proposals.png` with a few images.

    Args:
        model: the trained network.
        source: the images with their ground truth.
        folder: folder to write to.
        pipeline: how images become batches.
        config: the settings of all stages.
        batch_size: images per batch.

    Returns:
        The recall.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = predict(
        model, source, pipeline=pipeline, config=config, batch_size=batch_size
    )
    # Sorting by row makes the files independent of the order of the batches.
    progress = tqdm(found, "evaluating", len(source), unit="image")
    proposals = dict(sorted(progress, key=lambda pair: pair[0]))
    truths = [source.truth(row) for row in proposals]
    report = evaluate(truths, list(proposals.values()))
    (folder / "recall.json").write_text(json.dumps(report.as_dict(), indent=1) + "\n")
    write_coco_results(folder / "proposals.json", list(proposals.values()))
    save(plot.plot_recall(report), folder / "recall.png")
    shown = evenly_spaced(list(proposals), _NUM_PICTURES)
    figure = plot.plot_proposals(
        [source.pixels(row) for row in shown],
        [source.truth(row) for row in shown],
        [proposals[row] for row in shown],
    )
    save(figure, folder / "proposals.png")
    return report


def write_label_picture(
    model: RPN,
    source: ImageSource,
    path: pathlib.Path,
    *,
    pipeline: PipelineConfig,
    config: RPNConfig,
    seed: int,
) -> None:
    """Draws which anchors of a training image are positive, negative or ignored.

    Args:
        model: the network, whose feature maps the anchors belong to.
        source: the images to train on.
        path: file of the picture.
        pipeline: how images become batches.
        config: the settings of all stages.
        seed: seed of the run.
    """
    batch = _batch_with_objects(source, pipeline, seed)
    image, boxes = batch.images[0], batch.gt_boxes[0]
    grid = grid_for(model, config.anchors, image.shape[:2])
    # Training uses the same functions, so the picture shows the labels of the losses.
    matches = match_anchors(
        grid,
        boxes,
        batch.gt_valid[0],
        batch.image_sizes[0],
        gt_ignore=batch.gt_ignore[0],
        config=config.targets,
    )
    sampled = sample_anchors(
        jax.random.key(seed),
        matches.labels,
        num_samples=config.targets.num_samples,
        positive_fraction=config.targets.positive_fraction,
    )
    objects = boxes[batch.gt_valid[0] & ~batch.gt_ignore[0]]
    figure = plot.plot_labels(image, grid, matches, objects, sampled=sampled)
    save(figure, path)


def write_loss_picture(metrics: pathlib.Path, path: pathlib.Path) -> None:
    """Draws the losses of a run.

    Args:
        metrics: the `metrics.jsonl` of the run.
        path: file of the picture.
    """
    lines = read_metrics(metrics)

    def column(name: str) -> np.ndarray:
        return np.array([line[name] for line in lines])

    losses = {name: column(name) for name in ("loss", "objectness", "box")}
    save(plot.plot_losses(column("step"), losses, column("lr")), path)


def save(figure: Figure, path: pathlib.Path) -> None:
    """Writes a figure as a picture file."""
    figure.savefig(path, dpi=_DPI)


def _batch_with_objects(
    source: ImageSource, pipeline: PipelineConfig, seed: int
) -> Batch:
    """The first batch of one image with an object among ten, or else the first one."""
    batches = train_batches(source, pipeline, batch_size=1, seed=seed, num_threads=0)
    first = [next(batches) for _ in range(10)]
    return next((b for b in first if (b.gt_valid & ~b.gt_ignore).any()), first[0])
