"""Finds a few shapes for all images, and plans batches of images that share a shape.

The training step compiles once per batch shape, so there are few. It computes every
pixel of padding, so the shapes fit the data.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from .image_source import ImageSource, is_endless
from .pipeline_config import PipelineConfig, resized_sizes

# A further shape must save this share of all pixels. A lower value saves more padding,
# but compiles for shapes that are worth little.
_MIN_SAVING = 0.05
# Images are divided between groups of similar aspect. More groups fit the data better,
# but the shape of every run of neighbours is computed: 24 groups have 300 of these.
_MAX_GROUPS = 24
_PLAN_STREAM = 1  # keeps these random numbers apart from those that augment images


class Buckets(NamedTuple):
    """The shapes of batches, and the images that have each shape.

    Attributes:
        shapes: `(height, width)` of the images in a batch, with their padding.
        rows: the ascending rows of the images of each shape. None for an endless
            source, whose images all have one shape.
    """

    shapes: tuple[tuple[int, int], ...]
    rows: tuple[Int[np.ndarray, " n"], ...] | None


def fit_buckets(source: ImageSource, config: PipelineConfig) -> Buckets:
    """Finds the shapes that hold all images with the fewest pixels.

    Args:
        source: the images.
        config: the sizes after resizing. The shapes hold every image at the largest
            factor of `scale_jitter`.

    Returns:
        At most `config.max_buckets` shapes. Each has images, and each image is in the
        smallest shape that holds it.
    """
    scale = config.scale_jitter[1]
    if is_endless(source):
        sizes = resized_sizes(source.image_sizes[:1], config, scale)
        return Buckets((_bound(sizes, config),), None)
    sizes = resized_sizes(source.image_sizes, config, scale)
    # An image may fit the shapes of several groups, so it takes the one of fewest
    # pixels, and shapes that lose all their images are dropped.
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
    """Lists every `(height, width)` that the padded images of a batch can have.

    >>> from rpn_jax.data import Scenes
    >>> bucket_shapes(Scenes(num_images=4), PipelineConfig(min_side=96, max_side=128))
    ((96, 128),)
    """
    return fit_buckets(source, config).shapes


def plan_epoch(
    buckets: Buckets, batch_size: int, seed: int, epoch: int
) -> Int[np.ndarray, "steps b"]:
    """Shuffles images into batches of one shape each, and shuffles the batches.

    Args:
        buckets: the images of each shape.
        batch_size: number of images in a batch.
        seed: the seed of the run.
        epoch: number of the pass over the data; each is shuffled differently.

    Returns:
        The rows of every batch. Every image comes once, except that some images of a
        shape come again to fill its last batch.
    """
    rng = np.random.default_rng((_PLAN_STREAM, seed, epoch))
    assert buckets.rows is not None
    # `np.resize` repeats images to fill the last batch, because a smaller batch would
    # need another compilation.
    batches = [
        np.resize(rng.permutation(rows), (-(-len(rows) // batch_size), batch_size))
        for rows in buckets.rows
    ]
    return rng.permutation(np.concatenate(batches))


def _fit_shapes(
    sizes: Int[np.ndarray, "n 2"], config: PipelineConfig
) -> list[tuple[int, int]]:
    """Divides the images by aspect where that saves most pixels."""
    # Sort the distinct sizes by aspect, and form groups of neighbours. A shape must
    # hold the largest height and width in its groups.
    distinct, counts = np.unique(sizes, axis=0, return_counts=True)
    order = np.argsort(distinct[:, 0] / distinct[:, 1], kind="stable")
    groups = np.array_split(order, min(len(order), _MAX_GROUPS))
    largest = np.array([distinct[group].max(axis=0) for group in groups])
    number = np.array([counts[group].sum() for group in groups])

    @functools.cache
    def pixels(first: int, end: int) -> int:
        """The pixels of all padded images of neighbouring groups that share a shape."""
        part = slice(first, end)
        return int(np.prod(_bound(largest[part], config)) * number[part].sum())

    # The fewest pixels for each number of shapes, and what further shapes must save.
    least = _MIN_SAVING * pixels(0, len(groups))
    options = _best_cuts(pixels, len(groups), config.max_buckets)
    _, best = min(options, key=lambda option: option[0] + least * len(option[1]))
    parts = np.split(np.arange(len(groups)), best)
    return sorted({_bound(largest[part], config) for part in parts})


def _best_cuts(
    pixels: Callable[[int, int], int], number: int, most: int
) -> list[tuple[int, tuple[int, ...]]]:
    """The cheapest ways to cut a sequence of groups into 1, 2, ... up to `most` parts.

    Args:
        pixels: what the groups from the first number up to, not including, the second
            one cost together.
        number: number of groups.
        most: largest number of parts.

    Returns:
        For each number of parts, the cost, and where the parts after the first begin;
        the earliest places of equal ones.
    """
    # `of_rest[i]` is the best way for the groups from `i` on. With one part more, the
    # first part ends at some `j`, and the best way for the groups from `j` on is known.
    of_rest: list[tuple[int, tuple[int, ...]]]
    of_rest = [(pixels(i, number), ()) for i in range(number)]
    found = [of_rest[0]]
    for cuts in range(1, min(most, number)):
        of_rest = [
            min(
                (pixels(i, j) + of_rest[j][0], (j, *of_rest[j][1]))
                for j in range(i + 1, number - cuts + 1)
            )
            for i in range(number - cuts)
        ]
        found.append(of_rest[0])
    return found


def _bound(sizes: Int[np.ndarray, "n 2"], config: PipelineConfig) -> tuple[int, int]:
    """The smallest allowed shape that holds all of these sizes."""
    multiple = config.size_multiple
    height, width = -(-sizes.max(axis=0) // multiple) * multiple
    return int(height), int(width)
