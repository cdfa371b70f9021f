"""The gradients of a batch, and what a step logs of its losses."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from ..core._typing import Array, Float, Int, PRNGKey
from ..core.config import RPNConfig
from ..core.loss_terms import RPNLosses
from ..core.rpn import TrainOutput, compute_losses
from ..devices import TrainBatch
from ..models import grid_for

Outputs = Callable[
    [nnx.State, nnx.State, PRNGKey, Int[Array, " b"], TrainBatch], TrainOutput
]


class Logged(NamedTuple):
    """What a step logs of its losses.

    Attributes:
        losses: the mean of the losses of the parts of a batch.
        num_positive: number of sampled positives of the batch.
        unsampled_fraction: share of the boxes to which no sampled positive regresses.
    """

    losses: RPNLosses
    num_positive: Int[jax.Array, ""]
    unsampled_fraction: Float[jax.Array, ""]


def make_outputs(graphdef: nnx.GraphDef, config: RPNConfig) -> Outputs:
    """Makes the function from parameters and images to losses.

    Args:
        graphdef: the definition of the model.
        config: the settings of all stages.

    Returns:
        A function of the trained parameters, the other variables, the key of a step,
        the places of the images in the whole batch, and the images.
    """
    return functools.partial(_outputs, graphdef, config)


def gradients_of_parts(
    outputs: Outputs,
    params: nnx.State,
    frozen: nnx.State,
    key: PRNGKey,
    batch: TrainBatch,
    accumulate: int,
) -> tuple[nnx.State, Logged]:
    """The gradients of a batch, all images of a part together.

    Args:
        outputs: from `make_outputs`.
        params: the trained parameters.
        frozen: the other variables.
        key: the key of the step.
        batch: the images.
        accumulate: number of parts, whose gradients are averaged.
    """

    def gradients_of(part):
        def loss(params):
            out = outputs(params, frozen, key, *part)
            return out.losses.total, out

        return jax.grad(loss, has_aux=True)(params)

    # A single part takes no scan, because even a loop of one turn is slow on a CPU.
    whole = jnp.arange(batch.images.shape[0]), batch
    if accumulate == 1:
        gradients, out = gradients_of(whole)
        return gradients, _logged(out)

    # The scan holds the activations of only one part at a time, which saves memory.
    def add(total, part):
        gradients, out = gradients_of(part)
        return jax.tree.map(jnp.add, total, gradients), out

    zeros = jax.tree.map(jnp.zeros_like, params)
    total, outs = jax.lax.scan(add, zeros, _interleaved(whole, accumulate))
    return jax.tree.map(lambda x: x / accumulate, total), _logged(outs)


def _outputs(
    graphdef: nnx.GraphDef,
    config: RPNConfig,
    params: nnx.State,
    frozen: nnx.State,
    key: PRNGKey,
    image_index: Int[Array, " b"],
    batch: TrainBatch,
) -> TrainOutput:
    model = nnx.merge(graphdef, params, frozen)
    return compute_losses(
        model.head,
        key,
        model.features(batch.images, batch.image_sizes),
        grid_for(model, config.anchors, batch.images.shape[1:3]),
        batch.gt_boxes,
        batch.gt_valid,
        batch.image_sizes,
        gt_ignore=batch.gt_ignore,
        image_index=image_index,
        config=config,
    )


def _interleaved(tree: Any, parts: int) -> Any:
    """Splits the batch axis so that every device keeps its images."""
    return jax.tree.map(
        lambda x: x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), tree
    )


def _logged(outs: TrainOutput) -> Logged:
    """What is logged of the outputs of one part, or of several along an axis."""
    return Logged(
        losses=jax.tree.map(jnp.mean, outs.losses),
        num_positive=jnp.sum(outs.metrics.num_positive),
        unsampled_fraction=jnp.mean(outs.unsampled_fraction),
    )
