"""The report on how well anchors fit a data set, as text and as numbers."""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..core._typing import Bool, Float
from ..core.anchor_config import AnchorConfig
from ..core.config import TargetConfig
from ..tables import format_table

RECALL_IOUS = (0.5, 0.7)  # the IoU thresholds at which the tables list recall
_SIDES = (0.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, np.inf)  # bin edges in pixels
_ASPECTS = (0.0, 0.25, 0.5, 0.8, 1.25, 2.0, 4.0, np.inf)  # bin edges, height over width


class Suggestion(NamedTuple):
    """Anchors fitted to the boxes, and how well they cover them.

    Attributes:
        config: the suggested anchors.
        best_iou: `[o]` best IoU of each box with any suggested anchor.
    """

    config: AnchorConfig
    best_iou: Float[np.ndarray, " o"]


class AnchorReport(NamedTuple):
    """The result of `inspect_anchors`.

    Attributes:
        anchors: the configuration of the anchors.
        targets: the rules that match anchors with objects.
        num_images: number of images in the data set.
        sides: `[o 2]` width and height of every object, in pixels of the network's
            input.
        best_iou: `[o]` best IoU of every object with any anchor.
        num_matched_images: number of images that were matched in full.
        num_matched_objects: number of objects in the matched images.
        num_unmatched: number of objects in the matched images that no positive anchor
            regresses to.
        suggestion: anchors that cover the boxes better. None if none were found, or if
            the boxes are too few or too alike.
    """

    anchors: AnchorConfig
    targets: TargetConfig
    num_images: int
    sides: Float[np.ndarray, "o 2"]
    best_iou: Float[np.ndarray, " o"]
    num_matched_images: int
    num_matched_objects: int
    num_unmatched: int
    suggestion: Suggestion | None

    def is_covered(self) -> Bool[np.ndarray, " o"]:
        """Which objects overlap some anchor by at least `positive_iou`."""
        return self.best_iou >= self.targets.positive_iou

    def is_forced(self) -> Bool[np.ndarray, " o"]:
        """Which objects have anchors only because they force their best anchors."""
        rules = self.targets
        may_force = (self.best_iou > 0.0) & (self.best_iou >= rules.min_force_iou)
        return may_force & ~self.is_covered() & (rules.force_match != "none")

    def has_none(self) -> Bool[np.ndarray, " o"]:
        """Which objects have no anchor at all."""
        return ~self.is_covered() & ~self.is_forced()

    def recall(self, iou: float) -> float:
        """Best possible recall: the share of objects that some anchor overlaps enough.

        Args:
            iou: the lowest IoU that is enough.

        Returns:
            A share between 0 and 1; NaN without objects.
        """
        return _recall(self.best_iou, iou)

    def table(self) -> str:
        """The report as text: Markdown tables with aligned columns."""
        first, *others = self.sentences()
        return "\n\n".join([first, *map(format_table, self.tables()), *others])

    def sentences(self) -> list[str]:
        """The number of objects and, if no better anchors were found, an advice."""
        number = f"{len(self.best_iou):,} objects in {self.num_images:,} images"
        keep = "Keep these anchors: no others were found that cover better."
        return [number] if self.suggestion is not None else [number, keep]

    def tables(self) -> list[list[list[str]]]:
        """The cells of each table; the first row of a table is its header."""
        return [
            self._coverage_rows(),
            self._bin_rows("side, resized px", self._side(), _SIDES),
            self._bin_rows("height / width", self._aspect(), _ASPECTS),
            self._suggestion_rows(),
        ]

    def as_dict(self) -> dict[str, Any]:
        """The numbers of `table` as lists, numbers and strings, for JSON."""
        suggestion = self.suggestion
        return {
            "num_images": self.num_images,
            "num_covered": int(self.is_covered().sum()),
            "num_only_forced": int(self.is_forced().sum()),
            "num_without_anchor": int(self.has_none().sum()),
            "num_matched_images": self.num_matched_images,
            "num_matched_objects": self.num_matched_objects,
            "num_unmatched": self.num_unmatched,
            "all": _summary(self.best_iou),
            "by_side": self._summaries(self._side(), _SIDES),
            "by_aspect": self._summaries(self._aspect(), _ASPECTS),
            "suggestion": suggestion
            and {
                "sizes": suggestion.config.sizes,
                "aspect_ratios": suggestion.config.aspect_ratios,
                "scales_per_octave": suggestion.config.scales_per_octave,
                "all": _summary(suggestion.best_iou),
            },
        }

    def _summaries(
        self, values: Float[np.ndarray, " o"], edges: Sequence[float]
    ) -> list[dict[str, Any]]:
        """The recall in every bin. `to` is None in the last bin, which has no end."""
        return [
            {"from": low, "to": high if high < np.inf else None, **_summary(best)}
            for low, high, best in self._bins(values, edges)
        ]

    def _side(self) -> Float[np.ndarray, " o"]:
        """The side of the square of equal area, for every object."""
        return np.sqrt(self.sides.prod(axis=1))

    def _aspect(self) -> Float[np.ndarray, " o"]:
        """Height over width of every object."""
        return self.sides[:, 1] / np.maximum(self.sides[:, 0], 1e-6)

    def _coverage_rows(self) -> list[list[str]]:
        """How many objects have anchors, and in which way."""
        iou, matched = self.targets.positive_iou, f"{self.num_matched_images:,}"
        kinds = (
            (f"an anchor overlaps it by {iou:g}", self.is_covered()),
            ("has anchors by force alone", self.is_forced()),
            ("has no anchor", self.has_none()),
        )
        rows = [["objects", "number", "share"]]
        rows += [[name, f"{kind.sum():,}", _percent(kind)] for name, kind in kinds]
        # Only the count is known, so a mask with as many true entries gives the share.
        unmatched = np.arange(self.num_matched_objects) < self.num_unmatched
        name = f"loses all its anchors, in {matched} images that were matched"
        return [*rows, [name, f"{self.num_unmatched:,}", _percent(unmatched)]]

    def _bin_rows(
        self, name: str, values: Float[np.ndarray, " o"], edges: Sequence[float]
    ) -> list[list[str]]:
        """The quality of the anchors by bins of a value, and for all objects."""
        rows = [[name, "objects", "recall at 0.5", "at 0.7", "mean best IoU"]]
        for low, high, best in self._bins(values, edges):
            label = f"from {low:g}" if high == np.inf else f"{low:g} to {high:g}"
            rows.append([label, f"{len(best):,}", *_quality(best)])
        return [*rows, ["all", f"{len(values):,}", *_quality(self.best_iou)]]

    def _bins(
        self, values: Float[np.ndarray, " o"], edges: Sequence[float]
    ) -> list[tuple[float, float, Float[np.ndarray, " some"]]]:
        """The ends of every bin that has objects, and the best IoU of its objects."""
        bins = [
            (low, high, self.best_iou[(values >= low) & (values < high)])
            for low, high in itertools.pairwise(edges)
        ]
        return [row for row in bins if len(row[2])]

    def _suggestion_rows(self) -> list[list[str]]:
        """The given anchors, and below them the suggested ones if there are any."""
        header = ["anchors", "sizes, resized px", "height / width"]
        options = [("given", self.anchors, self.best_iou)]
        if self.suggestion is not None:
            other = self.suggestion
            options.append(("suggested", other.config, other.best_iou))
        return [
            [*header, "recall at 0.5", "at 0.7", "mean best IoU"],
            *(
                [name, *_shapes(config), *_quality(best)]
                for name, config, best in options
            ),
        ]


