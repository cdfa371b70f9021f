"""`rpn-jax propose`: writes and draws proposals for images."""

import dataclasses
import json
import logging
import pathlib
from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps, colors
from tqdm import tqdm

from .. import plot
from ..core.config import RPNConfig
from ..data import ImageSource, PipelineConfig, open_unannotated
from ..evaluate import ImageProposals, write_coco_results
from ..models import RPN
from ..models.interop import (
    SYSTEMS,
    SystemName,
    make_foreign_model,
    read_checkpoint,
)
from ..predict import predict
from ..train import load_run, log_problems
from . import flags
from .artifacts import save

_logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProposeConfig:
    """Proposals for images without annotations.

    The results are `proposals.json` in COCO's result format, `images.json` with the
    file of every `image_id`, and a picture of every image with its best proposals.

    Attributes:
        run: folder of the training run; its newest checkpoint is used.
        weights: file with the weights of a detector of another system, instead of
            `run`. Images are prepared, and proposals selected, as that system does.
        system: system that `weights` come from; None guesses it from the names of the
            tensors.
        images: image files, or folders of them.
        out: folder for the results.
        max_proposals: largest number of proposals per image; None keeps the limit of
            the network's settings.
        min_score: lowest probability of a proposal that is written.
        drawn: number of the best proposals in a picture; 0 draws no pictures.
        batch_size: images per batch.
    """

    images: tuple[str, ...]
    run: str | None = None
    weights: str | None = None
    system: SystemName | None = None
    out: str = "proposals"
    max_proposals: int | None = None
    min_score: float = 0.0
    drawn: int = 20
    batch_size: int = 8


def main(arguments: Sequence[str]) -> str:
    """Computes proposals and writes them.

    Args:
        arguments: the command line after `propose`.

    Returns:
        The number of proposals, and the folder of the results.
    """
    options = flags.parse(ProposeConfig, arguments, name="propose")
    source = open_unannotated([pathlib.Path(path) for path in options.images])
    log_problems(source)
    model, config, pipeline = _load(options)
    folder = pathlib.Path(options.out)
    folder.mkdir(parents=True, exist_ok=True)
    found = predict(
        model,
        source,
        pipeline=pipeline,
        config=config,
        batch_size=options.batch_size,
    )
    # Each picture is drawn at once, so that the first ones can be checked early.
    proposals = {}
    for row, of_image in tqdm(found, "proposing", len(source), unit="image"):
        proposals[row] = _select(of_image, options)
        if options.drawn:
            _draw(source, row, proposals[row], folder, options.drawn)
    write_coco_results(folder / "proposals.json", list(proposals.values()))
    _write_images(source, sorted(proposals), folder / "images.json")
    number = sum(len(of_image.scores) for of_image in proposals.values())
    return f"{number:,} proposals for {len(proposals):,} images are in {folder}."


def _write_images(source: ImageSource, rows: Sequence[int], path: pathlib.Path) -> None:
    """Writes the number, the file and the size of every image, as COCO lists them."""
    truths = [source.truth(row) for row in rows]
    images = [
        {"id": t.image_id, "file_name": t.name, "height": t.size[0], "width": t.size[1]}
        for t in truths
    ]
    path.write_text(json.dumps(images, indent=1) + "\n")


def _load(options: ProposeConfig) -> tuple[RPN, RPNConfig, PipelineConfig]:
    """The network, its settings, and how images become batches for it."""
    if options.run is not None and options.weights is None:
        trained = load_run(options.run)
        return trained.model, trained.config.rpn, trained.config.pipeline
    if options.weights is None or options.run is not None:
        raise ValueError(
            "propose needs either --run, the folder of a training run, or --weights, a "
            f"file of another system, got {options.run} and {options.weights}. Pass "
            "exactly one of them."
        )
    found = make_foreign_model(read_checkpoint(options.weights, options.system))
    _logger.info("%s", found.report)
    # Images get the sizes that the other system uses, because its weights and anchors
    # suit objects of that scale.
    system = SYSTEMS[found.report.system]
    pipeline = PipelineConfig(min_side=system.min_side, max_side=system.max_side)
    return found.model, found.config, pipeline


def _select(proposals: ImageProposals, options: ProposeConfig) -> ImageProposals:
    """The best proposals above `min_score`; they are sorted by their scores."""
    keep = np.flatnonzero(proposals.scores >= options.min_score)
    keep = keep[: options.max_proposals]
    return ImageProposals(
        proposals.image_id, proposals.boxes[keep], proposals.scores[keep]
    )


def _draw(
    source: ImageSource,
    row: int,
    proposals: ImageProposals,
    folder: pathlib.Path,
    number: int,
) -> None:
    """Draws the best proposals of an image."""
    figure, (ax,) = plot.image_axes([source.pixels(row)], columns=1)
    # The best proposal is drawn last, so that no other one covers it. A brighter colour
    # means a higher probability.
    boxes, scores = proposals.boxes[:number][::-1], proposals.scores[:number][::-1]
    brightness = [colors.to_hex(color) for color in colormaps["plasma"](scores)]
    plot.draw_boxes(ax, boxes, brightness, cased=True)
    ax.set_title(f"the best {len(scores)} of {len(proposals.scores)} proposals", size=9)
    name = pathlib.PurePath(source.truth(row).name).stem
    save(figure, folder / f"{proposals.image_id:06d}_{name}.png")
