"""Weights of the smallest network, as a file of torchvision would have them."""

import functools

from rpn_jax.models import BackboneConfig, export_weights
from support.filled import filled_model


@functools.cache
def tiny_weights():
    """Random weights of the smallest network, under torchvision's names."""
    backbone = BackboneConfig(name="tiny_fpn", norm="frozen")
    return export_weights(filled_model(backbone), "torchvision")
