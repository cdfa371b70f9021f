"""The pages of one run: of an evaluation, and of an inspection of data."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from .. import __version__
from ..anchor_report import AnchorReport
from ..evaluate import Report
from .charts import Lines, recall_charts, training_charts
from .finders import IOU
from .gallery import LIMIT, MOST_BOXES, MOST_IMAGES, Gallery
from .page import Page
from .page_parts import Picture, Table
from .sections import Section


class PageFacts(NamedTuple):
    """What a page says about a command, beside its results.

    Attributes:
        title: the title of the page.
        command: a command that repeats what the page shows.
        config: the settings, for JSON.
        metrics: the lines of the log of the training.
        labels: the picture of the labels of anchors, if there is one.
        problems: what was wrong with the data, a line each.
    """

    title: str
    command: str
    config: dict[str, Any]
    metrics: Lines = ()
    labels: Picture | None = None
    problems: Sequence[str] = ()


def evaluation_page(report: Report, gallery: Gallery, facts: PageFacts) -> Page:
    """The page of an evaluated network.

    Args:
        report: the recall.
        gallery: the images to show.
        facts: what the page says beside.

    >>> from rpn_jax.data import Scenes
    >>> from rpn_jax.evaluate import ImageProposals, evaluate
    >>> from rpn_jax.report import RunProposals, make_gallery
    >>> scenes = Scenes(num_images=1)
    >>> truth = scenes.truth(0)
    >>> found = ImageProposals(truth.image_id, truth.boxes, truth.areas)
    >>> gallery = make_gallery(scenes, [RunProposals("photos", {0: found})])
    >>> facts = PageFacts("photos", "rpn-jax evaluate --run photos", config={})
    >>> page = evaluation_page(evaluate([truth], [found]), gallery, facts)
    >>> [section.title for section in page.sections]
    ['Summary', 'Recall', 'Images', 'Problems of the data', 'Settings']
    """
    header, *rows = report.rows()
    recall = Table("Recall by the number of proposals per image", header, rows)
    texts = [
        f"Evaluated images: {report.num_images:,}. Objects in them: "
        f"{report.num_objects[0]:,}.",
        "AR is the average recall over IoU thresholds from 0.5 to 0.95, and @100 "
        "counts the best 100 proposals of each image.",
    ]
    sections = [Section("summary", "Summary", texts, tables=[recall])]
    if charts := training_charts({"run": facts.metrics}):
        sections.append(Section("training", "Training", charts=charts))
    sections += [
        Section("recall", "Recall", charts=recall_charts(report)),
        Section("images", "Images", _gallery_texts(gallery), gallery=gallery),
    ]
    if facts.labels is not None:
        sections.append(Section("labels", "Labels of anchors", picture=facts.labels))
    problems = [f"cannot be read: {name}" for name in report.unreadable]
    return _page(facts, sections, [*facts.problems, *problems])


def inspection_page(
    report: AnchorReport, picture: Picture | None, advice: str, facts: PageFacts
) -> Page:
    """The page of an inspected data set.

    Args:
        report: how well the anchors fit the data.
        picture: the picture of the report, if it was drawn.
        advice: flags of better anchors; empty if there are none.
        facts: what the page says beside.

    >>> from rpn_jax.anchor_report import inspect_anchors
    >>> facts = PageFacts("photos", "rpn-jax inspect --data photos.json", config={})
    >>> page = inspection_page(inspect_anchors([]), None, "", facts)
    >>> [table.caption for table in page.sections[0].tables]
    ['What anchors cover', 'By size', 'By aspect ratio', 'Anchors']
    """
    captions = "What anchors cover", "By size", "By aspect ratio", "Anchors"
    tables = [
        Table(caption, header, rows)
        for caption, (header, *rows) in zip(captions, report.tables(), strict=True)
    ]
    section = Section(
        "anchors",
        "How well the anchors fit",
        [f"{sentence.rstrip('.')}." for sentence in report.sentences()],
        tables=tables,
        picture=picture,
        code=[("Flags of the suggested anchors", advice)] if advice else [],
    )
    return _page(facts, [section], facts.problems)


def _gallery_texts(gallery: Gallery) -> list[str]:
    if not gallery.num_images:
        return ["No image with an object can be shown."]
    return [
        f"These are the images with the lowest recall at an IoU of {IOU} with {LIMIT} "
        f"proposals, at most {MOST_IMAGES}, the worst first. An image shows at most "
        f"{MOST_BOXES} proposals; its number of found objects takes all of them."
    ]


def _page(
    facts: PageFacts, sections: Sequence[Section], problems: Sequence[str]
) -> Page:
    """A page with the problems of the data and the settings at its end."""
    said = [] if problems else ["No problem was met."]
    code = [
        ("The command that repeats this", facts.command),
        ("All settings", json.dumps(facts.config, indent=2)),
    ]
    return Page(
        facts.title,
        f"Written by rpn_jax {__version__} with JAX {jax.__version__}.",
        (
            *sections,
            Section("problems", "Problems of the data", said, items=problems),
            Section("settings", "Settings", code=code),
        ),
    )
