"""A training run: its data, its state, and the folder of its results."""

import contextlib
import logging
from collections.abc import Callable, Generator, Iterator, Mapping

import jax
import numpy as np

from ..data import Batch, train_batches
from ..devices import make_mesh, put_batch
from ..distributed import StopTogether, check_even_share, gather
from ..distributed.progress import progress
from ..models import RPN, load_weights
from ..models.interop import Checkpoint, read_checkpoint
from .asked_steps import Loop, Wanted, make_steps
from .asked_steps import Progress as Progress
from .build import build_model, build_optimizer
from .checkpoints import CheckpointStore
from .data_settings import count_steps, set_ignore_rule
from .in_order import check_order
from .metrics_log import MetricsLog, SilentLog, open_log
from .metrics_window import Window
from .programs import Program, Programs
from .reading_tally import ReadingTally, log_problems
from .resolve import resolve
from .run_folder import RunFolder
from .splits import open_sources
from .step import copied_model, init_state
from .train_config import TrainConfig
from .validation import Validation, measure

_logger = logging.getLogger(__name__)


class Run:
    """A training run that can be killed at any moment and resumed.

    `for progress in run.steps(): ...` trains. The logger `rpn_jax` reports what was
    repaired in the data, which weights were loaded, and what went wrong.

    Attributes:
        config: the settings with every default filled in, as in `config.json`.
        sources: the images to train on and to evaluate on.
        folder: the folder of the results.
        num_steps: number of steps of the whole run.
        is_stopped: whether training ended because it was asked to, in any process.
    """

    is_stopped = False

    def __init__(self, config: TrainConfig, programs: Programs | None = None) -> None:
        """Opens the data, makes the model, and restores the newest checkpoint.

        Args:
            config: the settings.
            programs: the compiled steps of other runs. This run takes those that fit,
                and adds its own. None compiles all.

        Raises:
            ValueError: the data cannot be read, the batch cannot be spread over the
                devices, or the folder holds another run, or one that is not to be
                resumed. Or `config.seeds` asks for several runs, or
                `config.deterministic` cannot be met.
        """
        if config.seeds != 1:
            raise ValueError(
                f"Run needs seeds=1, got {config.seeds}. Make a Run for each seed, as "
                "`rpn-jax train --seeds` does."
            )
        self._mesh, self._programs = make_mesh(), programs or Programs()
        # The only time that a run reads its pretrained weights.
        weights = _read_weights(config)
        config = RunFolder(config.out).continued(config)
        resolved = resolve(config, weights)
        check_even_share(resolved.batch_size, resolved.accumulate)
        if resolved.deterministic:
            check_order(resolved.rpn, self._mesh.size)
        self.sources = open_sources(resolved)
        self.config = set_ignore_rule(resolved, self.sources.train)
        self.num_steps = count_steps(self.config, self.sources.train)
        # The data is read first, so that a run with faulty settings leaves no folder.
        self.folder = RunFolder(self.config.out)
        self.folder.claim(self.config)
        log_problems(*self.sources)
        self._begin(weights)

    def _begin(self, weights: Checkpoint | None) -> None:
        """Makes the model and the optimizer, and restores their newest checkpoint."""
        config = self.config
        model = build_model(config)
        if weights is not None:
            _logger.info("%s", load_weights(model, weights))
        self._optimizer, self._schedule = build_optimizer(config, self.num_steps)
        self._graphdef, self._state = init_state(
            model, self._optimizer, self._mesh, spread=config.shard_parameters
        )
        self._store = CheckpointStore(self.folder.checkpoints)
        # The initial state provides the shapes and shardings of the restored one.
        if restored := self._store.restore(self._state):
            self._state = restored.state
            _logger.info("Resumed after step %d.", restored.step)
        self._validation = None
        if config.eval_every is not None:
            self._validation = Validation(
                self.folder.path, step=self.step, patience=config.patience
            )

    @property
    def step(self) -> int:
        """Number of steps made so far."""
        return int(self._state.step)

    @property
    def is_finished(self) -> bool:
        """Whether no step is left, because all were made or patience ran out."""
        return self.step >= self.num_steps or self._is_over()

    @property
    def model(self) -> RPN:
        """A copy of the model with its current parameters, averaged if `ema` is set.

        The next step reuses the memory of the current parameters. The copy does not
        change with it, so keeping the best model so far is safe.
        """
        return copied_model(self._graphdef, self._state)

    @property
    def best(self) -> tuple[int, float] | None:
        """The step with the best AR@100 so far, and this; None without evaluations."""
        return self._validation.best if self._validation else None

    def steps(
        self, is_stopped: Callable[[], bool] = lambda: False
    ) -> Iterator[Progress]:
        """Trains to the end, and logs, evaluates and saves on the way.

        Training also ends when `config.patience` evaluations in a row were no better
        than the best one before them.

        Args:
            is_stopped: asked after every step; True ends training, and that step is
                saved. `rpn_jax.distributed.stop_on_sigterm` gives such a function.

        Yields:
            The logged metrics, every `config.log_every` steps and after the last step.

        Raises:
            FloatingPointError: `config.max_skipped` steps in a row had gradients that
                were not finite.
        """
        yield from make_steps(self.loop(is_stopped))

    def loop(self, is_stopped: Callable[[], bool]) -> Loop:
        """The loop of `steps`, which leaves every step to its caller.

        Args:
            is_stopped: asked after every step, as in `steps`.

        Yields:
            What `steps` yields, and before every step what it is made of. The result of
            the step is to be sent.
        """
        config, first = self.config, self.step
        if self.is_finished:
            return
        programs = self._compile()
        if jax.process_count() == 1 and is_stopped():
            self.is_stopped = True
            return
        stop = StopTogether(is_stopped)
        save_every = config.checkpoint_every or -(-self.num_steps // 10)
        window, tally = Window(config.batch_size), ReadingTally(self.sources.train)
        # Both are closed even if the caller stops before the end.
        with (
            contextlib.closing(open_log(self.folder.path, step=first)) as log,
            contextlib.closing(self._batches(first)) as batches,
            progress.training(),
        ):
            for done in range(first + 1, self.num_steps + 1):
                batch = window.take(batches)
                progress.read()
                made = yield self._wanted(programs, batch)
                assert made is not None
                # Metrics stay on the device, so that the host waits for no step.
                self._state, metrics = made
                window.add(metrics)
                if jax.process_count() > 1:
                    window.wait_for_previous()
                    progress.step(done)
                tally.add(batch)
                self._validate(done)
                is_last = (
                    done == self.num_steps or self._is_over() or stop.is_last(done)
                )
                if done % config.log_every == 0 or is_last:
                    yield self._log(done, window, log)
                if done % save_every == 0 or is_last:
                    self._store.save(done, self._state)
                if is_last:
                    break
        tally.report()
        window.report()
        self.is_stopped = any(gather(is_stopped()))

    def close(self) -> None:
        """Releases the folder of the checkpoints."""
        self._store.close()
        if self._validation is not None:
            self._validation.close()

    def _wanted(
        self, programs: Mapping[tuple[int, ...], Program], batch: Batch
    ) -> Wanted:
        program = programs[batch.images.shape[1:3]]
        return Wanted(program, self._state, put_batch(batch, self._mesh))

    def _log(self, step: int, window: Window, log: MetricsLog | SilentLog) -> Progress:
        # Logged before the check, so that the log shows a divergence.
        values = window.close() | {"lr": self._learning_rate(step - 1)}
        log.write(step, values)
        self._stop_if_lost(step, values)
        return Progress(step, values)

    def _is_over(self) -> bool:
        return self._validation is not None and self._validation.is_over

    def _validate(self, step: int) -> None:
        """Measures AR@100 if it is time, and keeps the state if it is the best."""
        every = self.config.eval_every
        if self._validation is None or every is None or step % every:
            return
        recall = measure(
            self.model,
            self.sources.val,
            pipeline=self.config.pipeline,
            config=self.config.rpn,
            batch_size=self.config.batch_size,
        )
        _logger.info("AR@100 after step %d: %.3f.", step, recall)
        self._validation.add(step, recall, self._state)
        if self._validation.is_over:
            _logger.info(
                "Training stops: %d evaluations in a row were no better.",
                self.config.patience,
            )

    def _learning_rate(self, step: int) -> float:
        # The schedules of optax mix dtypes, which strict promotion would reject.
        with jax.numpy_dtype_promotion("standard"):
            return np.asarray(self._schedule(step)).item()

    def _batches(self, first: int) -> Generator[Batch, None, None]:
        return train_batches(
            self.sources.train,
            self.config.pipeline,
            batch_size=self.config.batch_size,
            seed=self.config.seed,
            start_step=first,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )

    def _compile(self) -> dict[tuple[int, ...], Program]:
        """Compiles the step for every shape of a batch, before training starts."""
        return self._programs.compile_steps(
            self._graphdef,
            self._optimizer,
            self._state,
            self.sources.train,
            config=self.config,
            num_steps=self.num_steps,
            mesh=self._mesh,
        )

    def _stop_if_lost(self, step: int, values: dict[str, float]) -> None:
        if values["skipped_in_a_row"] >= self.config.max_skipped:
            raise FloatingPointError(
                f"Training stopped at step {step}: the last "
                f"{values['skipped_in_a_row']:.0f} steps were skipped because their "
                "gradients were not finite. Lower --lr, lengthen the warm-up, or clip "
                "gradients. A skipped step does not change the parameters."
            )


def _read_weights(config: TrainConfig) -> Checkpoint | None:
    if config.init_weights is None:
        return None
    return read_checkpoint(config.init_weights, config.weights_system)