def _shapes(config: AnchorConfig) -> tuple[str, str]:
    """The sizes by level and the ratios, as `"32,64 128,256"` and `"0.5 1 2"`.

    The flags of `rpn-jax` have the same form.
    """
    levels = [",".join(f"{size:g}" for size in level) for level in config.level_sizes]
    return " ".join(levels), " ".join(f"{x:g}" for x in config.aspect_ratios)


def _quality(best_iou: Float[np.ndarray, " o"]) -> tuple[str, str, str]:
    """The recall at each of `RECALL_IOUS` and the mean, as text."""
    if not len(best_iou):
        return ("-", "-", "-")
    at_half, at_high = (_percent(best_iou >= iou) for iou in RECALL_IOUS)
    return at_half, at_high, f"{best_iou.mean():.3f}"


def _percent(mask: Bool[np.ndarray, " o"]) -> str:
    return f"{mask.mean():.1%}" if len(mask) else "-"


def _recall(best_iou: Float[np.ndarray, " o"], iou: float) -> float:
    return float((best_iou >= iou).mean()) if len(best_iou) else float("nan")


def _summary(best_iou: Float[np.ndarray, " o"]) -> dict[str, float | int | None]:
    summary: dict[str, float | int | None] = {"num_objects": len(best_iou)}
    for iou in RECALL_IOUS:
        share = _recall(best_iou, iou)
        summary[f"recall_{iou:.2f}"] = round(share, 6) if len(best_iou) else None
    return summary
