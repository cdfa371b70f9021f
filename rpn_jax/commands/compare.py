"""`rpn-jax compare`: two runs object by object, from their anchors to their recall."""

import dataclasses
import pathlib
import shlex
from collections.abc import Mapping, Sequence

import tyro
from tqdm import tqdm

from ..data import GroundTruth, ImageSource
from ..data.image_source import all_truths
from ..evaluate import Difference, compare_recall, find_objects
from ..evaluate.compared_recall import difference_table
from ..label import label_images
from ..predict import predict
from ..report import differing_settings, flat
from ..tables import format_table
from ..train import TrainedRun, load_run, log_problems
from . import flags
from .artifacts import collect, write_json
from .compared_objects import (
    FOUND_LIMIT,
    Compared,
    Side,
    anchors_table,
    compare_objects,
    found_table,
    levels_table,
    summarize,
    write_objects,
)
from .compared_pairs import Pair, common_source, pairs_of
from .compared_pictures import draw_changed
from .evaluated_data import open_evaluated

_UNSAID = ("out", "resume")  # settings that differ in any two runs


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """Compares two runs object by object: labels of anchors, proposals, and recall.

    A and B may differ in any setting, such as the rule that labels anchors. Both may
    also be folders of `train --seeds`, whose runs are paired in the order of the seeds.

    Attributes:
        runs: folders A and B, each of a training run or of as many seeds.
        best: uses the checkpoint with the best AR@100 of the evaluations during
            training instead of the newest one.
        data: a COCO JSON file, a folder with VOC XML, the `data.yaml` or folder of a
            YOLO set, or `scenes`; None uses the validation images of the runs.
        images: folder of the images; None looks beside the annotations.
        split: list `ImageSets/Main/<split>.txt` of a VOC folder, or a split of a YOLO
            set. None takes the images of all splits.
        out: folder for the tables and the picture.
        batch_size: images per batch.
    """

    runs: tyro.conf.Positional[tuple[str, str]]
    best: bool = False
    data: str | None = None
    images: str | None = None
    split: str | None = None
    out: str = "comparison"
    batch_size: int = 8


def main(arguments: Sequence[str]) -> str:
    """Compares runs.

    Args:
        arguments: the command line after `compare`.

    Returns:
        The settings that differ, the recall with intervals, a summary of the objects,
        and where the tables are.

    Raises:
        ValueError: a folder has no run, the numbers of seeds differ, or the runs are
            evaluated on different images.
    """
    options = flags.parse(CompareConfig, arguments, name="compare")
    pairs = pairs_of(*options.runs)
    sources = _sources(options, pairs)
    compared = [
        _compare(pair, source, options)
        for pair, source in zip(pairs, sources, strict=True)
    ]
    folder = pathlib.Path(options.out)
    folder.mkdir(parents=True, exist_ok=True)
    write_objects(compared, sources[0].categories, folder / "objects.csv")
    drawn = draw_changed(compared[0], sources[0], folder / "labels.png")
    return _written(options, compared, _differing(pairs[0]), drawn)


def _sources(options: CompareConfig, pairs: Sequence[Pair]) -> list[ImageSource]:
    """The images of each pair."""
    if options.data is None:
        return list(map(common_source, pairs))
    source = open_evaluated(options.data, options.images, options.split)
    log_problems(source)
    return [source] * len(pairs)


def _compare(pair: Pair, source: ImageSource, options: CompareConfig) -> Compared:
    """Runs both networks on the same images."""
    truths = all_truths(source)
    a, b = (
        _side(
            load_run(path, best=options.best),
            source,
            truths,
            options.batch_size,
            path.name,
        )
        for path in pair
    )
    return compare_objects(truths, a, b)


def _side(
    run: TrainedRun,
    source: ImageSource,
    truths: Sequence[GroundTruth],
    batch_size: int,
    name: str,
) -> Side:
    """The proposals of a run, and the labels of its anchors."""
    settings = {
        "pipeline": run.config.pipeline,
        "config": run.config.rpn,
        "batch_size": batch_size,
    }
    found = predict(run.model, source, **settings)
    proposals = collect(found, source, f"proposals of {name}")
    labelled = label_images(run.model, source, **settings)
    progress = tqdm(labelled, f"labels of {name}", len(source), unit="image")
    return Side(find_objects(truths, proposals), dict(progress))


def _differing(pair: Pair) -> dict[str, list[str]]:
    """The settings in which the runs differ, except the places of their results."""
    configs = [flat(dataclasses.asdict(config)) for config in pair.configs()]
    found = differing_settings(configs)
    return {name: texts for name, texts in found.items() if name not in _UNSAID}


def _written(
    options: CompareConfig,
    compared: Sequence[Compared],
    settings: Mapping[str, Sequence[str]],
    drawn: Sequence[str],
) -> str:
    """Writes the numbers as JSON, and returns what the command prints."""
    number = len(compared[0].truths)
    found = [(x.sides[0].found, x.sides[1].found) for x in compared]
    recall, summary = compare_recall(found, number), summarize(compared)
    folder, (a, b) = pathlib.Path(options.out), options.runs
    facts = {
        "a": a,
        "b": b,
        "num_pairs": len(compared),
        "num_images": number,
        "settings": settings,
        "interval": _interval(len(compared)),
        "recall": [_finite(row) for row in recall],
        "objects": summary,
    }
    write_json(facts, folder / "comparison.json")
    told = f"{len(settings)} settings of the first pair differ."
    parts = [
        f"A is {a}, B is {b}. {number:,} images with {summary['all']['number']:,} "
        f"objects.",
        told if len(compared) > 1 else "",
        _settings_table(settings),
        difference_table(recall),
        f"The interval is one of confidence, by {_interval(len(compared))}.",
        found_table(summary),
        f"Found means at an IoU of 0.5 with {FOUND_LIMIT} proposals.",
        anchors_table(summary),
        levels_table(compared),
        _places(folder, drawn),
        _page_command(a, b) if len(compared) == 1 else "",
    ]
    return "\n\n".join(part for part in parts if part)


def _interval(num_pairs: int) -> str:
    if num_pairs > 1:
        return f"Student's t over {num_pairs} pairs of seeds"
    return "a bootstrap over images, without the spread of seeds"


def _finite(row: Difference) -> dict[str, float | str | None]:
    """A row for JSON, with None in place of NaN."""
    return {
        name: None if value != value else value for name, value in row._asdict().items()
    }


def _settings_table(settings: Mapping[str, Sequence[str]]) -> str:
    if not settings:
        return "All settings are equal."
    rows = [[name, *texts] for name, texts in settings.items()]
    return format_table([["setting", "A", "B"], *rows])


def _places(folder: pathlib.Path, drawn: Sequence[str]) -> str:
    """What was written, and which images the picture shows."""
    text = f"{folder} has objects.csv with a row for each object, and comparison.json."
    if drawn:
        return f"{text} labels.png shows where positives differ most: " + (
            f"{', '.join(drawn)}."
        )
    return f"{text} The positives are the same in all images, so none is drawn."


def _page_command(a: str, b: str) -> str:
    return f"A page for the browser: {shlex.join(['rpn-jax', 'report', a, b])}"
