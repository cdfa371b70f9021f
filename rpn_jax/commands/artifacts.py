"""The numbers that several commands write: proposals and recall."""

import json
import logging
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tqdm import tqdm

from ..atomic_file import replace_file
from ..core.config import RPNConfig
from ..data import CategorySplit, ImageSource, PipelineConfig
from ..data.image_source import all_truths
from ..distributed import by_first, is_first
from ..evaluate import ImageProposals, Report, evaluate, write_coco_results
from ..models import RPN
from ..predict import predict
from ..report import PageFacts
from . import pages, pictures

_NUM_NAMED = 10  # files that a warning names; the results list all of them
_logger = logging.getLogger(__name__)


def write_evaluation(
    model: RPN,
    source: ImageSource,
    folder: pathlib.Path,
    *,
    pipeline: PipelineConfig,
    config: RPNConfig,
    batch_size: int,
    split: CategorySplit | None = None,
    find_facts: Callable[[], PageFacts] | None = None,
) -> Report:
    """Evaluates a model and writes the results.

    The files are `proposals.json` in COCO's result format and `recall.json`, and then
    the pictures `recall.png` and `proposals.png` with a few images. The page
    `report.html` comes last.

    Args:
        model: the trained network.
        source: the images with their ground truth.
        folder: folder to write to.
        pipeline: how images become batches.
        config: the settings of all stages.
        batch_size: images per batch.
        split: the categories whose recall is also counted separately.
        find_facts: reads what the page says beside the recall; None writes no page.

    Returns:
        The recall. An image that cannot be decoded counts as one without proposals.
    """
    found = predict(
        model, source, pipeline=pipeline, config=config, batch_size=batch_size
    )
    proposals = collect(found, source, "evaluating")
    report = recall_of(source, proposals, split)

    def write() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        write_proposals(proposals, folder)
        write_json(report.as_dict(), folder / "recall.json")
        pictures.draw_evaluation(report, source, proposals, folder)
        if find_facts is not None:
            path = folder / pages.PAGE
            pages.write_evaluation_page(report, source, proposals, path, find_facts)

    by_first(write)
    return report


def collect(
    found: Iterable[tuple[int, ImageProposals]],
    source: ImageSource,
    activity: str,
    select: Callable[[ImageProposals], ImageProposals] = lambda proposals: proposals,
) -> dict[int, ImageProposals]:
    """Gathers the proposals of all images while a progress bar runs.

    Images that cannot be decoded are named in one warning.

    Args:
        found: rows of `source` and their proposals, in any order.
        source: the images.
        activity: what the progress bar says.
        select: keeps some of the proposals of an image.

    Returns:
        The proposals of every image that was decoded, sorted by row.
    """
    progress = tqdm(found, activity, len(source), unit="image", disable=not is_first())
    by_row = {row: select(of_image) for row, of_image in progress}
    # Sorting by row makes the files independent of the order of the batches.
    proposals = dict(sorted(by_row.items()))
    if names := unreadable(source, proposals):
        rest = len(names) - _NUM_NAMED
        _logger.warning(
            "%d of %d images cannot be decoded, so they have no proposals: %s%s.",
            len(names),
            len(source),
            ", ".join(names[:_NUM_NAMED]),
            f" and {rest} more" if rest > 0 else "",
        )
    return proposals


def unreadable(
    source: ImageSource, proposals: Mapping[int, ImageProposals]
) -> list[str]:
    """The names of the images that have no entry, because they were not decoded."""
    rows = (row for row in range(len(source)) if row not in proposals)
    return [source.truth(row).name for row in rows]


def recall_of(
    source: ImageSource,
    proposals: Mapping[int, ImageProposals],
    split: CategorySplit | None = None,
) -> Report:
    """The recall over all images, also over those that were not opened or decoded.

    Args:
        source: the images with their ground truth.
        proposals: the proposals of every image that was decoded, by row.
        split: the categories whose recall is also counted separately.
    """
    report = evaluate(all_truths(source), list(proposals.values()), split=split)
    names = unreadable(source, proposals) + [truth.name for truth in source.left_out]
    return report._replace(unreadable=tuple(names))


def write_proposals(
    proposals: Mapping[int, ImageProposals], folder: pathlib.Path
) -> None:
    """Writes `proposals.json`, whole or not at all."""
    with replace_file(folder / "proposals.json") as draft:
        write_coco_results(draft, list(proposals.values()))


def write_json(content: Any, path: pathlib.Path) -> None:
    """Writes a JSON file, whole or not at all."""
    with replace_file(path) as draft:
        draft.write_text(json.dumps(content, indent=1) + "\n")
