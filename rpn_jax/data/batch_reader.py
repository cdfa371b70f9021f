"""Reads whole batches, in threads of this process and of worker processes.

Batches are the unit of work, because worker processes take them in turns. So their
order and content do not depend on how many threads and processes read them.
"""

import concurrent.futures
import os
from collections.abc import Callable, Generator
from typing import NamedTuple

import grain
import numpy as np
from absl import flags
from jaxtyping import Int

from .augment import UNCHANGED, Augmentation
from .batch import Batch, Loader

_MOST_THREADS = 16  # each one keeps an image in memory
_READ_AHEAD = 2  # batches, so that the threads have work while one batch ends


class Place(NamedTuple):
    """What is read into one place of a batch.

    Attributes:
        row: row of the image; -1 for an empty place.
        augmentation: the random choices for the image.
        stand_ins: rows of the images that may replace it; see `Loader.load`.
    """

    row: int
    augmentation: Augmentation = UNCHANGED
    stand_ins: Int[np.ndarray, " n"] | None = None


class BatchPlan(NamedTuple):
    """A batch that is to be read.

    Attributes:
        shape: `(height, width)` of its images.
        places: what is read into each place.
    """

    shape: tuple[int, int]
    places: list[Place]


class Readers(NamedTuple):
    """Who reads the images of this process.

    Attributes:
        threads: number of images that each process reads at a time; 0 reads in the
            thread that asks for a batch.
        workers: number of processes that read; 0 reads in this process.
    """

    threads: int
    workers: int = 0


def count_readers(threads: int | None, workers: int = 0) -> Readers:
    """The readers that settings ask for, with a default from the machine.

    Args:
        threads: number of threads in each process. None shares the cores that this
            process may use, and takes at most 16.
        workers: number of worker processes.

    >>> count_readers(3)
    Readers(threads=3, workers=0)
    """
    if threads is None:
        share = -(-_num_cores() // max(workers, 1))
        threads = min(share, _MOST_THREADS)
    return Readers(threads, workers)


def iterate_batches(
    plan: Callable[[int], BatchPlan],
    loader: Loader,
    steps: tuple[int, int],
    readers: Readers,
) -> Generator[Batch, None, None]:
    """Reads batches in the order of their steps, ahead of the caller.

    Args:
        plan: says what the batch of a step holds. It is sent to the worker processes,
            and so is `loader`.
        loader: reads the images.
        steps: the first step, and one past the last.
        readers: number of threads and processes.
    """
    reader = _BatchReader(plan, loader, readers.threads)
    ahead = _READ_AHEAD if readers.threads else 0
    options = grain.ReadOptions(num_threads=ahead, prefetch_buffer_size=ahead)
    batches = grain.MapDataset.range(*steps).map(reader).to_iter_dataset(options)
    if readers.workers:
        _allow_unparsed_flag()
        batches = batches.mp_prefetch(
            grain.MultiprocessingOptions(num_workers=readers.workers)
        )
    iterator = iter(batches)
    try:
        yield from iterator
    finally:  # also if the caller stops before the end
        iterator.close()
        reader.close()


class _BatchReader:
    """Reads the batch of a step, its images side by side into one array."""

    def __init__(
        self, plan: Callable[[int], BatchPlan], loader: Loader, num_threads: int
    ) -> None:
        self._plan, self._loader, self._num_threads = plan, loader, num_threads
        # The executor starts its threads when they are first needed.
        self._pool = (
            concurrent.futures.ThreadPoolExecutor(num_threads, "rpn_jax_reader")
            if num_threads
            else None
        )

    def __reduce__(self) -> tuple[type["_BatchReader"], tuple[object, ...]]:
        """A copy in a worker process, which has threads of its own."""
        return _BatchReader, (self._plan, self._loader, self._num_threads)

    def __call__(self, step: int) -> Batch:
        """The batch of a step.

        Raises:
            ImageError: no image of the shape can be decoded.
        """
        plan = self._plan(step)
        images = np.zeros((len(plan.places), *plan.shape, 3), np.uint8)
        read = map if self._pool is None else self._pool.map
        # Each image is written where the batch has it, so only small arrays are
        # stacked.
        parts = list(read(self._read, plan.places, images))
        columns = zip(*(part[1:] for part in parts), strict=True)
        return Batch(images, *map(np.stack, columns))

    def close(self) -> None:
        """Ends the threads."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _read(self, place: Place, canvas: np.ndarray) -> Batch:
        return self._loader.load(place.row, canvas, place.augmentation, place.stand_ins)


def _allow_unparsed_flag() -> None:
    """Lets Grain start workers in a program that does not parse absl's flags.

    Grain 0.2 reads this flag then, which raises an error unless it counts as given.
    """
    name = "grain_enable_multiprocess_worker_profiling"
    if name in flags.FLAGS:
        flags.FLAGS[name].present = 1


def _num_cores() -> int:
    """The number of cores that this process may use, where the system tells."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
