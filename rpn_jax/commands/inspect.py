"""`rpn-jax inspect`: reports problems of a data set and how anchors fit it."""

import dataclasses
import pathlib
import shlex
from collections.abc import Iterator, Sequence

from .. import plot
from ..anchor_report import AnchorReport, ImageBoxes, inspect_anchors, scaled
from ..data import ImageSource, PipelineConfig, is_endless
from ..data.buckets import fit_buckets
from ..data.pipeline_config import resized_sizes
from ..report import Page, PageFacts, inspection_page, read_picture
from ..train import TrainConfig, log_problems, open_sources, resolve
from ..train.run_folder import RunFolder
from . import flags, pages
from .anchor_flags import flags_of
from .artifacts import write_json
from .pictures import draw_picture

# Scenes are endless, so a fixed number of them stands for all. More make the report
# slower and its shares more precise.
_NUM_SCENES = 500


def main(arguments: Sequence[str]) -> str:
    """Inspects the data that `rpn-jax train` would use with the same flags.

    The log lists the problems of the data. `inspection.json`, `inspection.png` and
    `report.html` have the report.

    Args:
        arguments: the command line after `inspect`.

    Returns:
        How well the anchors cover the data, and the flags of anchors that cover it
        better, if found.
    """
    default = TrainConfig(out="runs/inspection")
    config = resolve(flags.parse_training(arguments, name="inspect", default=default))
    sources = open_sources(config)
    log_problems(*sources)
    source = sources.train
    report = inspect_anchors(
        list(_network_boxes(source, config.pipeline)),
        anchors=config.rpn.anchors,
        targets=config.rpn.grid_targets,
    )
    folder = RunFolder(config.out).path
    folder.mkdir(parents=True, exist_ok=True)
    better = report.suggestion and flags_of(report.suggestion.config)
    found = {"problems": source.problems.summary(), "suggested_flags": better}
    write_json(report.as_dict() | found, folder / "inspection.json")
    draw_picture(folder / "inspection.png", lambda: plot.plot_anchor_report(report))
    facts = PageFacts(
        title=f"Inspection of {config.data}",
        command=shlex.join(["rpn-jax", "inspect", *arguments]),
        config=dataclasses.asdict(config),
        problems=pages.problems_of(Training=source, Validation=sources.val),
    )
    pages.attempt_page(
        folder / pages.PAGE, lambda: _page(folder, report, better or "", facts)
    )
    parts = [report.table(), _sizes(config.pipeline)]
    if better:
        parts.append(f"Flags of the suggested anchors, to add to the others:\n{better}")
    return "\n\n".join([*parts, f"Pictures are in {folder}."])


def _page(
    folder: pathlib.Path, report: AnchorReport, better: str, facts: PageFacts
) -> Page:
    """The page of the inspection."""
    text = "Sizes, aspect ratios and best IoU of the objects, and the anchors."
    picture = read_picture(folder / "inspection.png", text)
    return inspection_page(report, picture, better, facts)


def _sizes(pipeline: PipelineConfig) -> str:
    """What a pixel is in the tables."""
    return (
        "px are pixels of the resized images, in which the shorter side has "
        f"{pipeline.min_side} (--pipeline.min-side) and the longer side at most "
        f"{pipeline.max_side} (--pipeline.max-side)."
    )


def _network_boxes(
    source: ImageSource, pipeline: PipelineConfig
) -> Iterator[ImageBoxes]:
    """The boxes of every image at the size that the network sees."""
    pipeline = pipeline.for_evaluation()
    buckets = fit_buckets(source, pipeline)
    rows = [range(_NUM_SCENES)] if is_endless(source) else buckets.rows or ()
    for shape, of_shape in zip(buckets.shapes, rows, strict=True):
        for row in of_shape:
            truth = source.truth(int(row))
            original = source.image_sizes[row][None]
            height, width = resized_sizes(original, pipeline, 1.0)[0]
            scale = (height / truth.size[0], width / truth.size[1])
            yield scaled(truth, scale, shape)
