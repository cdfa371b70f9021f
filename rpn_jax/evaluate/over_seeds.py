"""The recall of several runs: its mean and the 95 % confidence interval of the mean."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import special

from ..tables import format_table
from .recall_report import LIMITS

CONFIDENCE = 0.95


class MeanInterval(NamedTuple):
    """A mean, and how far its confidence interval reaches to both sides.

    Attributes:
        mean: the mean.
        half_width: half the length of the interval; NaN for a single value, whose
            spread is not known.
    """

    mean: float
    half_width: float


def mean_interval(values: Sequence[float]) -> MeanInterval:
    """The mean of a few values with its 95 % interval by Student's t.

    Args:
        values: measurements that are independent and roughly normal.

    >>> found = mean_interval([1.0, 2.0, 3.0])
    >>> found.mean, round(found.half_width, 3)
    (2.0, 2.484)
    """
    number = len(values)
    mean = float(np.mean(values))
    if number < 2:
        return MeanInterval(mean, math.nan)
    quantile = special.stdtrit(number - 1, 0.5 + CONFIDENCE / 2)
    error = np.std(values, ddof=1) / math.sqrt(number)
    return MeanInterval(mean, float(quantile * error))


def recall_over_seeds(recalls: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Every recall of several runs as a mean with its interval, for JSON.

    Args:
        recalls: what `Report.as_dict` returned for each run, or the content of each
            `recall.json`.

    Returns:
        `coco`, `detectron2` and, where there are any, `categories`, each as in the
        reports, but with `mean`, `half_width` and the `values` of the runs in place of
        a number. A number that is None in any run stays None, and so does the half
        width of a single run.
    """
    names = [x for x in ("coco", "detectron2", "categories") if x in recalls[0]]
    return {name: _merged([recall[name] for recall in recalls]) for name in names}


def table_over_seeds(summary: Mapping[str, Any], number: int) -> str:
    """The recall as COCO counts it, as a Markdown table, with a line that explains it.

    Args:
        summary: the result of `recall_over_seeds`.
        number: number of runs.
    """
    coco = summary["coco"]
    rows = [["recall", *(f"@{limit:,}" for limit in LIMITS)]]
    for label, key in (
        ("AR", "AR"),
        ("IoU 0.50", "recall_0.50"),
        ("IoU 0.75", "recall_0.75"),
    ):
        rows.append(_row(label, coco, key, "all"))
    rows += [
        _row(f"AR {size}", coco, "AR", size) for size in ("small", "medium", "large")
    ]
    rows += [
        _row(f"AR {name}", group["coco"], "AR", "all")
        for name, group in summary.get("categories", {}).items()
    ]
    return (
        f"{format_table(rows)}\n\nMean over {number} runs with half of its 95 % "
        "confidence interval, by Student's t."
    )


def _merged(trees: Sequence[Any]) -> Any:
    """Nested dictionaries of numbers as one, with a summary in place of each number."""
    if isinstance(trees[0], Mapping):
        return {key: _merged([tree[key] for tree in trees]) for key in trees[0]}
    if None in trees:
        return None
    mean, half_width = mean_interval(trees)
    return {
        "mean": round(mean, 6),
        "half_width": None if math.isnan(half_width) else round(half_width, 6),
        "values": list(trees),
    }


def _row(label: str, recall: Mapping[str, Any], name: str, size: str) -> list[str]:
    return [label, *(_cell(recall[f"{name}@{limit}"][size]) for limit in LIMITS)]


def _cell(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "-"
    half = found["half_width"]
    return f"{found['mean']:.3f}" + ("" if half is None else f" ± {half:.3f}")
