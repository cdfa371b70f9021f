"""A step and proposals that are compiled at once, for tests of everything around them.

They depend on all parameters, on the pixels of all images, and on the random key, so
that a lost or repeated image changes the weights and the log.
"""

import functools

import jax
import jax.numpy as jnp
import optax
from jax.sharding import PartitionSpec

from rpn_jax.core.proposals import Proposals
from rpn_jax.train.optimizer import count_skipped
from rpn_jax.train.step import StepMetrics, TrainState

NUM_PROPOSALS = 24  # of which some find an object, so that recalls differ


def make_train_step(graphdef, optimizer, key, **options):
    """Makes a step that fits one number for each image; see `train.step`."""
    del graphdef, options

    def step(state, batch):
        key_of_step = jax.random.fold_in(key, state.step)
        wanted = _brightness(batch.images)
        noise = jax.random.uniform(key_of_step, wanted.shape)

        def loss(params):
            return jnp.mean(jnp.square(_number(params) - wanted - 0.1 * noise))

        value, gradients = jax.value_and_grad(loss)(state.params)
        with jax.numpy_dtype_promotion("standard"):
            updates, moments = optimizer.update(
                gradients, state.optimizer, state.params
            )
        params = jax.tree.map(jnp.add, state.params, updates)
        in_a_row, skipped = count_skipped(moments)
        metrics = StepMetrics(
            loss=value,
            objectness=value,
            box=value,
            positives=jnp.mean(jnp.sum(batch.gt_valid.astype(jnp.float32), 1)),
            unsampled_fraction=_digest(batch.images),
            gradient_norm=optax.tree.norm(gradients),
            skipped=skipped,
            skipped_in_a_row=in_a_row,
        )
        return TrainState(state.step + 1, params, state.frozen, moments), metrics

    return step


@functools.partial(jax.jit, static_argnames=("graphdef", "mesh", "config"))
def propose(state, batch, graphdef, mesh, config):
    """Proposes boxes that depend on the parameters and on the brightness."""
    del graphdef, config

    def of_device(state, batch):
        number = jnp.abs(_number(state)) + _brightness(batch.images)
        places = jnp.arange(NUM_PROPOSALS, dtype=jnp.float32)
        x = jnp.mod(97.0 * number[:, None] + 29.0 * places, 80.0)
        y = jnp.mod(97.0 * number[:, None] + 17.0 * places, 48.0)
        side = 12.0 + 4.0 * jnp.mod(places, 4.0)
        scores = jnp.broadcast_to(1 / (1 + places), x.shape)
        return Proposals(jnp.stack([x, y, x + side, y + side], -1), scores, scores > 0)

    return jax.shard_map(
        of_device,
        mesh=mesh,
        in_specs=(PartitionSpec(), PartitionSpec("data")),
        out_specs=PartitionSpec("data"),
    )(state, batch)


def _number(tree):
    leaves = [x for x in jax.tree.leaves(tree) if x.dtype == jnp.float32]
    means = [jnp.mean(x) * (1.0 + place) for place, x in enumerate(leaves)]
    return functools.reduce(jnp.add, means)


def _brightness(images):
    return jnp.mean(images.astype(jnp.float32), (1, 2, 3)) / 255


def _digest(images):
    """A number of 24 bits that depends on every byte, and on the order of images."""
    places = jnp.arange(images[0].size, dtype=jnp.uint32).reshape(images[0].shape)
    order = jnp.arange(len(images), dtype=jnp.uint32)
    weights = (2 * places + 1) * jnp.uint32(2654435761)
    sums = jnp.sum(images.astype(jnp.uint32) * weights, (1, 2, 3), dtype=jnp.uint32)
    total = jnp.sum(sums * (2 * order + 1), dtype=jnp.uint32)
    return (total >> 8).astype(jnp.float32)
