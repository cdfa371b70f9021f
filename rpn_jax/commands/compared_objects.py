"""What two networks do with each object: the table that `rpn-jax compare` writes."""

import csv
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..atomic_file import replace_file
from ..core._typing import Bool, Float
from ..data.image_source import GroundTruth
from ..evaluate.found_objects import BEST_LIMITS, MOST, FoundObjects
from ..evaluate.recall_report import COCO_SIZES, IOU_THRESHOLDS, in_sizes
from ..label import ImageLabels
from ..tables import format_table

FOUND_LIMIT = 100  # proposals per image by which an object counts as found
_FOUND_IOUS = (0.5, 0.75)


class Side(NamedTuple):
    """What one network does with the images.

    Attributes:
        found: the objects, and the proposals that find them.
        labels: the labels of the anchors, by the index of the image. An image that
            cannot be decoded has none.
    """

    found: FoundObjects
    labels: Mapping[int, ImageLabels]


class Compared(NamedTuple):
    """The objects of all images beside each other in two networks.

    Numbers of anchors are NaN in images that cannot be decoded.

    Attributes:
        truths: the ground truth of every image.
        sides: both networks.
        positives: `[o l]` number of positive anchors by level, in each network.
        ignored: `[o]` number of ignored anchors with their centre in the object, in
            each network.
        shared: `[o]` number of anchors that are positive in both; NaN if the networks
            have different grids.
    """

    truths: Sequence[GroundTruth]
    sides: tuple[Side, Side]
    positives: tuple[Float[np.ndarray, "o _"], Float[np.ndarray, "o _"]]
    ignored: tuple[Float[np.ndarray, " o"], Float[np.ndarray, " o"]]
    shared: Float[np.ndarray, " o"]

    def changed(self) -> Float[np.ndarray, " i"]:
        """How many positives of each image belong to one network alone.

        If the grids differ, it is the difference of their numbers.
        """
        a, b = (levels.sum(axis=1) for levels in self.positives)
        alone = np.where(np.isnan(self.shared), np.abs(a - b), a + b - 2 * self.shared)
        image = self.sides[0].found.objects.image
        return np.bincount(image, np.nan_to_num(alone), minlength=len(self.truths))


def compare_objects(truths: Sequence[GroundTruth], a: Side, b: Side) -> Compared:
    """Joins what two networks do with the same objects.

    Args:
        truths: the ground truth of every image.
        a: the first network.
        b: the second one.
    """
    number = len(a.found.objects.image)
    shared = np.full(number, np.nan)
    for row, labels in a.labels.items():
        if row in b.labels:
            both = labels.shared_with(b.labels[row])
            shared[_rows(a, row)] = np.nan if both is None else both
    positives, ignored = zip(*map(_counts, (a, b)), strict=True)
    return Compared(truths, (a, b), positives, ignored, shared)


def write_objects(
    compared: Sequence[Compared], categories: Mapping[int, str], path: pathlib.Path
) -> None:
    """Writes a table with a row for every object, whole or not at all.

    Args:
        compared: the objects of each pair of networks.
        categories: the names of categories by their numbers.
        path: the CSV file.
    """
    with replace_file(path) as draft:
        # The name of a file may have bytes that are not UTF-8.
        options: Any = {"encoding": "utf-8", "errors": "backslashreplace"}
        with draft.open("w", newline="", **options) as file:
            writer: csv.DictWriter[str] | None = None
            for pair, of_pair in enumerate(compared):
                for row in _csv_rows(of_pair, categories, pair):
                    if writer is None:
                        writer = csv.DictWriter(file, row)
                        writer.writeheader()
                    writer.writerow(row)


def summarize(compared: Sequence[Compared]) -> dict[str, dict[str, float | None]]:
    """Counts of objects and mean numbers of anchors, by COCO's sizes, for JSON.

    Args:
        compared: the objects of each pair of networks, which are taken together.
    """
    sizes = np.concatenate(
        [in_sizes(x.sides[0].found.objects.areas) for x in compared], axis=1
    )
    columns: dict[str, np.ndarray] = {}
    for name in ("found_a", "found_b", "positives_a", "positives_b", "shared"):
        columns[name] = np.concatenate([_column(x, name) for x in compared])
    for name in ("ignored_a", "ignored_b"):
        columns[name] = np.concatenate([_column(x, name) for x in compared])
    return {
        size: _summary({name: values[sizes[i]] for name, values in columns.items()})
        for i, size in enumerate(COCO_SIZES)
    }


def found_table(summary: Mapping[str, Mapping[str, float | None]]) -> str:
    """How many objects both networks find, by size, as a Markdown table."""
    names = ("number", "both", "only_a", "only_b", "neither")
    header = ["objects", "number", "by both", "by A alone", "by B alone", "by neither"]
    rows = [[size, *(f"{x[name]:,}" for name in names)] for size, x in summary.items()]
    return format_table([header, *rows])


def anchors_table(summary: Mapping[str, Mapping[str, float | None]]) -> str:
    """How many anchors an object has in both networks, as a Markdown table."""
    titles = {
        "positives_a": "positive, A",
        "positives_b": "positive, B",
        "shared": "in both",
        "ignored_a": "ignored, A",
        "ignored_b": "ignored, B",
        "without_a": "no positive, A",
        "without_b": "no positive, B",
    }
    rows = [
        [size, *(_mean_cell(x[name]) for name in titles)] for size, x in summary.items()
    ]
    return format_table([["mean of objects", *titles.values()], *rows])


