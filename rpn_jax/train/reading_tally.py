"""Counts what was wrong with the images of a run, and logs it once."""

import collections
import logging

from ..data import Batch, ImageSource, ReadProblem

_logger = logging.getLogger(__name__)


def log_problems(*sources: ImageSource) -> None:
    """Logs what was wrong with data sets. Sets that share their problems log once."""
    unique = {id(source.problems): source.problems for source in sources}
    for problems in unique.values():
        for line in problems.summary():
            _logger.warning("%s", line)


class ReadingTally:
    """Counts the repairs that were needed to read the images of a run."""

    def __init__(self) -> None:
        """Starts all counts at 0."""
        self._problems = collections.Counter[ReadProblem]()
        self._images: set[int] = set()
        self._dropped = 0

    def add(self, batch: Batch) -> None:
        """Counts every image once, however often it is read."""
        for row, problem, dropped in zip(
            batch.rows.tolist(), batch.problems, batch.dropped_boxes, strict=True
        ):
            if row not in self._images:
                self._images.add(row)
                self._problems[ReadProblem(int(problem))] += 1
                self._dropped += int(dropped)

    def report(self) -> None:
        """Logs the counts that are not 0."""
        if number := self._problems[ReadProblem.TRUNCATED]:
            _logger.warning(
                "%d image files end early; their missing parts are grey.", number
            )
        if number := self._problems[ReadProblem.UNREADABLE]:
            _logger.warning(
                "%d images cannot be decoded; other images replaced them.", number
            )
        if self._dropped:
            _logger.warning(
                "%d boxes were dropped because their images have more boxes than a "
                "batch has rows. Raise --pipeline.max-boxes to keep them.",
                self._dropped,
            )
