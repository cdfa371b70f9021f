"""What was wrong with the images of a run, said once."""

import collections
import logging

from ..data import Batch, ImageSource, ReadProblem

_logger = logging.getLogger(__name__)


def log_problems(*sources: ImageSource) -> None:
    """Says what was wrong with data sets, each of which may share its problems."""
    for problems in {
        id(source.problems): source.problems for source in sources
    }.values():
        for line in problems.summary():
            _logger.warning("%s", line)


class ReadingTally:
    """Counts what had to be done to read the images of a run."""

    def __init__(self) -> None:
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
        """Says in the log what was counted, if there is anything to say."""
        if number := self._problems[ReadProblem.TRUNCATED]:
            _logger.warning(
                "%d images end early; what is missing of them is grey.", number
            )
        if number := self._problems[ReadProblem.UNREADABLE]:
            _logger.warning(
                "%d images cannot be decoded; others took their places.", number
            )
        if self._dropped:
            _logger.warning(
                "%d boxes were dropped, since an image has more boxes than rows. Set "
                "--pipeline.max-boxes higher to keep them.",
                self._dropped,
            )