def levels_table(compared: Sequence[Compared]) -> str:
    """The mean number of positives of an object on every level, as a Markdown table."""
    columns = [
        np.nanmean(np.concatenate(levels), axis=0).tolist()
        for levels in zip(*(x.positives for x in compared), strict=True)
        if np.isfinite(np.concatenate(levels)).any()
    ]
    rows = []
    for level in range(max(map(len, columns), default=0)):
        cells = [f"{x[level]:.2f}" if level < len(x) else "-" for x in columns]
        rows.append([str(level), *cells])
    return format_table([["positives on level", "A", "B"], *rows]) if rows else ""


def _rows(side: Side, image: int) -> slice:
    """The rows of the objects of an image."""
    return slice(*np.searchsorted(side.found.objects.image, [image, image + 1]))


def _counts(side: Side) -> tuple[Float[np.ndarray, "o _"], Float[np.ndarray, " o"]]:
    """Positives by level and ignored anchors of every object."""
    number = len(side.found.objects.image)
    levels = max((x.positives.shape[1] for x in side.labels.values()), default=1)
    positives, ignored = np.full((number, levels), np.nan), np.full(number, np.nan)
    for row, labels in side.labels.items():
        positives[_rows(side, row)] = labels.positives
        ignored[_rows(side, row)] = labels.ignored.sum(axis=1)
    return positives, ignored


def _column(compared: Compared, name: str) -> np.ndarray:
    """One number for every object."""
    side = int(name.endswith("_b"))
    if name == "shared":
        return compared.shared
    if name.startswith("found"):
        return compared.sides[side].found.is_found(FOUND_LIMIT, 0.5)
    if name.startswith("ignored"):
        return compared.ignored[side]
    return compared.positives[side].sum(axis=1)


def _summary(columns: Mapping[str, np.ndarray]) -> dict[str, float | None]:
    """The numbers of the objects of one size."""
    a, b = columns["found_a"], columns["found_b"]
    means = {x: _mean(v) for x, v in columns.items() if not x.startswith("found")}
    return {
        "number": len(a),
        **{name: int(x.sum()) for name, x in _outcomes(a, b).items()},
        **means,
        "without_a": _mean_zero(columns["positives_a"]),
        "without_b": _mean_zero(columns["positives_b"]),
    }


def _outcomes(
    a: Bool[np.ndarray, " o"], b: Bool[np.ndarray, " o"]
) -> dict[str, Bool[np.ndarray, " o"]]:
    return {"both": a & b, "only_a": a & ~b, "only_b": b & ~a, "neither": ~(a | b)}


def _mean(values: Float[np.ndarray, " o"]) -> float | None:
    """The mean of the numbers that are known."""
    known = values[np.isfinite(values)]
    return round(float(known.mean()), 6) if len(known) else None


def _mean_zero(values: Float[np.ndarray, " o"]) -> float | None:
    """The share of zeros among the numbers that are known."""
    return _mean(np.where(np.isfinite(values), values == 0, np.nan))


def _mean_cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _csv_rows(
    compared: Compared, categories: Mapping[int, str], pair: int
) -> Iterator[dict[str, object]]:
    """The cells of every object, by the name of the column."""
    objects = compared.sides[0].found.objects
    sizes = in_sizes(objects.areas)[1:4]
    first = np.searchsorted(objects.image, objects.image)
    for row, image in enumerate(objects.image.tolist()):
        truth = compared.truths[image]
        number = int(objects.category[row])
        size = np.flatnonzero(sizes[:, row])  # a limit lies in two sizes
        yield {
            "pair": pair,
            "image": truth.name,
            "image_id": truth.image_id,
            "object": row - int(first[row]),
            **dict(zip(("x0", "y0", "x1", "y1"), objects.boxes[row], strict=True)),
            "category": categories.get(number, "" if number < 0 else number),
            "size": COCO_SIZES[1 + size[0]] if len(size) else "",
            "area": objects.areas[row],
            **_anchor_cells(compared, row),
            **_proposal_cells(compared, row),
        }


def _anchor_cells(compared: Compared, row: int) -> dict[str, object]:
    """What the rules of both networks give to an object."""
    shared = compared.shared[row]
    cells: dict[str, object] = {"shared": _count(shared)}
    for name, levels, ignored in zip(
        "ab", compared.positives, compared.ignored, strict=True
    ):
        positives = levels[row].sum()
        cells[f"positives_{name}"] = _count(positives)
        cells[f"only_{name}"] = _count(positives - shared)
        cells[f"levels_{name}"] = " ".join(map(_count, levels[row]))
        cells[f"ignored_{name}"] = _count(ignored[row])
    return cells


def _proposal_cells(compared: Compared, row: int) -> dict[str, object]:
    """How both networks find an object."""
    cells: dict[str, object] = {}
    for name, (found, _) in zip("ab", compared.sides, strict=True):
        for limit, iou in zip(BEST_LIMITS, found.best_iou[:, row], strict=True):
            cells[f"best_iou_{limit}_{name}"] = round(float(iou), 4)
        for iou in _FOUND_IOUS:
            needed = int(found.needed[IOU_THRESHOLDS.index(iou), row])
            cells[f"found_{iou:.2f}_{name}"] = int(needed <= FOUND_LIMIT)
            cells[f"needed_{iou:.2f}_{name}"] = needed if needed <= MOST else ""
    return cells


def _count(value: float) -> str:
    return "" if np.isnan(value) else str(int(value))
