"""Validation during training: the best step so far, and when to stop."""

import pathlib
import shutil

from ..core.config import RPNConfig
from ..data import ImageSource, PipelineConfig
from ..data.image_source import all_truths
from ..distributed import by_first
from ..distributed.progress import progress
from ..evaluate import evaluate
from ..models import RPN
from ..predict import predict
from .checkpoints import CheckpointStore
from .metrics_log import open_log, read_metrics
from .step import TrainState

_LIMIT = 100  # proposals per image
_SCORE = f"ar@{_LIMIT}"
_FILE = "evaluations.jsonl"


def measure(
    model: RPN,
    source: ImageSource,
    *,
    pipeline: PipelineConfig,
    config: RPNConfig,
    batch_size: int,
) -> float:
    """AR@100 of a model on all images, as COCO counts it.

    An image whose file cannot be opened counts as one without proposals.

    Args:
        model: the network.
        source: the images with their ground truth.
        pipeline: how images become batches.
        config: the settings of all stages.
        batch_size: images per batch.
    """
    found = predict(
        model, source, pipeline=pipeline, config=config, batch_size=batch_size
    )
    proposals = [of_image for _, of_image in found]
    with progress.counting():
        truths = all_truths(source)
        # One process decides, because others may run on processors that round
        # differently.
        return by_first(lambda: evaluate(truths, proposals).coco.average(_LIMIT))


class Validation:
    """The evaluations of a run.

    Everything follows from the lines of `evaluations.jsonl` up to the current step. So
    a resumed run finds the same best step, and stops at the same one.

    Args:
        folder: the folder of the run.
        step: step from which the run continues. Later evaluations are repeated.
        patience: number of evaluations without a better one after which training
            stops; None never stops it.
    """

    def __init__(
        self, folder: pathlib.Path, *, step: int, patience: int | None
    ) -> None:
        self._log = open_log(folder, step=step, name=_FILE)
        lines = by_first(lambda: read_metrics(folder / _FILE))
        self._scores = [line[_SCORE] for line in lines]
        self._steps = [line["step"] for line in lines]
        self._folder, self._patience = folder / "best", patience

    @property
    def best(self) -> tuple[int, float] | None:
        """The best step and its AR@100, the earliest of equal ones; None before any."""
        if not self._scores:
            return None
        place = self._scores.index(max(self._scores))
        return self._steps[place], self._scores[place]

    @property
    def is_over(self) -> bool:
        """Whether the last `patience` evaluations were no better than one before."""
        if self._patience is None or not self._scores:
            return False
        place = self._scores.index(max(self._scores))
        return len(self._scores) - 1 - place >= self._patience

    def add(self, step: int, score: float, state: TrainState) -> None:
        """Records an evaluation, and saves the state if it is the best so far.

        Args:
            step: number of steps made.
            score: AR@100 after them.
            state: the state after them.
        """
        # The checkpoint is written first: a run that is killed in between evaluates
        # this step again, and saves it again.
        if not self._scores or score > max(self._scores):
            self._save(step, state)
        self._log.write(step, {_SCORE: score})
        self._steps.append(step)
        self._scores.append(score)

    def close(self) -> None:
        """Closes the file."""
        self._log.close()

    def _save(self, step: int, state: TrainState) -> None:
        by_first(lambda: self._remove_later(step))
        store = CheckpointStore(self._folder, keep=1)
        store.save(step, state)
        store.close()

    def _remove_later(self, step: int) -> None:
        """Removes the best checkpoint of a later step, which a killed run may leave."""
        for path in self._folder.glob("*"):
            if path.name.isdigit() and int(path.name) > step:
                shutil.rmtree(path)
