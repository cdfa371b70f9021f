"""Gradients that are the same to the bit on any number of devices.

Floating-point sums depend on their order, and compilers order them differently for
other numbers of images. So a device computes its images one at a time, by one program
that is the same everywhere, and their gradients are added in the order of the batch.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh, PartitionSpec

from ..core._typing import Array, Int, PRNGKey
from ..core.boxes import is_proper
from ..core.config import RPNConfig
from ..core.loss_config import LossConfig
from ..core.loss_terms import (
    RPNLosses,
    batch_counts,
    box_normalizer,
    objectness_normalizer,
)
from ..core.rpn import TrainOutput
from ..core.targets import share
from ..devices import AXIS, TrainBatch
from .gradients import Logged, Outputs
from .tree_sum import sum_in_order, sum_of_devices


class Counts(NamedTuple):
    """Numbers of one image, or sums over the images of every part of a batch.

    Attributes:
        objectness: what the divisor of the objectness loss counts.
        box: what the divisor of the box loss counts.
        positives: number of sampled positives.
        unsampled: number of objects to which no sampled positive regresses.
        objects: number of objects.
    """

    objectness: Int[jax.Array, "..."]
    box: Int[jax.Array, "..."]
    positives: Int[jax.Array, "..."]
    unsampled: Int[jax.Array, "..."]
    objects: Int[jax.Array, "..."]


def check_order(config: RPNConfig, num_devices: int) -> None:
    """Raises an error if gradients cannot be added in the order of the batch.

    Args:
        config: the settings of all stages.
        num_devices: number of devices of all processes.

    Raises:
        ValueError: the number of devices is no power of two, or the head is a cascade,
            whose box loss is a sum of two with a divisor each.
    """
    if num_devices & (num_devices - 1):
        raise ValueError(
            "--deterministic needs 1, 2, 4 or another power of two of devices, got "
            f"{num_devices}. Start the run on fewer of them."
        )
    if config.head == "cascade":
        raise ValueError(
            '--deterministic needs rules with head="plain", got "cascade". Choose '
            "another preset, or train without --deterministic."
        )


class InOrder:
    """Computes the gradients of a batch, image by image, and adds them in order.

    The sums form a binary tree over the images of the whole batch. Where the number of
    images is no power of two, its leaves are groups of consecutive images, which are
    added one after the other. A device adds its own branch. The branches are cut into
    as many pieces as there are devices, each device adds one piece of all branches, and
    all gather the pieces. So as many bytes travel as without this order.

    The divisors of the losses are needed before any gradient. They are sums of whole
    numbers, which are exact in any order, and are counted first.
    """

    def __init__(
        self, outputs: Outputs, config: LossConfig, accumulate: int, mesh: Mesh
    ) -> None:
        """Keeps what is the same in every step.

        Args:
            outputs: from `make_outputs`.
            config: the losses, for their divisors.
            accumulate: number of parts of a batch, each with divisors of its own.
            mesh: the devices.
        """
        self._outputs, self._config = outputs, config
        self._accumulate, self._mesh = accumulate, mesh

    def __call__(
        self,
        params: nnx.State,
        frozen: nnx.State,
        key: PRNGKey,
        batch: TrainBatch,
        step: Int[jax.Array, ""],
    ) -> tuple[nnx.State, Logged]:
        """The gradients of a batch.

        Args:
            params: the trained parameters.
            frozen: the other variables.
            key: the key of the step.
            batch: the images.
            step: number of steps made so far.
        """
        everywhere, spread = PartitionSpec(), PartitionSpec(AXIS)
        mapped = jax.shard_map(
            self._on_device,
            mesh=self._mesh,
            in_specs=(everywhere, everywhere, everywhere, everywhere, spread, spread),
            out_specs=everywhere,
            check_vma=False,  # the gradients of a device are not summed by themselves
        )
        index = jnp.arange(batch.images.shape[0])
        (gradients, losses), counts = mapped(params, frozen, key, step, index, batch)
        fraction = jnp.mean(jax.vmap(share)(counts.unsampled, counts.objects))
        return gradients, Logged(losses, jnp.sum(counts.positives), fraction)

    def _on_device(
        self,
        params: nnx.State,
        frozen: nnx.State,
        key: PRNGKey,
        step: Int[jax.Array, ""],
        index: Int[Array, " b"],
        batch: TrainBatch,
    ) -> tuple[tuple[nnx.State, RPNLosses], Counts]:
        """What one device computes of its images; the results of all are equal."""
        number = len(index)

        def outputs(params, place, image):
            return self._outputs(params, frozen, key, place, image)

        counts = self._count(functools.partial(outputs, params), index, batch)
        images_of_part = number * self._mesh.size // self._accumulate

        def gradients_of(i):
            """The gradients of image `i`, and its share of the losses."""
            place, image = jax.tree.map(
                lambda x: jax.lax.dynamic_slice_in_dim(x, i, 1), (index, batch)
            )
            total = jax.tree.map(lambda x: x[i % self._accumulate], counts)

            def loss(params):
                out = outputs(params, place, image)
                losses = self._weighed(out, total, images_of_part)
                return losses.total, losses

            return jax.grad(loss, has_aux=True)(params)

        # A compiler would dissolve a loop of one turn, and mix the program of the image
        # with what follows. It cannot know that no step is negative.
        stop = jnp.where(step < 0, 0, number).astype(jnp.int32)
        mine = sum_in_order(gradients_of, number, stop)
        return sum_of_devices(mine, self._mesh.size), counts

    def _count(
        self,
        outputs: Callable[..., TrainOutput],
        index: Int[Array, " b"],
        batch: TrainBatch,
    ) -> Counts:
        """The counts of every part of the batch, over all devices.

        Unless the rules read predictions, nothing here depends on the network, and the
        compiler leaves it out.
        """

        def of_image(image):
            place, image = jax.tree.map(lambda x: x[None], image)
            return self._counted(outputs(place, image), image)

        of_images = jax.lax.map(of_image, (index, batch))
        parts = jax.tree.map(
            lambda x: jnp.sum(x.reshape(-1, self._accumulate), axis=0, dtype=jnp.int32),
            of_images,
        )
        return jax.lax.psum(parts, AXIS)

    def _counted(self, out: TrainOutput, image: TrainBatch) -> Counts:
        """The counts of one image."""
        positives, negatives = out.metrics.num_positive, out.metrics.num_negative

        def counted(normalizer):
            count = batch_counts(normalizer, positives, negatives)
            return jnp.zeros_like(positives) if count is None else count

        is_object = image.gt_valid & ~image.gt_ignore
        is_object &= jax.vmap(is_proper)(image.gt_boxes)
        objects = jnp.sum(is_object, dtype=jnp.int32)
        unsampled = jnp.round(out.unsampled_fraction * objects.astype(jnp.float32))
        return Counts(
            objectness=counted(objectness_normalizer(self._config)),
            box=counted(box_normalizer(self._config)),
            positives=positives,
            unsampled=unsampled.astype(jnp.int32),
            objects=objects,
        )

    def _weighed(self, out: TrainOutput, total: Counts, images: int) -> RPNLosses:
        """The share of one image in the losses of the batch.

        The losses of an image alone are divided by its own counts. This replaces them
        by those of its part of the batch.

        Args:
            out: the outputs of the image alone.
            total: the counts of its part.
            images: number of images in the part.
        """
        positives, negatives = out.metrics.num_positive, out.metrics.num_negative

        def weight(normalizer, count):
            own = batch_counts(normalizer, positives, negatives)
            if own is None:
                return 1.0 / (images * self._accumulate)
            own, count = (jnp.maximum(x, 1).astype(jnp.float32) for x in (own, count))
            return own / (count * self._accumulate)

        return RPNLosses(
            out.losses.objectness
            * weight(objectness_normalizer(self._config), total.objectness),
            out.losses.box * weight(box_normalizer(self._config), total.box),
        )
