"""The two losses with their derivative, computed over the sampled anchors alone.

At most `num_samples` of a quarter of a million anchors have a label of 0 or 1, and the
others add nothing. On a CPU the sampled rows are gathered, so that losses and gradients
cost as much as 256 rows. An accelerator sums over all rows, which it does faster than
it gathers. Both forms compute the formulas of `loss_terms.py`.
"""

import functools

import jax
import jax.numpy as jnp

from ._typing import Array, Float, Int
from .loss_config import LossConfig
from .loss_terms import RPNLosses, masked_losses
from .output import RPNOutput
from .targets import Targets

# Rows that the search for sampled anchors looks at together. Of 8, 16, 32, 64 and 128
# rows, 32 were the fastest with 256 samples of 268,569 anchors on two CPU cores.
_BLOCK = 32

Anchors = Float[Array, "b n 4"] | None  # the anchor of every row, where a loss needs it


@functools.partial(jax.custom_jvp, nondiff_argnums=(3,))
def sampled_losses(
    output: RPNOutput, targets: Targets, anchors: Anchors, config: LossConfig
) -> RPNLosses:
    """The objectness loss and the box loss of a batch.

    Equal to `masked_losses` of all rows, within the rounding of a sum in another order.
    It has a custom derivative, because differentiating through `lax.cond` would save
    every row for the backward pass.

    Args:
        output: one logit per anchor, `[b n]`, and deltas; these are differentiated.
        targets: labels and deltas.
        anchors: the anchor of every row, for the IoU losses.
        config: the losses. With more than `config.num_samples` labels of 0 or 1 in an
            image, all rows are visited.
    """
    return _losses_and_gradients(output, targets, anchors, config)[0]


@sampled_losses.defjvp
def _sampled_losses_jvp(config, primals, tangents):
    output, targets, anchors = primals
    losses, gradients = _losses_and_gradients(output, targets, anchors, config)
    # The objectness loss depends on the logits alone and the box loss on the deltas
    # alone, so each loss changes by one inner product.
    changes = jax.tree.map(
        lambda gradient, tangent: jnp.sum(gradient * tangent), gradients, tangents[0]
    )
    return losses, RPNLosses(objectness=changes.logits, box=changes.deltas)


def _losses_and_gradients(
    output: RPNOutput, targets: Targets, anchors: Anchors, config: LossConfig
) -> tuple[RPNLosses, RPNOutput]:
    """The losses; the gradient of objectness by logits and of box by deltas."""
    over_all = functools.partial(_over_all, config=config)
    if targets.labels.shape[1] <= config.num_samples:  # the rows are a sample already
        return over_all(output, targets, anchors)
    over_sampled = functools.partial(_over_sampled, config=config)
    return jax.lax.platform_dependent(
        output, targets, anchors, cpu=over_sampled, default=over_all
    )


def _over_all(
    output: RPNOutput, targets: Targets, anchors: Anchors, config: LossConfig
) -> tuple[RPNLosses, RPNOutput]:
    def total(output):
        losses = masked_losses(output, targets, anchors, config)
        return losses.total, losses

    gradients, losses = jax.grad(total, has_aux=True)(output)
    return losses, gradients


def _over_sampled(
    output: RPNOutput, targets: Targets, anchors: Anchors, config: LossConfig
) -> tuple[RPNLosses, RPNOutput]:
    # One row more than can be sampled: if even that one is labelled, a caller has given
    # more labels than num_samples, and nothing may be left out.
    index = _first_sampled(targets.labels, config.num_samples + 1)
    take = jax.vmap(lambda x, rows: x[rows])
    put = jax.vmap(lambda x, rows, values: x.at[rows].set(values))
    has_more = (take(targets.labels, index) >= 0).all(axis=1).any()
    over_all = functools.partial(_over_all, config=config)

    def over_gathered(output, targets, anchors):
        gathered = jax.tree.map(lambda x: take(x, index), (output, targets, anchors))
        losses, gradients = over_all(*gathered)
        # Scattered back: the gradient is 0 wherever nothing was sampled.
        zeros = jax.tree.map(jnp.zeros_like, output)
        return losses, jax.tree.map(lambda x, g: put(x, index, g), zeros, gradients)

    return jax.lax.cond(has_more, over_all, over_gathered, output, targets, anchors)


def _first_sampled(labels: Int[Array, "b n"], number: int) -> Int[jax.Array, "b k"]:
    """The first `number` rows with a label of 0 or 1, or all of these and some others.

    The first search finds the blocks that hold any such row, the second one the rows in
    those. For 268,569 rows on two CPU cores, both take a quarter of the time of one
    search over all rows.
    """
    num_images, num_rows = labels.shape
    # Which blocks hold a sampled row. top_k returns equal values in ascending order, so
    # these blocks come first, and in the order of the rows.
    num_blocks = -(-num_rows // _BLOCK)
    padding = ((0, 0), (0, num_blocks * _BLOCK - num_rows))
    blocks = jnp.pad(labels >= 0, padding).reshape(num_images, num_blocks, _BLOCK)
    holds_any = blocks.any(axis=2).astype(jnp.float32)
    block = jax.lax.top_k(holds_any, min(number, num_blocks))[1]
    # All rows of those blocks; rows of the padding become the last row, unsampled.
    rows = (
        block[:, :, None] * _BLOCK + jnp.arange(_BLOCK, dtype=jnp.int32)[None, None, :]
    )
    rows = rows.reshape(num_images, -1)
    is_row, rows = rows < num_rows, jnp.minimum(rows, num_rows - 1)
    # Which of them are sampled, again the sampled ones first.
    is_sampled = (jnp.take_along_axis(labels, rows, axis=1) >= 0) & is_row
    chosen = jax.lax.top_k(is_sampled.astype(jnp.float32), number)[1]
    return jnp.take_along_axis(rows, chosen, axis=1)
