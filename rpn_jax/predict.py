"""Proposals of a model for images, in pixels of the original images."""

from collections.abc import Iterator

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh, PartitionSpec

from .core.config import RPNConfig
from .core.proposals import Proposals
from .core.rpn import compute_proposals
from .data import ImageSource, PipelineConfig, eval_batches
from .devices import TrainBatch, make_mesh, put_batch
from .evaluate import ImageProposals
from .models import RPN, grid_for


def predict(
    model: RPN,
    source: ImageSource,
    *,
    pipeline: PipelineConfig,
    config: RPNConfig,
    batch_size: int = 8,
) -> Iterator[tuple[int, ImageProposals]]:
    """Predicts proposals for every image of a source that can be decoded.

    Images are spread over all devices. One program is compiled for each of the few
    shapes that images are padded to.

    Args:
        model: the trained network.
        source: the images.
        pipeline: settings of resizing and batching.
        config: the settings that the network was trained with.
        batch_size: images per batch; it is rounded up to fill every device.

    Yields:
        The row of an image in `source`, and its proposals, the best first, in pixels of
        the upright original image. Rows come in the order of the pipeline.
    """
    mesh = make_mesh()
    batch_size = -(-batch_size // mesh.size) * mesh.size
    propose = _make_propose(model, mesh, config)
    for batch in eval_batches(source, pipeline, batch_size=batch_size):
        found = jax.device_get(propose(put_batch(batch, mesh)))
        for i, row in enumerate(batch.rows.tolist()):
            if row >= 0:  # the last batch may be padded
                # From pixels of the resized image to those of the original one.
                truth = source.truth(row)
                boxes = found.boxes[i][found.valid[i]] / batch.scales[i, [1, 0, 1, 0]]
                height, width = truth.size
                limits = np.array([width, height, width, height], np.float32)
                scores = found.scores[i][found.valid[i]]
                yield (
                    row,
                    ImageProposals(truth.image_id, np.clip(boxes, 0, limits), scores),
                )


def _make_propose(model: RPN, mesh: Mesh, config: RPNConfig):
    graphdef, state = nnx.split(model)

    def propose(state: nnx.State, batch: TrainBatch) -> Proposals:
        model = nnx.merge(graphdef, state)
        features = model.features(batch.images, batch.image_sizes)
        anchors = grid_for(model, config.anchors, batch.images.shape[1:3])
        return compute_proposals(
            model.head, features, anchors, batch.image_sizes, config=config
        )

    # Under `shard_map` each device suppresses in its own loop. Without it, the loop
    # would ask all devices in every iteration whether to continue.
    mapped = jax.shard_map(
        propose,
        mesh=mesh,
        in_specs=(PartitionSpec(), PartitionSpec("data")),
        out_specs=PartitionSpec("data"),
    )
    compiled = jax.jit(mapped)
    return lambda batch: compiled(state, batch)
