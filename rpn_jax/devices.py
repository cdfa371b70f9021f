"""The devices of all processes as one mesh, and arrays that are spread over them."""

import functools
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from .core._typing import Array, Bool, Float, UInt8

AXIS = "data"  # the only axis of the mesh


class TrainBatch(NamedTuple):
    """The arrays of a batch that devices need, under the names of `rpn_jax.data.Batch`.

    Attributes:
        images: `[b h w 3]` RGB bytes; the padding is zero.
        image_sizes: `[b 2]` `(height, width)` of each image without the padding.
        gt_boxes: `[b m 4]` boxes in pixels of `images`.
        gt_valid: `[b m]` which rows are boxes.
        gt_ignore: `[b m]` which of these are ignored regions instead of objects.
    """

    images: UInt8[Array, "b h w 3"]
    image_sizes: Float[Array, "b 2"]
    gt_boxes: Float[Array, "b m 4"]
    gt_valid: Bool[Array, "b m"]
    gt_ignore: Bool[Array, "b m"]


def make_mesh() -> Mesh:
    """Makes a mesh of all devices of all processes, along one axis `data`.

    The devices of a process follow one another in the order of the processes, because
    process p reads part p of every batch.

    >>> make_mesh().axis_names
    ('data',)
    """
    if jax.process_count() > 1:
        devices = sorted(jax.devices(), key=lambda x: (x.process_index, x.id))
        return Mesh(np.array(devices), (AXIS,), axis_types=(AxisType.Auto,))
    devices = jax.device_count()
    return jax.make_mesh((devices,), (AXIS,), axis_types=(AxisType.Auto,))


def put_batch(batch: Any, mesh: Mesh) -> TrainBatch:
    """Spreads the images of a batch over the devices.

    Args:
        batch: the arrays of this process, under the names of `TrainBatch`.
        mesh: the devices.

    Returns:
        The global batch, which joins the images of all processes.

    >>> from rpn_jax.data import PipelineConfig, Scenes, train_batches
    >>> sizes = PipelineConfig(min_side=48, max_side=64)
    >>> source, mesh = Scenes(size=(48, 64)), make_mesh()
    >>> batch = next(train_batches(source, sizes, batch_size=mesh.size, seed=0))
    >>> put_batch(batch, mesh).images.shape[1:]
    (64, 64, 3)
    """
    return put_rows(
        TrainBatch(*(getattr(batch, name) for name in TrainBatch._fields)), mesh
    )


def put_rows(tree: Any, mesh: Mesh) -> Any:
    """Joins arrays of all processes along their first axis, and spreads them.

    Args:
        tree: arrays of this process.
        mesh: the devices.
    """
    sharding = NamedSharding(mesh, PartitionSpec(AXIS))
    return jax.tree.map(
        lambda x: jax.make_array_from_process_local_data(sharding, x), tree
    )


def get_rows(tree: Any, mesh: Mesh) -> Any:
    """Fetches arrays that are spread over the devices of all processes.

    Args:
        tree: arrays whose first axis is spread.
        mesh: the devices.

    Returns:
        The whole arrays, in every process.
    """
    if jax.process_count() > 1:
        tree = _replicated(tree, NamedSharding(mesh, PartitionSpec()))
    return jax.device_get(tree)


def put_copies(tree: Any, mesh: Mesh) -> Any:
    """Copies arrays that all processes have to every device.

    Args:
        tree: the arrays, which are equal in all processes.
        mesh: the devices.
    """
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def part_shardings(tree: Any, mesh: Mesh) -> Any:
    """The shardings of the arrays that `put_parts` returns.

    Args:
        tree: the arrays, or their shapes.
        mesh: the devices.
    """

    def of_array(x: Any) -> NamedSharding:
        fitting = [axis for axis, n in enumerate(x.shape) if n and n % mesh.size == 0]
        if not fitting:
            return NamedSharding(mesh, PartitionSpec())
        longest = max(fitting, key=lambda axis: x.shape[axis])
        return NamedSharding(mesh, PartitionSpec(*[None] * longest, AXIS))

    return jax.tree.map(of_array, tree)


def put_parts(tree: Any, mesh: Mesh) -> Any:
    """Spreads arrays that all processes have over the devices.

    Args:
        tree: the arrays, which are equal in all processes. Each is spread along its
            longest axis that the devices divide evenly; one that has none is copied to
            every device.
        mesh: the devices.
    """
    return jax.device_put(tree, part_shardings(tree, mesh))


def keep_parts(tree: Any, mesh: Mesh) -> Any:
    """Spreads the arrays of a program as `put_parts` does; under `jit` alone.

    Args:
        tree: the arrays.
        mesh: the devices.
    """
    return jax.lax.with_sharding_constraint(tree, part_shardings(tree, mesh))


def join_parts(tree: Any) -> Any:
    """Copies arrays that are spread over the devices to every device.

    Args:
        tree: the arrays. They stay as they are if none is spread.
    """
    spread = [x for x in jax.tree.leaves(tree) if not x.sharding.is_fully_replicated]
    if not spread:
        return tree
    return _replicated(tree, NamedSharding(spread[0].sharding.mesh, PartitionSpec()))


def local_copy(tree: Any) -> Any:
    """Arrays of this process alone, from arrays that all devices have a copy of."""
    if jax.process_count() == 1:
        return tree
    return jax.tree.map(lambda x: x.addressable_data(0), tree)


@functools.partial(jax.jit, static_argnames="sharding")
def _replicated(tree: Any, sharding: NamedSharding) -> Any:
    return jax.lax.with_sharding_constraint(tree, sharding)
