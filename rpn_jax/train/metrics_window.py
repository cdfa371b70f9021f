"""Averages the metrics of the steps between two lines of the log."""

import logging
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from ..data import Batch
from .step import StepMetrics

_MOST_WAITING = 0.1  # share of a run that may pass in waiting for images
_logger = logging.getLogger(__name__)


class Window:
    """Gathers the metrics of steps, and waits for the steps only when it is closed."""

    def __init__(self, batch_size: int) -> None:
        """Starts the clock.

        Args:
            batch_size: images per step, over all processes.
        """
        self._batch_size = batch_size
        self._waiting: list[StepMetrics] = []
        self._data_seconds = 0.0
        self._started = time.perf_counter()
        # Of all windows, without the first batch, which nothing was read ahead for.
        self._all_data_seconds = 0.0
        self._first_taken: float | None = None

    def take(self, batches: Iterator[Batch]) -> Batch:
        """The next batch.

        The time until it is there counts as waiting, unless the step before still runs.
        """
        began = time.perf_counter()
        batch = next(batches)
        ended = time.perf_counter()
        waited = 0.0 if self._is_step_running() else ended - began
        self._data_seconds += waited
        if self._first_taken is None:
            self._first_taken = ended
        else:
            self._all_data_seconds += waited
        return batch

    def add(self, metrics: StepMetrics) -> None:
        """Adds the metrics of a step, which may still be running."""
        self._waiting.append(metrics)

    def wait_for_previous(self) -> None:
        """Waits for the step before the last one, so that at most two are under way."""
        if len(self._waiting) > 1:
            jax.block_until_ready(self._waiting[-2])

    def close(self) -> dict[str, float]:
        """Waits for the steps, and starts the next window.

        Returns:
            The mean of each metric over the steps, and `images_per_second`. The counts
            of skipped steps are those after the last step. `data_wait` is the share of
            the time in which this process waited for a batch, without the waiting that
            ended while a step was running.
        """
        found = jax.device_get(self._waiting)
        seconds = time.perf_counter() - self._started
        columns = zip(*found, strict=True)
        values = {
            name: float(np.mean(column))
            for name, column in zip(StepMetrics._fields, columns, strict=True)
        }
        values["skipped"] = float(found[-1].skipped)
        values["skipped_in_a_row"] = float(found[-1].skipped_in_a_row)
        values["images_per_second"] = self._batch_size * len(found) / seconds
        values["data_wait"] = self._data_seconds / seconds
        self._waiting, self._data_seconds = [], 0.0
        self._started = time.perf_counter()
        return values

    def report(self) -> None:
        """Logs how long the run waited for images, if that was over a tenth of it."""
        if self._first_taken is None:
            return
        seconds = time.perf_counter() - self._first_taken
        share = self._all_data_seconds / max(seconds, 1e-9)
        if share > _MOST_WAITING:
            _logger.warning(
                "%.0f %% of the time of training passed in waiting for images. If "
                "cores are idle, more --pipeline.threads or --pipeline.workers help. "
                "So do smaller files and --pipeline.image-library opencv.",
                100 * share,
            )

    def _is_step_running(self) -> bool:
        # The type of arrays does not list this method, which all of them have.
        last: Any = self._waiting[-1].skipped if self._waiting else None
        return last is not None and not last.is_ready()
