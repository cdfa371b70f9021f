"""Few shapes for all images, and batches of images that share one.

Every shape of a batch is compiled for, so there are few; every pixel of padding is
computed, so they fit the data.
"""

import itertools
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from .augment import PipelineConfig, resized_sizes
from .image_source import ImageSource, is_endless

_MIN_SAVING = 0.05  # of all pixels, by which a further shape pays
_MAX_GROUPS = 24  # of similar aspect, between which shapes are divided
_PLAN_STREAM = 1  # sets these random numbers apart from those of the images


class Buckets(NamedTuple):
    """The shapes of batches, and the images of each.

    Attributes:
        shapes: `(height, width)` of the images of a batch, padding included.
        rows: for each shape, the ascending rows of its images; None for an endless
            source, all images of which have one shape.
    """

    shapes: tuple[tuple[int, int], ...]
    rows: tuple[Int[np.ndarray, " n"], ...] | None


def fit_buckets(source: ImageSource, config: PipelineConfig) -> Buckets:
    """Finds the shapes that hold all images with the fewest pixels.

    Args:
        source: the images.
        config: how they are resized; shapes hold them at their largest.

    Returns:
        At most `config.max_buckets` shapes. Each has images, and each image is in the
        smallest shape that holds it.
    """
    scale = config.scale_jitter[1]
    if is_endless(source):
        sizes = resized_sizes(source.image_sizes[:1], config, scale)
        return Buckets((_bound(sizes, config),), None)
    sizes = resized_sizes(source.image_sizes, config, scale)
    shapes = np.array(_fit_shapes(sizes, config))
    holds = (sizes[:, None] <= shapes).all(axis=-1)
    bucket = np.where(holds, shapes.prod(axis=-1), np.inf).argmin(axis=1)
    used = np.unique(bucket)
    return Buckets(
        shapes=tuple((int(h), int(w)) for h, w in shapes[used]),
        rows=tuple(np.flatnonzero(bucket == i) for i in used),
    )


def bucket_shapes(
    source: ImageSource, config: PipelineConfig
) -> tuple[tuple[int, int], ...]:
    """The `(height, width)` that images of a batch can have, padding included."""
    return fit_buckets(source, config).shapes


def plan_epoch(
    buckets: Buckets, batch_size: int, seed: int, epoch: int
) -> Int[np.ndarray, "steps b"]:
    """Shuffles images into batches of one shape each, and shuffles the batches.

    Args:
        buckets: the images of each shape.
        batch_size: images in a batch.
        seed: of the run.
        epoch: counts the passes over the data.

    Returns:
        The rows of every batch: all images once, but for a shape's last batch, which
        is filled up with some of its images again.
    """
    rng = np.random.default_rng((_PLAN_STREAM, seed, epoch))
    assert buckets.rows is not None
    batches = [
        np.resize(rng.permutation(rows), (-(-len(rows) // batch_size), batch_size))
        for rows in buckets.rows
    ]
    return rng.permutation(np.concatenate(batches))


def _fit_shapes(
    sizes: Int[np.ndarray, "n 2"], config: PipelineConfig
) -> list[tuple[int, int]]:
    """Divides the images by aspect where it saves most."""
    distinct, counts = np.unique(sizes, axis=0, return_counts=True)
    order = np.argsort(distinct[:, 0] / distinct[:, 1], kind="stable")
    groups = np.array_split(order, min(len(order), _MAX_GROUPS))
    largest = np.array([distinct[group].max(axis=0) for group in groups])
    number = np.array([counts[group].sum() for group in groups])
    whole = np.prod(_bound(largest, config)) * number.sum()

    def cost(cuts: tuple[int, ...]) -> float:
        parts = np.split(np.arange(len(groups)), cuts)
        pixels = sum(
            np.prod(_bound(largest[part], config)) * number[part].sum()
            for part in parts
        )
        return pixels + _MIN_SAVING * whole * len(cuts)

    options = itertools.chain.from_iterable(
        itertools.combinations(range(1, len(groups)), cuts)
        for cuts in range(config.max_buckets)
    )
    best = min(options, key=cost)
    parts = np.split(np.arange(len(groups)), best)
    return sorted({_bound(largest[part], config) for part in parts})


def _bound(sizes: Int[np.ndarray, "n 2"], config: PipelineConfig) -> tuple[int, int]:
    multiple = config.size_multiple
    height, width = -(-sizes.max(axis=0) // multiple) * multiple
    return int(height), int(width)
