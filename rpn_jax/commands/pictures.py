"""Pictures that commands draw after their results are written.

A picture that cannot be drawn costs one line of warning, and no number.
"""

import functools
import logging
import pathlib
import warnings
from collections.abc import Callable, Mapping

import jax
import numpy as np
from matplotlib.figure import Figure

from .. import plot
from ..atomic_file import replace_file
from ..core._typing import Array, Bool, Float, PRNGKey
from ..core.anchors import AnchorGrid
from ..core.config import RPNConfig, TargetConfig
from ..core.matching.association import Matches
from ..core.matching.match import match_anchors
from ..core.output import RPNOutput, objectness_logits
from ..core.samplers import Sampled, sample_matches
from ..data import Batch, ImageSource, PipelineConfig, train_batches
from ..evaluate import ImageProposals, Report
from ..models import RPN, grid_for
from ..spread import evenly_spaced
from ..train import read_metrics
from .attempts import attempt

_NUM_PICTURES = 6  # images in `proposals.png`
_DPI = 110
_logger = logging.getLogger(__name__)


def draw_picture(path: pathlib.Path, plot_it: Callable[[], Figure]) -> None:
    """Draws a picture and writes it, or logs one warning that says why not.

    Args:
        path: file of the picture. If the picture fails, no older one is left there,
            because it would belong to other numbers.
        plot_it: makes the figure.
    """

    def write() -> None:
        figure = plot_it()
        with warnings.catch_warnings(), replace_file(path) as draft:
            # The font has no Chinese letters, for example; it draws boxes for them.
            warnings.filterwarnings("ignore", "Glyph .* missing from")
            figure.savefig(draft, dpi=_DPI)

    attempt(path, write, "The picture %s was not drawn")


def draw_evaluation(
    report: Report,
    source: ImageSource,
    proposals: Mapping[int, ImageProposals],
    folder: pathlib.Path,
) -> None:
    """Draws the recall, and the proposals for a few images.

    Args:
        report: the recall.
        source: the images with their ground truth.
        proposals: the proposals of every image that was decoded, by row.
        folder: folder to write to.
    """
    draw_picture(folder / "recall.png", lambda: plot.plot_recall(report))
    shown = evenly_spaced(list(proposals), _NUM_PICTURES)
    if not shown:
        _logger.warning("No proposals.png was drawn: no image could be decoded.")
        return
    draw_picture(
        folder / "proposals.png",
        lambda: plot.plot_proposals(
            [source.pixels(row) for row in shown],
            [source.truth(row) for row in shown],
            [proposals[row] for row in shown],
        ),
    )


def draw_labels(
    model: RPN,
    source: ImageSource,
    path: pathlib.Path,
    *,
    pipeline: PipelineConfig,
    config: RPNConfig,
    seed: int,
) -> None:
    """Draws which anchors of a training image are positive, negative or ignored.

    Of a cascade, it shows the labels of the first stage.

    Args:
        model: the network, whose feature maps the anchors belong to.
        source: the images to train on.
        path: file of the picture.
        pipeline: how images become batches.
        config: the settings of all stages.
        seed: seed of the run.
    """
    draw_picture(path, lambda: _plot_labels(model, source, pipeline, config, seed))


def draw_losses(metrics: pathlib.Path, path: pathlib.Path) -> None:
    """Draws the losses of a run.

    Args:
        metrics: the `metrics.jsonl` of the run.
        path: file of the picture.
    """
    draw_picture(path, lambda: _plot_losses(metrics))


def _plot_labels(
    model: RPN,
    source: ImageSource,
    pipeline: PipelineConfig,
    config: RPNConfig,
    seed: int,
) -> Figure:
    batch = _batch_with_objects(source, pipeline, seed)
    image, boxes = batch.images[0], batch.gt_boxes[0]
    grid = grid_for(model, config.anchors, image.shape[:2])
    rules, predictions = config.grid_targets, None
    if rules.reads_predictions:
        output = model(batch.images, batch.image_sizes)
        predictions = jax.tree.map(lambda x: x[0], output)
    of_image = (boxes, batch.gt_valid[0], batch.gt_ignore[0], batch.image_sizes[0])
    matches, (index, labels) = _match_and_sample(
        jax.random.key(seed), grid, *of_image, predictions, rules
    )
    sampled = np.full(len(grid), -1, np.int32)
    is_sample = np.asarray(labels) >= 0
    sampled[np.asarray(index)[is_sample]] = np.asarray(labels)[is_sample]
    objects = boxes[batch.gt_valid[0] & ~batch.gt_ignore[0]]
    return plot.plot_labels(image, grid, matches, objects, sampled=sampled)


@functools.partial(jax.jit, static_argnames="config")
def _match_and_sample(
    key: PRNGKey,
    grid: AnchorGrid,
    gt_boxes: Float[Array, "m 4"],
    gt_valid: Bool[Array, " m"],
    gt_ignore: Bool[Array, " m"],
    image_size: Float[Array, "2"],
    predictions: RPNOutput | None,
    config: TargetConfig,
) -> tuple[Matches, Sampled]:
    """The labels of an image and its samples, by the functions that training uses."""
    matches = match_anchors(
        grid,
        gt_boxes,
        gt_valid,
        image_size,
        gt_ignore=gt_ignore,
        predictions=predictions,
        config=config,
    )
    logits = None if predictions is None else objectness_logits(predictions)
    sampled = sample_matches(
        key, matches, logits=logits, num_boxes=len(gt_boxes), config=config
    )
    return matches, sampled


def _plot_losses(metrics: pathlib.Path) -> Figure:
    lines = read_metrics(metrics)

    def column(name: str) -> np.ndarray:
        return np.array([line[name] for line in lines])

    losses = {name: column(name) for name in ("loss", "objectness", "box")}
    return plot.plot_losses(column("step"), losses, column("lr"))


def _batch_with_objects(
    source: ImageSource, pipeline: PipelineConfig, seed: int
) -> Batch:
    """The first batch of one image with an object among ten, or else the first one."""
    batches = train_batches(source, pipeline, batch_size=1, seed=seed, num_threads=0)
    first = [next(batches) for _ in range(10)]
    return next((b for b in first if (b.gt_valid & ~b.gt_ignore).any()), first[0])
