"""Batches of images and boxes: which images they hold, and in which order.

A training batch is a function of the seed and the step alone. It does not depend on the
number of threads or processes, or on the step from which a run was resumed.
"""

import functools
from collections.abc import Generator
from typing import Any

import numpy as np
from jaxtyping import Int

from .augment import draw_augmentation
from .batch import Batch, Loader
from .batch_reader import BatchPlan, Place, count_readers, iterate_batches
from .buckets import Buckets, fit_buckets, plan_epoch
from .image_source import ENDLESS, ImageSource
from .pipeline_config import PipelineConfig

_UNBOUNDED = 2**48  # more steps than any run makes


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
        num_threads: number of images that this process reads at a time, without worker
            processes; 0 reads in this thread. None takes `config.threads` and
            `config.workers`.

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
    plan = _TrainPlan(
        fit_buckets(source, config),
        config,
        batch_size=batch_size,
        seed=seed,
        slots=range(process_index * share, (process_index + 1) * share),
    )
    steps = (start_step, start_step + _UNBOUNDED)
    # Whoever names a number of threads wants no other process.
    readers = count_readers(config.threads, config.workers)
    if num_threads is not None:
        readers = count_readers(num_threads)
    return iterate_batches(plan, Loader(source, config), steps, readers)


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
            and None takes `config.threads`. There are no worker processes.

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
    own = rows[:, process_index * share : (process_index + 1) * share].tolist()
    shapes = np.repeat(buckets.shapes, [len(batch) for batch in batches], axis=0)

    def plan(step: int) -> BatchPlan:
        height, width = shapes[step].tolist()
        return BatchPlan((height, width), [Place(row) for row in own[step]])

    readers = count_readers(config.threads if num_threads is None else num_threads)
    return iterate_batches(plan, Loader(source, config), (0, len(own)), readers)


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


class _TrainPlan:
    """Says what the training batch of a step holds, in the slots of one process.

    The random numbers depend on the step and on the slot in the whole batch, not on
    the process.
    """

    def __init__(
        self,
        buckets: Buckets,
        config: PipelineConfig,
        *,
        batch_size: int,
        seed: int,
        slots: range,
    ) -> None:
        self._buckets, self._config = buckets, config
        self._batch_size, self._seed, self._slots = batch_size, seed, slots
        # Two plans are kept, because threads may read the end of one epoch and the
        # beginning of the next at the same time.
        self._epoch = functools.lru_cache(maxsize=2)(
            functools.partial(plan_epoch, buckets, batch_size, seed)
        )
        rows = buckets.rows or ()
        self._length = sum(-(-len(bucket) // batch_size) for bucket in rows)
        # A plan lists rows alone, so the bucket of each row is stored, which gives the
        # shape of its batch.
        self._bucket_of = np.zeros(sum(map(len, rows)), np.int64)
        for number, bucket in enumerate(rows):
            self._bucket_of[bucket] = number

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy in another process, which cannot share the cache."""
        settings = {
            "batch_size": self._batch_size,
            "seed": self._seed,
            "slots": self._slots,
        }
        make = functools.partial(_TrainPlan, **settings)
        return make, (self._buckets, self._config)

    def __call__(self, step: int) -> BatchPlan:
        rows, bucket = self._rows(step)
        buckets = self._buckets
        stand_ins = None if buckets.rows is None else buckets.rows[bucket]
        places = [
            Place(
                row,
                draw_augmentation((self._seed, step, slot), self._config),
                stand_ins,
            )
            for slot, row in zip(self._slots, rows, strict=True)
        ]
        return BatchPlan(buckets.shapes[bucket], places)

    def _rows(self, step: int) -> tuple[list[int], int]:
        """The rows of the images of a step, and their bucket."""
        if self._buckets.rows is None:
            first = step * self._batch_size
            return [(first + slot) % ENDLESS for slot in self._slots], 0
        epoch, batch = divmod(step, self._length)
        rows = self._epoch(epoch)[batch]
        return rows[list(self._slots)].tolist(), int(self._bucket_of[rows[0]])


def _padded(rows: Int[np.ndarray, " n"], batch_size: int) -> Int[np.ndarray, "steps b"]:
    """The rows of an evaluation in batches; -1 fills the last one."""
    missing = -len(rows) % batch_size
    return np.pad(rows, (0, missing), constant_values=-1).reshape(-1, batch_size)
