"""`rpn-jax inspect`: what is wrong with a data set, and do the anchors fit it?"""

import json
from collections.abc import Iterator, Sequence

from .. import plot
from ..anchor_report import ImageBoxes, inspect_anchors, scaled
from ..data import ImageSource, PipelineConfig, is_endless
from ..data.augment import resized_sizes
from ..data.buckets import fit_buckets
from ..train import TrainConfig, log_problems, open_sources, resolve
from ..train.run_folder import RunFolder
from .artifacts import save
from .train import parse

_NUM_SCENES = 500


def main(arguments: Sequence[str]) -> str:
    """Inspects the data that `rpn-jax train` would train on with the same flags.

    Writes `inspection.json` and `inspection.png`.

    Args:
        arguments: of the command line, after `inspect`.

    Returns:
        The problems of the data, how well the anchors cover it, and better ones.
    """
    default = TrainConfig(out="runs/inspection")
    config = resolve(parse(arguments, name="inspect", default=default))
    source = open_sources(config).train
    log_problems(source)
    report = inspect_anchors(
        list(_network_boxes(source, config.pipeline)),
        anchors=config.rpn.anchors,
        targets=config.rpn.targets,
    )
    folder = RunFolder(config.out).path
    folder.mkdir(parents=True, exist_ok=True)
    facts = report.as_dict() | {"problems": source.problems.summary()}
    (folder / "inspection.json").write_text(json.dumps(facts, indent=1) + "\n")
    save(plot.plot_anchor_report(report), folder / "inspection.png")
    return f"{report.table()}\n\nPictures are in {folder}."


def _network_boxes(
    source: ImageSource, pipeline: PipelineConfig
) -> Iterator[ImageBoxes]:
    """The boxes as the network sees them, without augmentation."""
    pipeline = pipeline.for_evaluation()
    buckets = fit_buckets(source, pipeline)
    rows = [range(_NUM_SCENES)] if is_endless(source) else buckets.rows or ()
    for shape, of_shape in zip(buckets.shapes, rows, strict=True):
        for row in of_shape:
            truth = source.truth(int(row))
            height, width = resized_sizes(source.image_sizes[row][None], pipeline, 1.0)[
                0
            ]
            scale = (height / truth.size[0], width / truth.size[1])
            yield scaled(truth, scale, shape)
