"""A network of a few hundred parameters, and batches for it."""

import jax
import numpy as np
from flax import nnx

import rpn_jax
from rpn_jax.devices import TrainBatch
from rpn_jax.models import RPN, Backbone
from rpn_jax.models.layers import Builder
from rpn_jax.models.trunk import Trunk

from .filled import filled

RULES = rpn_jax.RPNConfig(
    anchors=rpn_jax.AnchorConfig(sizes=(12.0,), strides=(8,)),
    targets=rpn_jax.TargetConfig(num_samples=16),
    losses=rpn_jax.LossConfig(num_samples=16),
)


def make_rpn(seed=0, frozen_stages=0, remat=False):
    """Makes two convolutions with a stride of 8 together, and a head on 6 channels."""

    def make(rngs):
        build = Builder(norm="group", dtype=None, rngs=rngs)
        layers = {
            "first": build.conv(3, 4, stride=4, use_bias=True),
            "second": build.conv(4, 6, stride=2, use_bias=True),
        }
        trunk = Trunk(
            layers=nnx.Dict(layers),
            stages=(("first",), ("second", jax.nn.relu)),
            widths=(4, 6),
            strides=(4, 8),
        )
        head = rpn_jax.RPNHead(6, 3, rngs=rngs)
        backbone = Backbone(trunk, frozen_stages=frozen_stages, remat=remat)
        return RPN(backbone, head)

    return filled(make, seed)


def make_batch(size=4, seed=0, shape=(32, 40), rows=3):
    """Makes noise images with boxes; the last row is an ignored region or padding."""
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 20, (size, rows, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(6, 12, (size, rows, 2))], 2)
    ignore = np.zeros((size, rows), bool)
    ignore[:, -1] = True
    return TrainBatch(
        images=rng.integers(0, 256, (size, *shape, 3), np.uint8),
        image_sizes=np.tile(np.float32(shape), (size, 1)),
        gt_boxes=boxes.astype(np.float32),
        gt_valid=rng.random((size, rows)) < 0.8,
        gt_ignore=ignore,
    )
