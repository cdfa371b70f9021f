"""Pages that commands write after their results and pictures."""

import pathlib
from collections.abc import Callable, Mapping

from ..data import ImageSource
from ..evaluate import ImageProposals, Report
from ..report import (
    Page,
    PageFacts,
    Picture,
    RunProposals,
    evaluation_page,
    make_gallery,
    read_picture,
    write_page,
)
from .attempts import attempt

PAGE = "report.html"


def attempt_page(path: pathlib.Path, make: Callable[[], Page]) -> None:
    """Writes a page, or logs one warning that says why not.

    Args:
        path: the HTML file.
        make: makes the page.
    """
    attempt(path, lambda: write_page(make(), path), "The page %s was not written")


def write_evaluation_page(
    report: Report,
    source: ImageSource,
    proposals: Mapping[int, ImageProposals],
    path: pathlib.Path,
    find_facts: Callable[[], PageFacts],
) -> None:
    """Writes the page of an evaluation.

    Args:
        report: the recall.
        source: the images with their ground truth.
        proposals: the proposals of every image that was decoded, by row.
        path: the HTML file.
        find_facts: reads what the page says beside.
    """
    attempt_page(
        path,
        lambda: evaluation_page(
            report,
            make_gallery(source, [RunProposals("run", proposals)]),
            find_facts(),
        ),
    )


def labels_of(folder: pathlib.Path) -> Picture | None:
    """The picture of anchor labels in the folder of a run, if it was drawn."""
    text = "Anchors of a training image: positive ones as boxes in the colour of their"
    text += " object, sampled negative ones as points, ignored ones as grey squares."
    return read_picture(folder / "labels.png", text)


def problems_of(**sources: ImageSource) -> list[str]:
    """What was wrong with data sets, a line each, after the name of the data."""
    unique = {id(source.problems): name for name, source in sources.items()}
    by_name = {name: sources[name] for name in unique.values()}
    return [
        f"{name} data: {line}" if len(by_name) > 1 else line
        for name, source in by_name.items()
        for line in source.problems.summary()
    ]
