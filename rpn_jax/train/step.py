"""The state of a training run, and the step function that advances it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ..core._typing import Float, Int, PRNGKey
from ..core.config import RPNConfig
from ..devices import TrainBatch, join_parts, keep_parts, put_copies, put_parts
from ..models import RPN
from .average import averaged
from .gradients import Logged, gradients_of_parts, make_outputs
from .in_order import InOrder
from .optimizer import count_skipped


class TrainState(NamedTuple):
    """Everything that a step changes, and the frozen rest of the model.

    Attributes:
        step: number of steps made so far.
        params: the trained parameters.
        frozen: variables that are not trained: early stages, batch norm statistics.
        optimizer: the state of the optimizer.
    """

    step: Int[jax.Array, ""]
    params: nnx.State
    frozen: nnx.State
    optimizer: optax.OptState


class StepMetrics(NamedTuple):
    """The scalars that a step logs.

    Attributes:
        loss: sum of the two losses.
        objectness: the objectness loss; `rpn_loss_cls` of jwyang.
        box: the box loss; `rpn_loss_box` of jwyang.
        positives: mean number of sampled positives per image.
        unsampled_fraction: share of the boxes to which no sampled positive regresses.
        gradient_norm: norm of all gradients together, before clipping.
        skipped: number of steps skipped so far because of non-finite gradients.
        skipped_in_a_row: number of steps skipped since the last one that was made.
    """

    loss: Float[jax.Array, ""]
    objectness: Float[jax.Array, ""]
    box: Float[jax.Array, ""]
    positives: Float[jax.Array, ""]
    unsampled_fraction: Float[jax.Array, ""]
    gradient_norm: Float[jax.Array, ""]
    skipped: Int[jax.Array, ""]
    skipped_in_a_row: Int[jax.Array, ""]


Step = Callable[[TrainState, TrainBatch], tuple[TrainState, StepMetrics]]


def init_state(
    model: RPN,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    *,
    spread: bool = False,
) -> tuple[nnx.GraphDef, TrainState]:
    """The state before the first step.

    Args:
        model: the network with its initial parameters.
        optimizer: the optimizer whose state is initialized.
        mesh: the devices.
        spread: whether the arrays are spread over the devices; otherwise every device
            has a copy.

    Returns:
        The static definition of the model, and the arrays of the run.

    >>> from rpn_jax.train import TrainConfig, build_model, make_mesh, resolve
    >>> config = resolve(TrainConfig(data="scenes", fpn_features=8))
    >>> _, state = init_state(build_model(config), optax.sgd(0.1), make_mesh())
    >>> int(state.step)
    0
    """
    graphdef, params, frozen = nnx.split(model, model.is_trainable, ...)
    # Compiled as a whole, because every shape would be a program of its own.
    moments = jax.jit(optimizer.init)(params)
    state = TrainState(jnp.zeros((), jnp.int32), params, frozen, moments)
    return graphdef, (put_parts if spread else put_copies)(state, mesh)


def state_shapes(
    model: RPN, optimizer: optax.GradientTransformation, mesh: Mesh
) -> tuple[nnx.GraphDef, TrainState]:
    """What `init_state` returns, with shapes in place of arrays.

    Args:
        model: the network, from `shapes_only`.
        optimizer: the optimizer.
        mesh: the devices.

    Returns:
        The static definition of the model, and a `jax.ShapeDtypeStruct` for every array
        of the run, with its sharding.
    """
    graphdef, params, frozen = nnx.split(model, model.is_trainable, ...)
    step: Any = jax.ShapeDtypeStruct((), jnp.int32)
    state = TrainState(step, params, frozen, jax.eval_shape(optimizer.init, params))
    everywhere = NamedSharding(mesh, PartitionSpec())
    return graphdef, jax.tree.map(lambda x: x.update(sharding=everywhere), state)


def make_train_step(
    graphdef: nnx.GraphDef,
    optimizer: optax.GradientTransformation,
    key: PRNGKey,
    *,
    config: RPNConfig,
    accumulate: int = 1,
    mesh: Mesh | None = None,
    deterministic: Mesh | None = None,
) -> Step:
    """Makes the pure function of one training step; compile it with `jax.jit`.

    The anchors sampled in an image depend on `key`, the step and the position of the
    image in the batch, but not on how the batch is spread over devices. If gradients
    are not finite, only `TrainState.step` and the counts of skipped steps change.

    Args:
        graphdef: the definition of the model, from `init_state`.
        optimizer: an optimizer from `make_optimizer`.
        key: source of randomness for the samples of the whole run.
        config: the settings of all stages.
        accumulate: number of parts into which a batch is split. The gradients of the
            parts are averaged, and the normalizers of the losses see one part at a
            time.
        mesh: the devices over which the state is spread, as in ZeRO by Rajbhandari et
            al. (https://arxiv.org/abs/1910.02054). They gather the parameters for each
            step, and each applies its part of the gradients. None if every device has a
            copy of the state.
        deterministic: the devices, if the new state must be the same to the bit on any
            number of them; see `InOrder`. None adds the gradients of all images in the
            order that is fastest.

    Returns:
        A function that maps a state, which may be donated, and a batch to the next
        state and the metrics.

    >>> from rpn_jax.train import TrainConfig, build_model, build_optimizer, make_mesh
    >>> from rpn_jax.train import resolve
    >>> config = resolve(TrainConfig(data="scenes", fpn_features=8))
    >>> optimizer, _ = build_optimizer(config, num_steps=10)
    >>> graphdef, state = init_state(build_model(config), optimizer, make_mesh())
    >>> key = jax.random.key(config.seed)
    >>> step = make_train_step(graphdef, optimizer, key, config=config.rpn)
    >>> compiled = jax.jit(step, donate_argnums=0)  # state, metrics = compiled(...)
    """
    outputs = make_outputs(graphdef, config)

    def step(state: TrainState, batch: TrainBatch) -> tuple[TrainState, StepMetrics]:
        # The key depends on the step alone, so a resumed run draws the same samples.
        key_of_step = jax.random.fold_in(key, state.step)
        whole = state if mesh is None else _gathered(state, mesh)
        variables = whole.params, whole.frozen
        if deterministic is None:
            gradients, logged = gradients_of_parts(
                outputs, *variables, key_of_step, batch, accumulate
            )
        else:
            in_order = InOrder(outputs, config.losses, accumulate, deterministic)
            gradients, logged = in_order(*variables, key_of_step, batch, state.step)
        if mesh is not None:
            gradients = keep_parts(gradients, mesh)
        after = _updated(state, gradients, optimizer)
        if mesh is not None:
            after = keep_parts(after, mesh)
        norm = optax.tree.norm(gradients)
        return after, _metrics(logged, norm, after.optimizer, batch)

    return step


def _gathered(state: TrainState, mesh: Mesh) -> TrainState:
    """A state whose variables of the model are whole on every device."""
    variables = jax.lax.with_sharding_constraint(
        (state.params, state.frozen), NamedSharding(mesh, PartitionSpec())
    )
    return state._replace(params=variables[0], frozen=variables[1])


def _updated(
    state: TrainState, gradients: nnx.State, optimizer: optax.GradientTransformation
) -> TrainState:
    """The state after the optimizer has applied the gradients."""
    # The optimizers of optax mix dtypes, which strict promotion would reject.
    with jax.numpy_dtype_promotion("standard"):
        updates, optimizer_state = optimizer.update(
            gradients, state.optimizer, state.params
        )
    params = jax.tree.map(jnp.add, state.params, updates)
    return TrainState(state.step + 1, params, state.frozen, optimizer_state)


def _metrics(
    logged: Logged, norm: jax.Array, optimizer: optax.OptState, batch: TrainBatch
) -> StepMetrics:
    """What a step logs; the losses are averaged over the parts of the batch."""
    in_a_row, skipped = count_skipped(optimizer)
    return StepMetrics(
        loss=logged.losses.total,
        objectness=logged.losses.objectness,
        box=logged.losses.box,
        positives=logged.num_positive / batch.images.shape[0],
        unsampled_fraction=logged.unsampled_fraction,
        gradient_norm=norm,
        skipped=skipped,
        skipped_in_a_row=in_a_row,
    )


def copied_model(graphdef: nnx.GraphDef, state: TrainState) -> RPN:
    """Makes a model whose arrays survive the donation of a state.

    Its parameters are the averaged ones, if the optimizer averages them.

    Args:
        graphdef: the definition of the model, from `init_state`.
        state: the arrays of the run. They are copied on their devices, or to all
            devices if they are spread.
    """
    params = averaged(state.optimizer, state.params)
    return nnx.merge(graphdef, *join_parts(_copied((params, state.frozen))))


@jax.jit
def _copied(tree: Any) -> Any:
    return jax.tree.map(jnp.copy, tree)
