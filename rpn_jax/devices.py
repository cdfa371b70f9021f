"""The devices of all processes as one mesh, and a batch spread over them."""

from typing import Any, NamedTuple

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from .core._typing import Array, Bool, Float, UInt8


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

    >>> make_mesh().axis_names
    ('data',)
    """
    devices = jax.device_count()
    return jax.make_mesh((devices,), ("data",), axis_types=(AxisType.Auto,))


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
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    local = TrainBatch(*(getattr(batch, name) for name in TrainBatch._fields))
    return jax.tree.map(
        lambda x: jax.make_array_from_process_local_data(sharding, x), local
    )
