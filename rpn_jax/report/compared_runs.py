"""The page that compares finished runs, from the files in their folders."""

import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .. import __version__
from ..evaluate.recall_report import COCO_SIZES, LIMITS
from ..train import read_metrics
from ..train.config_file import flat as flat
from .charts import Chart, Line, Lines, training_charts
from .gallery import Gallery
from .page import Page
from .page_parts import Table
from .sections import Section


class FinishedRun(NamedTuple):
    """The numbers in the folder of a run.

    Attributes:
        name: what the page calls the run.
        recall: the content of `recall.json`.
        config: the settings as one level, such as `rpn.losses.beta`.
        metrics: the lines of `metrics.jsonl`.
    """

    name: str
    recall: dict[str, Any]
    config: dict[str, Any]
    metrics: Lines


def read_run(folder: str | os.PathLike[str], name: str) -> FinishedRun:
    """Reads the numbers of a run.

    Args:
        folder: the folder of the run.
        name: what the page calls the run.

    Raises:
        ValueError: the folder has no finished run.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder)
    ...     _ = (path / "config.json").write_text('{"rpn": {"head": "rpn"}, "lr": 0.1}')
    ...     _ = (path / "recall.json").write_text('{"AR@100": 0.5}')
    ...     read_run(path, "photos").config
    {'rpn.head': 'rpn', 'lr': 0.1}
    """
    folder = pathlib.Path(folder)
    recall, config = (_read(folder / x) for x in ("recall.json", "config.json"))
    return FinishedRun(
        name, recall, flat(config), read_metrics(folder / "metrics.jsonl")
    )


def comparison_page(
    runs: Sequence[FinishedRun], gallery: Gallery | None, *, command: str, note: str
) -> Page:
    """The page that compares runs.

    Args:
        runs: the runs.
        gallery: the images in which the runs find different objects; None shows none.
        command: the command that wrote the page.
        note: what to say about the images.

    >>> from rpn_jax.data import Scenes
    >>> from rpn_jax.evaluate import ImageProposals, evaluate
    >>> truth = Scenes().truth(0)
    >>> found = ImageProposals(truth.image_id, truth.boxes, truth.areas)
    >>> recall = evaluate([truth], [found]).as_dict()
    >>> runs = [FinishedRun(name, recall, {"lr": 0.1}, []) for name in ("a", "b")]
    >>> page = comparison_page(runs, None, command="rpn-jax report a b", note="None.")
    >>> page.title, len(page.sections)
    ('Comparison of a, b', 5)
    """
    names = [run.name for run in runs]
    curves = training_charts({run.name: run.metrics for run in runs})
    sections = [
        Section("summary", "Summary", tables=[_recall_table(runs)]),
        Section("recall", "Recall", charts=[_recall_chart(runs)]),
        Section("training", "Training", charts=curves),
        Section("images", "Images where the runs differ", [note], gallery=gallery),
        _settings(runs, command),
    ]
    return Page(
        f"Comparison of {', '.join(names)}",
        f"Written by rpn_jax {__version__}.",
        tuple(sections),
    )


def differing_settings(configs: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """The settings that are not equal in all runs.

    Args:
        configs: the settings of each run as one level, from `flat`.

    Returns:
        The values of all runs as JSON, by the name of the setting.

    >>> differing_settings([{"lr": 0.1, "seed": 0}, {"lr": 0.1, "seed": 1}])
    {'seed': ['0', '1']}
    """
    names = dict.fromkeys(name for config in configs for name in config)
    texts = {name: [json.dumps(x.get(name)) for x in configs] for name in names}
    return {name: values for name, values in texts.items() if len(set(values)) > 1}


def _recall_table(runs: Sequence[FinishedRun]) -> Table:
    """Recall as COCO counts it, a column per run."""
    measures = [(f"AR@{limit}", "all") for limit in LIMITS]
    measures += [(f"recall_0.50@{limit}", "all") for limit in (100, 1000)]
    measures += [("AR@100", size) for size in COCO_SIZES[1:]]
    rows = [
        [_title(measure, size), *(_share(run, measure, size) for run in runs)]
        for measure, size in measures
    ]
    for name in ("num_images", "num_objects"):
        counts = [run.recall[name] for run in runs]
        counts = [x["all"] if isinstance(x, dict) else x for x in counts]
        title = name.replace("num_", "number of ")
        rows.append([title, *(f"{count:,}" for count in counts)])
    return Table("Recall of the runs", ["measure", *(run.name for run in runs)], rows)


def _recall_chart(runs: Sequence[FinishedRun]) -> Chart:
    """Average recall over the number of proposals, a line per run."""
    lines = tuple(
        Line(run.name, LIMITS, [_value(run, f"AR@{limit}") for limit in LIMITS], color)
        for color, run in enumerate(runs)
    )
    axes = "proposals per image", "average recall"
    title = "Average recall over the number of proposals"
    return Chart("over-limits", title, axes, lines, ticks=LIMITS, is_share=True)


def _settings(runs: Sequence[FinishedRun], command: str) -> Section:
    """The settings that differ, and the command."""
    differing = differing_settings([run.config for run in runs])
    rows = [[name, *texts] for name, texts in differing.items()]
    table = Table(
        "Settings that differ", ["setting", *(run.name for run in runs)], rows
    )
    return Section(
        "settings",
        "Settings",
        [] if rows else ["All settings are equal."],
        tables=[table] if rows else [],
        code=[("The command that repeats this", command)],
    )


def _value(run: FinishedRun, measure: str, size: str = "all") -> float:
    value = run.recall["coco"][measure][size]
    return float("nan") if value is None else float(value)


def _share(run: FinishedRun, measure: str, size: str) -> str:
    value = _value(run, measure, size)
    return "-" if value != value else f"{value:.3f}"


def _title(measure: str, size: str) -> str:
    text = measure.replace("recall_0.50", "recall at IoU 0.5, ")
    return text if size == "all" else f"{text}, {size} objects"


def _read(path: pathlib.Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ValueError(
            f"report needs folders of runs that were evaluated, got {path.parent}: "
            f"{error}. Pass the --out of `rpn-jax train`."
        ) from error
