"""The recall of two networks on the same images, with an interval of the difference.

One pair of runs is compared by a bootstrap over images: images are drawn with
replacement, and both networks are measured on the same draw. The interval is that of
percentiles, Chapter 13 of "An Introduction to the Bootstrap" by Efron and Tibshirani
(1993). It covers other images of the same kind, and not other seeds.

Several pairs, which differ in their seed, are compared by Student's t of their
differences. That interval covers other seeds, on the same images.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..core._typing import Float
from ..tables import format_table
from .found_objects import FoundObjects
from .over_seeds import CONFIDENCE, mean_interval
from .recall_report import LIMITS

# The names of the measures are those of `recall.json`.
MEASURES = (
    *(f"AR@{limit}" for limit in LIMITS),
    *(f"recall_0.50@{limit}" for limit in LIMITS),
)
# The ends of an interval from 10,000 draws vary by about 2 % of its length.
_NUM_DRAWS = 10_000
_DRAWS_AT_A_TIME = 100  # so that 5,000 images take 4 MB


class Difference(NamedTuple):
    """The recall of two networks.

    Attributes:
        measure: one of `MEASURES`.
        a: recall of the first network, or its mean over seeds.
        b: recall of the second one.
        difference: `b - a`.
        low: the lower end of the 95 % confidence interval of the difference; NaN if one
            image or one seed gives none.
        high: its upper end.
    """

    measure: str
    a: float
    b: float
    difference: float
    low: float
    high: float


def compare_recall(
    pairs: Sequence[tuple[FoundObjects, FoundObjects]], num_images: int
) -> list[Difference]:
    """Compares two networks, or two groups of networks with several seeds.

    Args:
        pairs: what the first and the second network of each pair find. The two have the
            same objects.
        num_images: number of images of a single pair, with those without objects.

    Returns:
        One row for each of `MEASURES`; NaN without any object.

    >>> from rpn_jax.data import Scenes
    >>> from rpn_jax.evaluate import ImageProposals, find_objects
    >>> truths = [Scenes().truth(row) for row in (0, 1)]
    >>> scores = [np.ones(len(truth.boxes), np.float32) for truth in truths]
    >>> perfect = {i: ImageProposals(i, truths[i].boxes, scores[i]) for i in (0, 1)}
    >>> found = find_objects(truths, {}), find_objects(truths, perfect)
    >>> row = compare_recall([found], 2)[2]
    >>> row.measure, row.a, row.b, row.low
    ('AR@100', 0.0, 1.0, 1.0)
    """
    if len(pairs) > 1:
        recalls = np.array([[_recall(found) for found in pair] for pair in pairs])
        intervals = [
            mean_interval(of_measure)
            for of_measure in (recalls[:, 1] - recalls[:, 0]).T.tolist()
        ]
        low = np.array([mean - half for mean, half in intervals])
        high = np.array([mean + half for mean, half in intervals])
        a, b = recalls.mean(axis=0)
    else:
        (pair,) = pairs
        a, b = map(_recall, pair)
        low, high = bootstrap_interval(*(_by_image(x, num_images) for x in pair))
    columns = (a, b, b - a, low, high)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [Difference(name, *row) for name, row in zip(MEASURES, rows, strict=True)]


def bootstrap_interval(
    a: Float[np.ndarray, "i _"], b: Float[np.ndarray, "i _"], *, seed: int = 0
) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """The 95 % interval of the difference of two recalls, from draws of images.

    Args:
        a: for each image, `k` numbers of objects that the first network finds, and at
            last the number of objects.
        b: the same for the second network and the same images.
        seed: seed of the draws.

    Returns:
        Both ends of the interval of `b - a`; NaN for less than two images.
    """
    images, columns = a.shape
    nothing = np.full(columns - 1, np.nan)
    if images < 2 or not a[:, -1].any():
        return nothing, nothing
    rng, differences = np.random.default_rng(seed), []
    for _ in range(_NUM_DRAWS // _DRAWS_AT_A_TIME):
        drawn = rng.integers(images, size=(_DRAWS_AT_A_TIME, images))
        # How often each image was drawn, and with these weights the sums of the draw.
        times = np.zeros((_DRAWS_AT_A_TIME, images))
        np.add.at(times, (np.arange(_DRAWS_AT_A_TIME)[:, None], drawn), 1.0)
        found, number = times @ (b - a)[:, :-1], times @ a[:, -1:]
        # A draw without any object says nothing.
        has_objects = number[:, 0] > 0
        differences.append(found[has_objects] / number[has_objects])
    ends = (1.0 - CONFIDENCE) / 2.0, (1.0 + CONFIDENCE) / 2.0
    low, high = np.quantile(np.concatenate(differences), ends, axis=0)
    return low, high


def difference_table(rows: Sequence[Difference]) -> str:
    """The rows as a Markdown table with aligned columns."""
    table = [["recall", "A", "B", "B - A", "95 % interval"]]
    for row in rows:
        name = row.measure.replace("recall_0.50", "IoU 0.50")
        shares = (f"{x:.3f}" if x == x else "-" for x in (row.a, row.b))
        signed = [f"{x:+.3f}" if x == x else "-" for x in row[3:]]
        has_ends = "-" not in signed[1:]
        interval = f"{signed[1]} to {signed[2]}" if has_ends else "-"
        table.append([name, *shares, signed[0], interval])
    return format_table(table)


def _recall(found: FoundObjects) -> Float[np.ndarray, " k"]:
    """Recall over all objects, by `MEASURES`."""
    if not len(found.objects.areas):
        return np.full(len(MEASURES), np.nan)
    return _by_object(found).mean(axis=0)


def _by_object(found: FoundObjects) -> Float[np.ndarray, "o k"]:
    """How far each object is found: a share of the thresholds, or 0 or 1."""
    shares = [found.share_found(limit) for limit in LIMITS]
    at_half = [found.is_found(limit, 0.5).astype(float) for limit in LIMITS]
    return np.stack([*shares, *at_half], axis=1)


def _by_image(found: FoundObjects, num_images: int) -> Float[np.ndarray, "i _"]:
    """The sums of `_by_object` over the objects of each image, and their number."""
    values = _by_object(found)
    values = np.concatenate([values, np.ones((len(values), 1))], axis=1)
    sums = np.zeros((num_images, values.shape[1]))
    np.add.at(sums, found.objects.image, values)
    return sums
