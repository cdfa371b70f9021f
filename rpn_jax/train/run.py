"""A training run: its data, its state, and the folder of its results."""

import dataclasses
import logging
from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np
from flax import nnx

from ..data import (
    Batch,
    ImageSource,
    bucket_shapes,
    is_endless,
    num_gt_rows,
    steps_per_epoch,
    train_batches,
)
from ..devices import TrainBatch, make_mesh, put_batch
from ..models import RPN, load_weights
from .build import build_model
from .checkpoints import CheckpointStore
from .metrics_log import MetricsLog
from .metrics_window import Window
from .optimizer import make_optimizer, make_schedule
from .reading_tally import ReadingTally, log_problems
from .resolve import resolve
from .run_folder import RunFolder
from .splits import open_sources
from .step import (
    Step,
    init_state,
    make_train_step,
)
from .train_config import ResolvedConfig, TrainConfig

_IGNORE_IOF = 0.5  # share of an anchor in a crowd that makes it neither good nor bad
_FEWEST_STEPS = 500  # on files
_SCENES_STEPS = 1000
_logger = logging.getLogger(__name__)


class Progress(NamedTuple):
    """Where a run is.

    Attributes:
        step: how many steps were made.
        metrics: numbers by name, the mean over the steps since the last ones.
    """

    step: int
    metrics: dict[str, float]


