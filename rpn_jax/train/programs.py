"""The step of a run as compiled programs, one for each shape of a batch."""

import dataclasses
from collections.abc import Callable, Hashable
from typing import NamedTuple

import jax
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh

from ..core._typing import PRNGKey
from ..data import ImageSource, bucket_shapes, num_gt_rows
from ..devices import TrainBatch, put_batch, put_copies
from ..distributed import meet
from ..distributed.progress import progress
from .step import StepMetrics, TrainState, make_train_step
from .train_config import ResolvedConfig

KeyedStep = Callable[[PRNGKey, TrainState, TrainBatch], tuple[TrainState, StepMetrics]]


class Program(NamedTuple):
    """The step of a run for batches of one shape.

    Attributes:
        key: source of randomness for the samples of the whole run.
        compiled: the compiled step. Runs that differ in their seed alone share it.
        step: the function that was compiled.
    """

    key: PRNGKey
    compiled: KeyedStep
    step: KeyedStep

    def __call__(
        self, state: TrainState, batch: TrainBatch
    ) -> tuple[TrainState, StepMetrics]:
        """Makes a step; see `make_train_step`."""
        return self.compiled(self.key, state, batch)


class Programs:
    """Compiled steps, which runs share that differ in their seed alone."""

    def __init__(self) -> None:
        """Starts without any program."""
        self._known: dict[Hashable, KeyedStep] = {}

    def compile_steps(
        self,
        graphdef: nnx.GraphDef,
        optimizer: optax.GradientTransformation,
        state: TrainState,
        source: ImageSource,
        *,
        config: ResolvedConfig,
        num_steps: int,
        mesh: Mesh,
    ) -> dict[tuple[int, ...], Program]:
        """Compiles a step for every shape of a batch, unless it is known already.

        Args:
            graphdef: the definition of the model, from `init_state`.
            optimizer: the optimizer that `config` and `num_steps` describe.
            state: the state of the run, for its shapes and shardings. The programs
                reuse the memory of the state that they are given.
            source: the images to train on.
            config: the settings of the run.
            num_steps: number of steps, which decides the learning rates.
            mesh: the devices.

        Returns:
            The programs of the run by height and width of the images.
        """
        rows = num_gt_rows(source, config.pipeline)
        share = config.batch_size // jax.process_count()
        # The key is an argument, so that the program does not depend on the seed.
        # Its words are put, because JAX puts no key on devices of other processes.
        words = jax.random.key_data(jax.random.key(config.seed))
        key = jax.random.wrap_key_data(put_copies(words, mesh))
        settings = dataclasses.replace(config, seed=0, out="", resume=False)
        step = keyed_step(graphdef, optimizer, config, mesh)
        programs: dict[tuple[int, ...], Program] = {}
        with progress.compiling():
            for shape in bucket_shapes(source, config.pipeline):
                what = (settings, graphdef, num_steps, mesh, shape, rows)
                if what not in self._known:
                    # An empty batch of each bucket's shape is enough for compiling, and
                    # donation lets XLA reuse the memory of the old state.
                    like = put_batch(_empty_batch(share, shape, rows), mesh)
                    lowered = jax.jit(step, donate_argnums=1).lower(key, state, like)
                    self._known[what] = lowered.compile()
                programs[shape] = Program(key, self._known[what], step)
            meet()  # the first step of a process would wait for the compilers of others
        return programs


def keyed_step(
    graphdef: nnx.GraphDef,
    optimizer: optax.GradientTransformation,
    config: ResolvedConfig,
    mesh: Mesh,
) -> KeyedStep:
    """The step as a function of a key, a state and a batch.

    Args:
        graphdef: the definition of the model.
        optimizer: from `make_optimizer`.
        config: the settings of the run.
        mesh: the devices.
    """

    def step(
        key: PRNGKey, state: TrainState, batch: TrainBatch
    ) -> tuple[TrainState, StepMetrics]:
        of_key = make_train_step(
            graphdef,
            optimizer,
            key,
            config=config.rpn,
            accumulate=config.accumulate,
            mesh=mesh if config.shard_parameters else None,
            deterministic=mesh if config.deterministic else None,
        )
        return of_key(state, batch)

    return step


def _empty_batch(size: int, shape: tuple[int, int], rows: int) -> TrainBatch:
    return TrainBatch(
        images=np.zeros((size, *shape, 3), np.uint8),
        image_sizes=np.ones((size, 2), np.float32),
        gt_boxes=np.zeros((size, rows, 4), np.float32),
        gt_valid=np.zeros((size, rows), bool),
        gt_ignore=np.zeros((size, rows), bool),
    )
