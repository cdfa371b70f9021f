"""Batches of images and boxes, read and resized by threads.

A training batch is a function of the seed and its step: neither the number of threads,
nor that of processes, nor where a run was resumed, makes a difference.
"""

import functools
from collections.abc import Callable, Generator

import grain
import numpy as np
from jaxtyping import Int

from .augment import PipelineConfig, draw_augmentation
from .batch import Batch, Loader
from .buckets import Buckets, fit_buckets, plan_epoch
from .image_source import ENDLESS, ImageSource

_IMAGE_STREAM = 2  # sets these random numbers apart from those of the epochs
_UNBOUNDED = 2**62  # more images than any run sees


def steps_per_epoch(
    source: ImageSource, config: PipelineConfig, batch_size: int
) -> int:
    """How many training batches hold every image at least once.

    Args:
        source: the images.
        config: of the pipeline.
        batch_size: images in a batch, of all processes together.

    Raises:
        ValueError: the source is endless.
    """
    rows = _finite_rows(source, fit_buckets(source, config))
    return sum(-(-len(bucket) // batch_size) for bucket in rows)


def train_batches(
    source: ImageSource,
    config: PipelineConfig,
    *,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    num_threads: int = 2,
) -> Generator[Batch, None, None]:
    """Shuffled and augmented batches without end, each of images of one shape.

    Each epoch holds every image once; the last batch of a shape is filled up with
    some of its images again. The images of an endless source come in order instead,
    as they are random themselves.

    Args:
        source: the images.
        config: sizes and augmentation.
        batch_size: images in a batch, of all processes together.
        seed: decides order and augmentation.
        start_step: the batch to begin with: what a run that stopped resumes from.
        process_index: which of the processes asks.
        process_count: how many processes share every batch.
        num_threads: how many images are read at a time; 0 reads in this thread.

    Returns:
        The batches of this process, of `batch_size / process_count` images. An image
        that cannot be decoded is replaced by the next one of the same shape.

    Raises:
        ValueError: a number is out of range, or the batch cannot be divided evenly;
            while iterating, that not one image of a shape can be decoded.
    """
    if seed < 0 or start_step < 0:
        raise ValueError(
            "train_batches needs a seed and a start_step of at least 0, got "
            f"{seed} and {start_step}."
        )
    share = _share(batch_size, process_index, process_count)
    buckets = fit_buckets(source, config)
    loader = Loader(source, config)
    locate = _locate_in_epochs(buckets, batch_size, seed)

    def load(place: int) -> Batch:
        step, slot = divmod(place, share)
        slot += process_index * share
        rng = np.random.default_rng((_IMAGE_STREAM, seed, step, slot))
        row, bucket = locate(step, slot)
        stand_ins = None if buckets.rows is None else buckets.rows[bucket]
        augmentation = draw_augmentation(rng, config)
        return loader.load(row, buckets.shapes[bucket], augmentation, stand_ins)

    start = start_step * share
    places = grain.MapDataset.range(start, start + _UNBOUNDED)
    return _iterate(places.map(load), share, num_threads)


def eval_batches(
    source: ImageSource,
    config: PipelineConfig,
    *,
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
    num_threads: int = 2,
) -> Generator[Batch, None, None]:
    """Every image once, without augmentation: shape by shape, in the source's order.

    Args:
        source: the images.
        config: sizes; its augmentation is left out, so that the shapes are those of
            `bucket_shapes(source, config.for_evaluation())`.
        batch_size: images in a batch, of all processes together.
        process_index: which of the processes asks.
        process_count: how many processes share every batch.
        num_threads: how many images are read at a time; 0 reads in this thread.

    Returns:
        The batches of this process, of `batch_size / process_count` images. A row of
        -1 marks the places that the last batch of a shape has left, and the images
        that cannot be decoded.

    Raises:
        ValueError: a number is out of range, the batch cannot be divided evenly, or
            the source is endless.
    """
    share = _share(batch_size, process_index, process_count)
    config = config.for_evaluation()
    buckets = fit_buckets(source, config)
    batches = [_padded(rows, batch_size) for rows in _finite_rows(source, buckets)]
    rows = np.concatenate(batches)
    shapes = np.repeat(buckets.shapes, [len(batch) for batch in batches], axis=0)
    loader = Loader(source, config)

    def load(place: int) -> Batch:
        step, slot = divmod(place, share)
        row = int(rows[step, process_index * share + slot])
        height, width = shapes[step].tolist()
        return loader.load(row, (height, width))

    places = grain.MapDataset.range(len(shapes) * share)
    return _iterate(places.map(load), share, num_threads)


def _share(batch_size: int, process_index: int, process_count: int) -> int:
    """How many images of a batch one process reads."""
    if not (0 <= process_index < process_count and batch_size >= 1):
        raise ValueError(
            "A pipeline needs a batch_size of at least 1 and 0 <= process_index < "
            f"process_count, got {batch_size}, {process_index} and {process_count}."
        )
    if batch_size % process_count:
        raise ValueError(
            "A pipeline needs a batch_size that its processes can share evenly, got "
            f"{batch_size} images for {process_count} processes."
        )
    return batch_size // process_count


def _finite_rows(
    source: ImageSource, buckets: Buckets
) -> tuple[Int[np.ndarray, " n"], ...]:
    if buckets.rows is None:
        raise ValueError(
            f"An endless source ({type(source).__name__}) has no epoch. Give it a "
            "number of images, or count in steps."
        )
    return buckets.rows


def _locate_in_epochs(
    buckets: Buckets, batch_size: int, seed: int
) -> Callable[[int, int], tuple[int, int]]:
    """From step and place in the batch to the row of an image and its bucket."""
    if buckets.rows is None:
        return lambda step, slot: ((step * batch_size + slot) % ENDLESS, 0)
    # Threads may be reading the end of one epoch and the beginning of the next.
    plan = functools.lru_cache(maxsize=2)(
        functools.partial(plan_epoch, buckets, batch_size, seed)
    )
    length = sum(-(-len(rows) // batch_size) for rows in buckets.rows)
    bucket_of = np.zeros(sum(map(len, buckets.rows)), np.int64)
    for bucket, rows in enumerate(buckets.rows):
        bucket_of[rows] = bucket

    def locate(step: int, slot: int) -> tuple[int, int]:
        epoch, batch = divmod(step, length)
        row = int(plan(epoch)[batch, slot])
        return row, int(bucket_of[row])

    return locate


def _padded(rows: Int[np.ndarray, " n"], batch_size: int) -> Int[np.ndarray, "steps b"]:
    missing = -len(rows) % batch_size
    return np.pad(rows, (0, missing), constant_values=-1).reshape(-1, batch_size)


def _iterate(
    images: grain.MapDataset[Batch], share: int, num_threads: int
) -> Generator[Batch, None, None]:
    options = grain.ReadOptions(
        num_threads=num_threads,
        prefetch_buffer_size=(2 * share + num_threads) if num_threads else 0,
    )
    iterator = iter(images.to_iter_dataset(options).batch(share))
    try:
        yield from iterator
    finally:  # also if the caller stops before the end
        iterator.close()
