"""`rpn-jax propose`: writes and draws proposals for images."""

import dataclasses
import logging
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from matplotlib import colormaps, colors
from matplotlib.figure import Figure
from tqdm import tqdm

from .. import plot
from ..data import ImageSource, open_unannotated
from ..data.file_source import FileSource
from ..evaluate import ImageProposals
from ..models.interop import (
    SystemName,
    make_foreign_model,
    read_checkpoint,
)
from ..predict import predict, predict_alone
from ..train import load_run, log_problems
from . import flags
from .artifacts import collect, write_json, write_proposals
from .listed_names import names_of_files
from .pictures import draw_picture

_LONGEST_NAME = 255  # bytes that most file systems allow in the name of a file
_logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProposeConfig:
    """Proposals for images without annotations.

    The results are `proposals.json` in COCO's result format, `images.json` with the
    file of every `image_id`, and a picture of every image with its best proposals.

    Attributes:
        run: folder of the training run; its newest checkpoint is used.
        best: uses the checkpoint with the best AR@100 of the evaluations during
            training instead of the newest one.
        weights: file with the weights of a detector of another system, instead of
            `run`. Images get the size and the padding that this system gives to each of
            them alone, and proposals are selected as it does. Each distinct padded size
            compiles once.
        system: system that `weights` come from; None guesses it from the names of the
            tensors.
        images: image files, or folders of them.
        out: folder for the results.
        max_proposals: largest number of proposals per image; None keeps the limit of
            the network's settings.
        min_score: lowest score, from 0 to 1, of a proposal that is written.
        drawn: number of the best proposals in a picture; 0 draws no pictures.
        batch_size: images per batch of a `run`; `weights` see one image at a time.
    """

    images: tuple[str, ...]
    run: str | None = None
    best: bool = False
    weights: str | None = None
    system: SystemName | None = None
    out: str = "proposals"
    max_proposals: int | None = None
    min_score: float = 0.0
    drawn: int = 20
    batch_size: int = 8


def main(arguments: Sequence[str]) -> str:
    """Computes proposals, writes them, and draws pictures of them.

    Args:
        arguments: the command line after `propose`.

    Returns:
        The number of proposals, and the folder of the results.
    """
    options = flags.parse(ProposeConfig, arguments, name="propose")
    source = open_unannotated([pathlib.Path(path) for path in options.images])
    log_problems(source)
    found = _predictions(source, options)
    folder = pathlib.Path(options.out)
    folder.mkdir(parents=True, exist_ok=True)
    proposals = collect(
        found, source, "proposing", lambda of_image: _select(of_image, options)
    )
    # The numbers are written before any picture, because a picture can fail.
    write_proposals(proposals, folder)
    write_json(_listed(source, proposals), folder / "images.json")
    if options.drawn:
        _draw(source, proposals, folder, options.drawn)
    return _summary(source, proposals, folder)


def _predictions(
    source: ImageSource, options: ProposeConfig
) -> Iterator[tuple[int, ImageProposals]]:
    """The proposals of a run's network, or of the weights of another system."""
    flags.check_network("propose", options.run, options.weights)
    if options.run is not None:
        trained = load_run(options.run, best=options.best)
        return predict(
            trained.model,
            source,
            pipeline=trained.config.pipeline,
            config=trained.config.rpn,
            batch_size=options.batch_size,
        )
    assert options.weights is not None
    found = make_foreign_model(read_checkpoint(options.weights, options.system))
    _logger.info("%s", found.report)
    return predict_alone(
        found.model, source, system=found.report.system, config=found.config
    )


def _select(proposals: ImageProposals, options: ProposeConfig) -> ImageProposals:
    """The best proposals above `min_score`; they are sorted by their scores."""
    keep = np.flatnonzero(proposals.scores >= options.min_score)
    keep = keep[: options.max_proposals]
    return ImageProposals(
        proposals.image_id, proposals.boxes[keep], proposals.scores[keep]
    )


def _listed(
    source: FileSource, proposals: Mapping[int, ImageProposals]
) -> list[dict[str, object]]:
    """Number, file and size of every image, as COCO lists them."""
    names = names_of_files(source)
    truths = [source.truth(row) for row in range(len(source))]
    listed: list[dict[str, object]] = [
        {"id": t.image_id, "file_name": name, "height": t.size[0], "width": t.size[1]}
        for t, name in zip(truths, names, strict=True)
    ]
    for row, image in enumerate(listed):
        if row not in proposals:
            image["unreadable"] = True
    return listed


def _draw(
    source: ImageSource,
    proposals: Mapping[int, ImageProposals],
    folder: pathlib.Path,
    number: int,
) -> None:
    """Draws a picture for every image that has been decoded."""
    for row, of_image in tqdm(proposals.items(), "drawing", unit="image"):
        name = picture_name(of_image.image_id, source.truth(row).name)
        draw_picture(
            folder / name,
            lambda row=row, of_image=of_image: _plot(
                source.pixels(row), of_image, number
            ),
        )


def picture_name(image_id: int, name: str) -> str:
    """The name of the picture of an image: its number and its name, cut if need be.

    Args:
        image_id: the number, which makes names unique.
        name: the file of the image.

    >>> picture_name(7, "photos/dog.jpg")
    '000007_dog.png'
    """
    prefix, stem = f"{image_id:06d}_", pathlib.PurePath(name).stem
    room = _LONGEST_NAME - len(prefix) - len(".tmp.png")  # of the draft
    encoded = os.fsencode(stem)
    if len(encoded) > room:
        stem = encoded[:room].decode(errors="ignore")  # drops half a character
    return f"{prefix}{stem}.png"


def _plot(pixels: plot.Pixels, proposals: ImageProposals, number: int) -> Figure:
    """Plots the best proposals of an image."""
    figure, (ax,) = plot.image_axes([pixels], columns=1)
    # The best proposal is drawn last, so that no other one covers it. A brighter colour
    # means a higher score.
    boxes, scores = proposals.boxes[:number][::-1], proposals.scores[:number][::-1]
    brightness = [colors.to_hex(color) for color in colormaps["plasma"](scores)]
    plot.draw_boxes(ax, boxes, brightness, cased=True)
    ax.set_title(f"the best {len(scores)} of {len(proposals.scores)} proposals", size=9)
    return figure


def _summary(
    source: ImageSource,
    proposals: Mapping[int, ImageProposals],
    folder: pathlib.Path,
) -> str:
    number = sum(len(of_image.scores) for of_image in proposals.values())
    text = f"{number:,} proposals for {len(proposals):,} images are in {folder}."
    if missing := len(source) - len(proposals):
        text += f" {missing:,} of {len(source):,} images cannot be decoded."
    return text
