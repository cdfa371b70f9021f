"""Batches of images and boxes, read and resized by threads.

A training batch is a function of the seed and the step alone. It does not depend on the
number of threads or processes, or on the step from which a run was resumed.
"""

import functools
import os
from collections.abc import Callable, Generator

import grain
import numpy as np
from jaxtyping import Int

from .augment import draw_augmentation
from .batch import Batch, Loader
from .buckets import Buckets, fit_buckets, plan_epoch
from .image_source import ENDLESS, ImageSource
from .pipeline_config import PipelineConfig

_UNBOUNDED = 2**62  # more images than any run reads
_MOST_THREADS = 16  # each one keeps an image in memory


def steps_per_epoch(
    source: ImageSource, config: PipelineConfig, batch_size: int
) -> int:
    """How many training batches hold every image at least once.

    Args:
        source: the images.
        config: the sizes of the images, which decide how many share a batch shape.
        batch_size: number of images in a batch, over all processes.

    Raises:
        ValueError: the source is endless.

    >>> from rpn_jax.data import Scenes
    >>> steps_per_epoch(Scenes(num_images=10), PipelineConfig(), 4)
    3
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
    num_threads: int | None = None,
) -> Generator[Batch, None, None]:
    """Yields shuffled and augmented batches without end, each of images of one shape.

    Each epoch holds every image once, except that some images of a shape come again to
    fill its last batch. An endless source is random already, so its images come in
    order.

    Args:
        source: the images.
        config: sizes and augmentation of the images.
        batch_size: number of images in a batch, over all processes.
        seed: decides the order and the augmentation.
        start_step: the step of the first batch; a resumed run continues from here.
        process_index: index of this process.
        process_count: number of processes that share every batch.
        num_threads: number of images that are read at a time; 0 reads in this thread,
            and None takes one per core of the machine, but at most 16.

    Returns:
        The batches of this process, of `batch_size / process_count` images. The next
        image of the same shape replaces an image that cannot be decoded.

    Raises:
        ValueError: a number is out of range, or the batch cannot be divided evenly.
        ImageError: while iterating, if no image of a shape can be decoded.

    >>> from rpn_jax.data import Scenes
    >>> sizes = PipelineConfig(min_side=48, max_side=64)
    >>> batches = train_batches(Scenes(size=(48, 64)), sizes, batch_size=2, seed=0)
    >>> next(batches).images.shape
    (2, 64, 64, 3)
    """
    if seed < 0 or start_step < 0:
        raise ValueError(
            "train_batches needs a seed and a start_step of at least 0, got "
            f"{seed} and {start_step}."
        )
    # Batches are planned over all processes, so that each of them has the same batch
    # shape at the same step.
    share = _share(batch_size, process_index, process_count)
    buckets = fit_buckets(source, config)
    loader = Loader(source, config)
    locate = _locate_in_epochs(buckets, batch_size, seed)

    # Places count the images of this process from the first step on. The random numbers
    # depend on the step and on the slot in the whole batch, not on the process.
    def load(place: int) -> Batch:
        step, slot = divmod(place, share)
        slot += process_index * share
        row, bucket = locate(step, slot)
        stand_ins = None if buckets.rows is None else buckets.rows[bucket]
        augmentation = draw_augmentation((seed, step, slot), config)
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
    num_threads: int | None = None,
) -> Generator[Batch, None, None]:
    """Yields every image once without augmentation, shape by shape.

    Images of one shape come in the order of the source.

    Args:
        source: the images.
        config: sizes of the images. The augmentation is ignored, so the shapes are
            those of `bucket_shapes(source, config.for_evaluation())`.
        batch_size: number of images in a batch, over all processes.
        process_index: index of this process.
        process_count: number of processes that share every batch.
        num_threads: number of images that are read at a time; 0 reads in this thread,
            and None takes one per core of the machine, but at most 16.

    Returns:
        The batches of this process, of `batch_size / process_count` images. A row of -1
        marks an empty place at the end of a shape's last batch, and an image that
        cannot be decoded.

    Raises:
        ValueError: a number is out of range, the batch cannot be divided evenly, or
            the source is endless.

    >>> from rpn_jax.data import Scenes
    >>> sizes = PipelineConfig(min_side=48, max_side=64)
    >>> scenes = Scenes(num_images=3, size=(48, 64))
    >>> [batch.rows.tolist() for batch in eval_batches(scenes, sizes, batch_size=2)]
    [[0, 1], [2, -1]]
    """
    # The rows of every batch and its shape are listed before anything is read.
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
    """The number of images of a batch that one process reads."""
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
    """The rows of the images of each shape, for a source that has epochs."""
    if buckets.rows is None:
        raise ValueError(
            f"An epoch needs a finite source, got an endless {type(source).__name__}. "
            "Give it a number of images, or count in steps."
        )
    return buckets.rows


def _locate_in_epochs(
    buckets: Buckets, batch_size: int, seed: int
) -> Callable[[int, int], tuple[int, int]]:
    """A function from the step and the slot in the batch to an image and its bucket."""
    if buckets.rows is None:
        return lambda step, slot: ((step * batch_size + slot) % ENDLESS, 0)
    # Two plans are kept, because threads may read the end of one epoch and the
    # beginning of the next at the same time.
    plan = functools.lru_cache(maxsize=2)(
        functools.partial(plan_epoch, buckets, batch_size, seed)
    )
    length = sum(-(-len(rows) // batch_size) for rows in buckets.rows)
    # A plan lists rows alone, so the bucket of each row is stored, which gives the
    # shape of its batch.
    bucket_of = np.zeros(sum(map(len, buckets.rows)), np.int64)
    for bucket, rows in enumerate(buckets.rows):
        bucket_of[rows] = bucket

    def locate(step: int, slot: int) -> tuple[int, int]:
        epoch, batch = divmod(step, length)
        row = int(plan(epoch)[batch, slot])
        return row, int(bucket_of[row])

    return locate


def _padded(rows: Int[np.ndarray, " n"], batch_size: int) -> Int[np.ndarray, "steps b"]:
    """The rows of an evaluation in batches; -1 fills the last one."""
    missing = -len(rows) % batch_size
    return np.pad(rows, (0, missing), constant_values=-1).reshape(-1, batch_size)


def _iterate(
    images: grain.MapDataset[Batch], share: int, num_threads: int | None
) -> Generator[Batch, None, None]:
    """Reads images in threads, and stacks every `share` of them into a batch."""
    if num_threads is None:
        num_threads = min(os.cpu_count() or 1, _MOST_THREADS)
    # Two batches are read ahead, and one image per thread, so that no thread waits.
    options = grain.ReadOptions(
        num_threads=num_threads,
        prefetch_buffer_size=(2 * share + num_threads) if num_threads else 0,
    )
    iterator = iter(images.to_iter_dataset(options).batch(share))
    try:
        yield from iterator
    finally:  # also if the caller stops before the end
        iterator.close()
