"""`rpn-jax propose`: images in, proposals and pictures of them out."""

import dataclasses
import json
import pathlib
from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps, colors
from tqdm import tqdm

from .. import plot
from ..data import ImageSource, open_unannotated
from ..evaluate import ImageProposals, write_coco_results
from ..predict import predict
from ..train import load_run, log_problems
from . import flags
from .results import save


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProposeConfig:
    """Proposals for images without annotations.

    Writes `proposals.json` in COCO's form of results, `images.json` that says which
    `image_id` is which file, and a picture of every image with its best proposals.

    Attributes:
        run: folder of the training run; its newest checkpoint proposes.
        images: files, or folders of files.
        out: folder for the results.
        max_proposals: of an image; None takes as many as the run's rules do.
        min_score: the lowest probability of a proposal that is written.
        drawn: how many of the best proposals a picture shows; 0 draws no pictures.
        batch_size: images of a batch.
    """

    run: str
    images: tuple[str, ...]
    out: str = "proposals"
    max_proposals: int | None = None
    min_score: float = 0.0
    drawn: int = 20
    batch_size: int = 8


def main(arguments: Sequence[str]) -> str:
    """Proposes.

    Args:
        arguments: of the command line, after `propose`.

    Returns:
        What was written, and where.
    """
    options = flags.parse(ProposeConfig, arguments, name="propose")
    source = open_unannotated([pathlib.Path(path) for path in options.images])
    log_problems(source)
    trained = load_run(options.run)
    folder = pathlib.Path(options.out)
    folder.mkdir(parents=True, exist_ok=True)
    found = predict(
        trained.model,
        source,
        pipeline=trained.config.pipeline,
        config=trained.config.rpn,
        batch_size=options.batch_size,
    )
    proposals = {}
    for row, of_image in tqdm(found, "proposing", len(source), unit="image"):
        proposals[row] = _select(of_image, options)
        if options.drawn:
            _draw(source, row, proposals[row], folder, options.drawn)
    write_coco_results(folder / "proposals.json", list(proposals.values()))
    truths = [source.truth(row) for row in sorted(proposals)]
    images = [
        {"id": t.image_id, "file_name": t.name, "height": t.size[0], "width": t.size[1]}
        for t in truths
    ]
    (folder / "images.json").write_text(json.dumps(images, indent=1) + "\n")
    number = sum(len(of_image.scores) for of_image in proposals.values())
    return f"{number:,} proposals for {len(proposals):,} images are in {folder}."


def _select(proposals: ImageProposals, options: ProposeConfig) -> ImageProposals:
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
    figure, (ax,) = plot.image_axes([source.pixels(row)], columns=1)
    # The best last, so that no other covers it; the brighter, the likelier.
    boxes, scores = proposals.boxes[:number][::-1], proposals.scores[:number][::-1]
    brightness = [colors.to_hex(color) for color in colormaps["plasma"](scores)]
    plot.draw_boxes(ax, boxes, brightness, cased=True)
    ax.set_title(f"the best {len(scores)} of {len(proposals.scores)} proposals", size=9)
    name = pathlib.PurePath(source.truth(row).name).stem
    save(figure, folder / f"{proposals.image_id:06d}_{name}.png")
