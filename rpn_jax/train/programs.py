"""The step of a run as compiled programs, one for each shape of a batch."""

import jax
import numpy as np
from jax.sharding import Mesh

from ..data import ImageSource, PipelineConfig, bucket_shapes, num_gt_rows
from ..devices import TrainBatch, put_batch
from .step import Step, TrainState


def compile_steps(
    step: Step,
    state: TrainState,
    source: ImageSource,
    pipeline: PipelineConfig,
    *,
    batch_size: int,
    mesh: Mesh,
) -> dict[tuple[int, ...], Step]:
    """Compiles a step for every shape of a batch, before training starts.

    Args:
        step: the function, from `make_train_step`. Its programs reuse the memory of the
            state that they are given.
        state: the state of the run, for its shapes and shardings.
        source: the images to train on.
        pipeline: how images become batches.
        batch_size: images per step, over all devices.
        mesh: the devices.

    Returns:
        The programs by height and width of the images.
    """
    rows, share = num_gt_rows(source, pipeline), batch_size // jax.process_count()
    programs = {}
    for shape in bucket_shapes(source, pipeline):
        # An empty batch of each bucket's shape is enough for compiling, and donation
        # lets XLA reuse the memory of the old state.
        like = put_batch(_empty_batch(share, shape, rows), mesh)
        programs[shape] = jax.jit(step, donate_argnums=0).lower(state, like).compile()
    return programs


def _empty_batch(size: int, shape: tuple[int, int], rows: int) -> TrainBatch:
    return TrainBatch(
        images=np.zeros((size, *shape, 3), np.uint8),
        image_sizes=np.ones((size, 2), np.float32),
        gt_boxes=np.zeros((size, rows, 4), np.float32),
        gt_valid=np.zeros((size, rows), bool),
        gt_ignore=np.zeros((size, rows), bool),
    )
