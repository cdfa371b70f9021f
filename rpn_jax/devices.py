"""The devices of all processes as one mesh, and a batch spread over them."""

from typing import Any, NamedTuple

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from .core._typing import Array, Bool, Float, UInt8


class TrainBatch(NamedTuple):
    """What a step needs of a batch; `rpn_jax.data.Batch` has the same names.

    Attributes:
        images: `[b h w 3]` bytes, zero where an image is padded.
        image_sizes: `[b 2]` `(height, width)` without the padding.
        gt_boxes: `[b m 4]` in pixels of `images`.
        gt_valid: `[b m]` which rows are boxes.
        gt_ignore: `[b m]` which of them are regions to ignore, not objects.
    """

    images: UInt8[Array, "b h w 3"]
    image_sizes: Float[Array, "b 2"]
    gt_boxes: Float[Array, "b m 4"]
    gt_valid: Bool[Array, "b m"]
    gt_ignore: Bool[Array, "b m"]


def make_mesh() -> Mesh:
    """All devices of all processes in a row, along the axis `data`."""
    devices = jax.device_count()
    return jax.make_mesh((devices,), ("data",), axis_types=(AxisType.Auto,))


def put_batch(batch: Any, mesh: Mesh) -> TrainBatch:
    """Sends a batch to the devices, to each its images.

    Args:
        batch: arrays of this process, with the names of `TrainBatch`.
        mesh: of the devices.

    Returns:
        The batch of all processes.
    """
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    local = TrainBatch(*(getattr(batch, name) for name in TrainBatch._fields))
    return jax.tree.map(
        lambda x: jax.make_array_from_process_local_data(sharding, x), local
    )
