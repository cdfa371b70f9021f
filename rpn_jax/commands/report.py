"""`rpn-jax report`: compares finished runs in one page."""

import dataclasses
import logging
import pathlib
import shlex
from collections.abc import Mapping, Sequence

import tyro

from ..data import ImageSource
from ..evaluate import ImageProposals, read_coco_results
from ..report import (
    FinishedRun,
    Gallery,
    RunProposals,
    comparison_page,
    make_gallery,
    read_run,
    write_page,
)
from ..report.finders import IOU
from ..report.gallery import LIMIT, MOST_IMAGES
from ..train import ResolvedConfig, open_sources, read_config
from . import flags

_MOST_RUNS = 6  # as many as there are colours of lines
_NOTE = (
    "These are the images in which the numbers of found objects differ most, at an IoU "
    f"of {IOU} with {LIMIT} proposals. At most {MOST_IMAGES} are shown."
)
_logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Compares finished runs in one page, which a browser opens without a network.

    Attributes:
        runs: folders of two to six training runs.
        out: the HTML file to write.
    """

    runs: tyro.conf.Positional[tuple[str, ...]]
    out: str = "comparison.html"


def main(arguments: Sequence[str]) -> str:
    """Compares runs.

    Args:
        arguments: the command line after `report`.

    Returns:
        Where the page is.

    Raises:
        ValueError: there are too few or too many runs, or one was not evaluated.
    """
    options = flags.parse(ReportConfig, arguments, name="report")
    if not 2 <= len(set(options.runs)) == len(options.runs) <= _MOST_RUNS:
        raise ValueError(
            f"report needs the folders of two to {_MOST_RUNS} different runs, got "
            f"{list(options.runs)}. `rpn-jax train` writes the page of a single run."
        )
    names = _names(options.runs)
    runs = list(map(read_run, options.runs, names))
    gallery, note = _gallery(options.runs, runs)
    page = comparison_page(
        runs,
        gallery,
        command=shlex.join(["rpn-jax", "report", *arguments]),
        note=note,
    )
    path = pathlib.Path(options.out)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_page(page, path)
    return f"The comparison is in {path}."


def _names(folders: Sequence[str]) -> list[str]:
    """The last parts of the paths, or the paths if two have the same last part."""
    names = [pathlib.Path(folder).name for folder in folders]
    return names if len(set(names)) == len(names) else list(folders)


def _gallery(
    folders: Sequence[str], runs: Sequence[FinishedRun]
) -> tuple[Gallery | None, str]:
    """The images where the runs differ, and what the page says about them."""
    evaluated = [(x.recall["num_images"], x.recall["num_objects"]) for x in runs]
    if any(x != evaluated[0] for x in evaluated):
        return None, "The runs were evaluated on different images, so none are shown."
    try:
        # The images are those of the first run, which the others have to share.
        config = read_config(ResolvedConfig, pathlib.Path(folders[0]) / "config.json")
        source = open_sources(config).val
        by_run = [
            RunProposals(run.name, _proposals(folder, source))
            for folder, run in zip(folders, runs, strict=True)
        ]
    except (ValueError, OSError) as error:
        _logger.warning("The comparison shows no images: %s", error)
        return None, f"No images are shown: {error}"
    gallery = make_gallery(source, by_run)
    if not gallery.num_images:
        return None, "All runs find the same number of objects in every image."
    return gallery, _NOTE


def _proposals(folder: str, source: ImageSource) -> Mapping[int, ImageProposals]:
    """The proposals of a run, by row of the data."""
    rows = {source.truth(row).image_id: row for row in range(len(source))}
    found = read_coco_results(pathlib.Path(folder) / "proposals.json")
    if any(image.image_id not in rows for image in found):
        raise ValueError(f"the proposals in {folder} belong to other images.")
    return {rows[image.image_id]: image for image in found}
