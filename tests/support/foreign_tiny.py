"""Weights of the smallest network, as a file of torchvision would have them."""

import functools

import numpy as np
from flax import nnx

from rpn_jax.models import BackboneConfig, default_anchors, export_weights, make_model
from rpn_jax.models.interop.network_shapes import variables_of


@functools.cache
def tiny_weights():
    """Random weights of the smallest network, under torchvision's names."""
    anchors, rng = default_anchors("tiny_fpn"), np.random.default_rng(0)
    backbone = BackboneConfig(name="tiny_fpn", norm="frozen")
    make = functools.partial(make_model, anchors, backbone=backbone)
    model = nnx.eval_shape(lambda: make(rngs=nnx.Rngs(0)))
    for name, variable in variables_of(model):
        noise = 0.05 * rng.standard_normal(variable.get_value().shape, np.float32)
        variable.set_value(noise + 1.0 if name.endswith(("scale", "var")) else noise)
    return export_weights(model, "torchvision")
