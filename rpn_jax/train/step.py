"""The state of a training run, and the one step that moves it on."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ..core._typing import Float, Int, PRNGKey
from ..core.config import RPNConfig
from ..core.rpn import TrainOutput, compute_losses
from ..devices import TrainBatch
from ..models import RPN, grid_for
from .optimizer import count_skipped


class TrainState(NamedTuple):
    """Everything that a step changes, and the rest of the model.

    Attributes:
        step: how many steps were made.
        params: what is trained.
        frozen: what is not: early stages, statistics of batch norm.
        optimizer: the state of the optimiser.
    """

    step: Int[jax.Array, ""]
    params: nnx.State
    frozen: nnx.State
    optimizer: optax.OptState


class StepMetrics(NamedTuple):
    """What a step logs, all scalars.

    Attributes:
        loss: the sum of both losses.
        objectness: `rpn_loss_cls`.
        box: `rpn_loss_box`.
        positives: sampled positives of an image, on average.
        unsampled_fraction: share of the boxes that no sampled positive regresses to.
        gradient_norm: of all gradients together, before clipping.
        skipped: steps skipped so far since their gradients were not finite.
        skipped_in_a_row: how many of these were the last ones.
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
    model: RPN, optimizer: optax.GradientTransformation, mesh: Mesh
) -> tuple[nnx.GraphDef, TrainState]:
    """The state before the first step, the same on every device.

    Args:
        model: with the parameters to start from.
        optimizer: whose state to begin.
        mesh: of the devices.

    Returns:
        What the model is, and the arrays that it consists of.
    """
    graphdef, params, frozen = nnx.split(model, model.is_trainable, ...)
    step = jnp.zeros((), jnp.int32)
    state = TrainState(step, params, frozen, optimizer.init(params))
    return graphdef, jax.device_put(state, NamedSharding(mesh, PartitionSpec()))


def make_train_step(
    graphdef: nnx.GraphDef,
    optimizer: optax.GradientTransformation,
    key: PRNGKey,
    *,
    config: RPNConfig,
    accumulate: int = 1,
) -> Step:
    """A pure function that makes one step; compile it with `jax.jit`.

    The samples of an image depend on `key`, the step and the image's place in the
    batch, not on the devices that the batch is spread over. Where gradients are not
    finite nothing changes but the step and the counts of `StepMetrics`.

    Args:
        graphdef: of the model.
        optimizer: of `make_optimizer`.
        key: of the samples of the whole run.
        config: the rules of the network.
        accumulate: in how many parts to take a batch; their gradients are averaged, and
            normalizers of the losses see one part at a time.

    Returns:
        From a state, which may be donated, and a batch to the next state and what to
        log.
    """

    def loss(params, frozen, key, index, batch):
        model = nnx.merge(graphdef, params, frozen)
        features = model.features(batch.images, batch.image_sizes)
        has_regions = config.targets.ignore_iof is not None
        out = compute_losses(
            model.head,
            key,
            features,
            grid_for(model, config.anchors, batch.images.shape[1:3]),
            batch.gt_boxes,
            batch.gt_valid if has_regions else batch.gt_valid & ~batch.gt_ignore,
            batch.image_sizes,
            gt_ignore=batch.gt_ignore if has_regions else None,
            image_index=index,
            config=config,
        )
        return out.losses.total, out

    def gradients(state, key, batch):
        def of_part(part):
            return jax.grad(loss, has_aux=True)(state.params, state.frozen, key, *part)

        whole = jnp.arange(batch.images.shape[0]), batch
        if accumulate == 1:  # a loop, even of one turn, is slow on a CPU
            return of_part(whole)

        def add(total, part):
            found, out = of_part(part)
            return jax.tree.map(jnp.add, total, found), out

        nothing = jax.tree.map(jnp.zeros_like, state.params)
        total, outs = jax.lax.scan(add, nothing, _interleaved(whole, accumulate))
        return jax.tree.map(lambda x: x / accumulate, total), outs

    def step(state: TrainState, batch: TrainBatch) -> tuple[TrainState, StepMetrics]:
        found, outs = gradients(state, jax.random.fold_in(key, state.step), batch)
        with jax.numpy_dtype_promotion("standard"):  # optax needs it
            updates, optimizer_state = optimizer.update(
                found, state.optimizer, state.params
            )
        params = jax.tree.map(jnp.add, state.params, updates)
        metrics = _metrics(outs, optax.tree.norm(found), optimizer_state, batch)
        return TrainState(
            state.step + 1, params, state.frozen, optimizer_state
        ), metrics

    return step


def _interleaved(tree: Any, parts: int) -> Any:
    """Splits the batch axis so that every device keeps its images."""
    return jax.tree.map(
        lambda x: x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), tree
    )


def _metrics(
    outs: TrainOutput, norm: jax.Array, optimizer: optax.OptState, batch: TrainBatch
) -> StepMetrics:
    in_a_row, skipped = count_skipped(optimizer)
    positives = jnp.sum(outs.metrics.num_positive) / batch.images.shape[0]
    losses = jax.tree.map(jnp.mean, outs.losses)
    return StepMetrics(
        loss=losses.total,
        objectness=losses.objectness,
        box=losses.box,
        positives=positives,
        unsampled_fraction=jnp.mean(outs.unsampled_fraction),
        gradient_norm=norm,
        skipped=skipped,
        skipped_in_a_row=in_a_row,
    )
