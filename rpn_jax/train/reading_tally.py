"""Counts what was wrong with the images of a run, and logs it once."""

import logging

from ..data import Batch, ImageSource, ReadProblem
from ..distributed import gather

_logger = logging.getLogger(__name__)

_MOST_NAMES = 5  # number of files that a line of the log names


def log_problems(*sources: ImageSource) -> None:
    """Logs what was wrong with data sets.

    Args:
        sources: a data set, or the one to train on and the one to evaluate on. If both
            have problems of their own, each line says whose it is.

    >>> from rpn_jax.data import Scenes
    >>> log_problems(Scenes())
    """
    unique = {id(source.problems): source.problems for source in sources}
    # Two parts of one data set share the problems that its reader met.
    labels = [""] * len(unique)
    if len(unique) == 2:
        labels = ["Training data: ", "Validation data: "]
    for label, problems in zip(labels, unique.values(), strict=True):
        for line in problems.summary():
            _logger.warning("%s%s", label, line)


class ReadingTally:
    """Counts the repairs that were needed to read the images of a run.

    Args:
        source: the images, for the names of their files; None names their rows.
    """

    def __init__(self, source: ImageSource | None = None) -> None:
        """Starts all counts at 0."""
        self._source = source
        self._seen: set[int] = set()
        self._problems: dict[int, int] = {}
        self._dropped: dict[int, int] = {}
        self._cut = self._hidden = self._readings = 0

    def add(self, batch: Batch) -> None:
        """Counts every image once, however often it is read.

        What augmentation does to boxes differs each time, so that every reading counts.
        Of the boxes that find no row in a batch, the reading with most of them counts.
        """
        self._readings += len(batch.rows)
        self._cut += int(batch.cut_boxes.sum())
        self._hidden += int(batch.hidden_boxes.sum())
        columns = (batch.asked_rows.tolist(), batch.problems, batch.dropped_boxes)
        for row, problem, dropped in zip(*columns, strict=True):
            found = ReadProblem(int(problem))
            # The boxes of an image that replaces another count at its own row.
            if dropped and found is not ReadProblem.UNREADABLE:
                most = max(self._dropped.get(row, 0), int(dropped))
                self._dropped[row] = most
            if row not in self._seen:
                self._seen.add(row)
                if found is not ReadProblem.NONE:
                    self._problems[row] = int(found)

    def report(self) -> None:
        """Logs the counts that are not 0, over all processes."""
        self._join()
        if rows := self._rows_with(ReadProblem.TRUNCATED):
            _logger.warning(
                "%d image files end early; their missing parts are blank: %s.",
                len(rows),
                self._names(rows),
            )
        if rows := self._rows_with(ReadProblem.UNREADABLE):
            _logger.warning(
                "%d images cannot be decoded; other images replaced them: %s.",
                len(rows),
                self._names(rows),
            )
        if self._dropped:
            _logger.warning(
                "%d boxes were dropped because their images have more boxes than a "
                "batch has rows. Raise --pipeline.max-boxes to keep them.",
                sum(self._dropped.values()),
            )
        if self._cut or self._hidden:
            _logger.info(
                "In %d readings of images, augmentation cut %d objects to ignored "
                "regions, and left nothing of %d boxes.",
                self._readings,
                self._cut,
                self._hidden,
            )

    def _join(self) -> None:
        """Adds what the other processes counted."""
        counts = [self._readings, self._cut, self._hidden]
        rows = [[*self._problems.items()], [*self._dropped.items()]]
        parts = gather([*rows, counts])
        for problems, dropped, _ in parts:
            self._problems |= {row: problem for row, problem in problems}
            for row, number in dropped:
                self._dropped[row] = max(self._dropped.get(row, 0), number)
        totals = zip(*(counts for _, _, counts in parts), strict=True)
        self._readings, self._cut, self._hidden = map(sum, totals)

    def _rows_with(self, wanted: ReadProblem) -> list[int]:
        return [row for row, problem in self._problems.items() if problem == wanted]

    def _names(self, rows: list[int]) -> str:
        """The names of the first files, and the number of others."""
        source = self._source
        named = [
            f"row {row}" if source is None else source.truth(row).name
            for row in rows[:_MOST_NAMES]
        ]
        others = len(rows) - len(named)
        return ", ".join(named) + (f" and {others} more" if others else "")