class Run:
    """A training run, which can be killed at any moment and gone on with.

    `for progress in run.steps(): ...` trains. The log of `rpn_jax` tells what was
    repaired in the data, what was loaded, and what went wrong.

    Attributes:
        config: with everything filled in; `config.json` of the folder has it too.
        sources: the data.
        folder: of the results.
        num_steps: of the whole run.
    """

    def __init__(self, config: TrainConfig) -> None:
        """Reads the data, makes the model, and restores what there is to restore.

        Args:
            config: the settings.

        Raises:
            ValueError: the data cannot be read, the batch cannot be spread over the
                devices, or the folder holds another run, or one that is not to be
                resumed.
        """
        self._mesh = make_mesh()
        resolved = resolve(config)
        _check_batch(resolved, self._mesh.size)
        self.sources = open_sources(resolved)
        self.config = _with_ignore_regions(resolved, self.sources.train)
        self.num_steps = _count_steps(self.config, self.sources.train)
        self.folder = RunFolder(self.config.out)
        self.folder.claim(self.config)
        log_problems(*self.sources)
        model = build_model(self.config)
        if self.config.init_weights is not None:
            weights, system = self.config.init_weights, self.config.weights_system
            _logger.info("%s", load_weights(model, weights, system=system))
        self._schedule = make_schedule(
            self.config.optimizer, self.config.lr, self.num_steps
        )
        self._optimizer = make_optimizer(self.config.optimizer, self._schedule)
        self._graphdef, self._state = init_state(model, self._optimizer, self._mesh)
        self._store = CheckpointStore(self.folder.checkpoints)
        if restored := self._store.restore(self._state):
            self._state = restored.state
            _logger.info("Resumed after step %d.", restored.step)

    @property
    def step(self) -> int:
        """How many steps have been made."""
        return int(self._state.step)

    @property
    def model(self) -> RPN:
        """The model as it is now."""
        return nnx.merge(self._graphdef, self._state.params, self._state.frozen)

    def steps(self) -> Iterator[Progress]:
        """Trains to the end, logging and saving on the way.

        Yields:
            Every `config.log_every` steps, and after the last, what was logged.

        Raises:
            FloatingPointError: `config.max_skipped` steps in a row had gradients that
                were not finite.
        """
        config, first = self.config, self.step
        programs = self._compile()
        log = MetricsLog(self.folder.path, step=first)
        save_every = config.checkpoint_every or -(-self.num_steps // 10)
        window, tally = Window(config.batch_size), ReadingTally()
        batches = self._batches(first)
        for done in range(first + 1, self.num_steps + 1):
            batch = next(batches)
            program = programs[batch.images.shape[1:3]]
            self._state, metrics = program(self._state, put_batch(batch, self._mesh))
            window.add(metrics)
            tally.add(batch)
            is_last = done == self.num_steps
            if done % config.log_every == 0 or is_last:
                values = window.close() | {"lr": self._learning_rate(done - 1)}
                log.write(done, values)
                self._stop_if_lost(done, values)
                yield Progress(done, values)
            if done % save_every == 0 or is_last:
                self._store.save(done, self._state, {"data_step": done})
        log.close()
        tally.report()

    def close(self) -> None:
        """Lets go of the checkpoints."""
        self._store.close()

    def _learning_rate(self, step: int) -> float:
        with jax.numpy_dtype_promotion("standard"):  # optax needs it
            return np.asarray(self._schedule(step)).item()

    def _batches(self, first: int) -> Iterator[Batch]:
        return train_batches(
            self.sources.train,
            self.config.pipeline,
            batch_size=self.config.batch_size,
            seed=self.config.seed,
            start_step=first,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )

    def _compile(self) -> dict[tuple[int, ...], Step]:
        """A program for each shape of batches, so that training never waits for one."""
        step = make_train_step(
            self._graphdef,
            self._optimizer,
            jax.random.key(self.config.seed),
            config=self.config.rpn,
            accumulate=self.config.accumulate,
        )
        source, pipeline = self.sources.train, self.config.pipeline
        rows, size = num_gt_rows(source, pipeline), self.config.batch_size
        programs = {}
        for shape in bucket_shapes(source, pipeline):
            like = _empty_batch(size // jax.process_count(), shape, rows)
            lowered = jax.jit(step, donate_argnums=0).lower(
                self._state, put_batch(like, self._mesh)
            )
            programs[shape] = lowered.compile()
        return programs

    def _stop_if_lost(self, step: int, values: dict[str, float]) -> None:
        if values["skipped_in_a_row"] >= self.config.max_skipped:
            raise FloatingPointError(
                f"Training stopped at step {step}: the last "
                f"{values['skipped_in_a_row']:.0f} steps had gradients that were not "
                "finite and were skipped. Lower --lr, lengthen the warm-up, or clip "
                "gradients; the last checkpoint is from before."
            )


def _check_batch(config: ResolvedConfig, num_devices: int) -> None:
    if config.batch_size % (num_devices * config.accumulate):
        raise ValueError(
            f"train needs a batch_size that {num_devices} devices and "
            f"{config.accumulate} parts (--accumulate) share evenly, got "
            f"{config.batch_size}."
        )


def _with_ignore_regions(config: ResolvedConfig, source: ImageSource) -> ResolvedConfig:
    """Crowds become regions to ignore, if there are any in the data."""
    has_crowds = not is_endless(source) and any(
        source.truth(row).is_crowd.any() for row in range(len(source))
    )
    if not has_crowds or config.rpn.targets.ignore_iof is not None:
        return config
    targets = dataclasses.replace(config.rpn.targets, ignore_iof=_IGNORE_IOF)
    return dataclasses.replace(
        config, rpn=dataclasses.replace(config.rpn, targets=targets)
    )


def _count_steps(config: ResolvedConfig, source: ImageSource) -> int:
    if config.steps is not None:
        return config.steps
    if is_endless(source):
        if config.epochs is not None:
            raise ValueError(
                "train needs --steps for scenes, which never repeat, got --epochs "
                f"{config.epochs}."
            )
        return _SCENES_STEPS
    epoch = steps_per_epoch(source, config.pipeline, config.batch_size)
    if config.epochs is not None:
        return max(round(config.epochs * epoch), 1)
    return max(12 * epoch, _FEWEST_STEPS)


def _empty_batch(size: int, shape: tuple[int, int], rows: int) -> TrainBatch:
    return TrainBatch(
        images=np.zeros((size, *shape, 3), np.uint8),
        image_sizes=np.ones((size, 2), np.float32),
        gt_boxes=np.zeros((size, rows, 4), np.float32),
        gt_valid=np.zeros((size, rows), bool),
        gt_ignore=np.zeros((size, rows), bool),
    )
