"""A residual network with a pyramid, of a few thousand parameters, and rules for it."""

import dataclasses

import jax
from flax import nnx

import rpn_jax
from rpn_jax.models import RPN, Backbone
from rpn_jax.models.fpn import FPN
from rpn_jax.models.layers import Builder
from rpn_jax.models.resnet import POOL, Bottleneck
from rpn_jax.models.trunk import Trunk

from .filled import filled, filled_module

PLAIN = rpn_jax.RPNConfig(
    anchors=rpn_jax.AnchorConfig(
        sizes=(12, 24, 32), strides=(4, 8, 16), aspect_ratios=(1.0,)
    )
)
CASCADE = dataclasses.replace(PLAIN, head="cascade")


def make_rpn(rules):
    """Makes a stem, two bottlenecks, a pyramid of three maps, and the head of rules."""
    # The numbers of the head are large, so that scores differ by more than rounding.
    return RPN(filled(_backbone), filled_module(_head_of(rules), scale=1.0))


def _backbone(rngs):
    build = Builder(norm="frozen", dtype=None, rngs=rngs)
    layers = {
        "conv1": build.conv(3, 8, 7, stride=2),
        "bn1": build.normalize(8),
        "layer1": Bottleneck(build, 8, 4, 1),
        "layer2": Bottleneck(build, 16, 4, 2),
    }
    trunk = Trunk(
        layers=nnx.Dict(layers),
        stages=(("conv1", "bn1", jax.nn.relu, POOL), ("layer1",), ("layer2",)),
        widths=(8, 16, 16),
        strides=(4, 4, 8),
    )
    return Backbone(trunk, FPN(build, (16, 16), 8))


def _head_of(rules):
    if rules.head == "cascade":
        return lambda rngs: rpn_jax.CascadeHead(8, rules.anchors, rngs=rngs)
    return lambda rngs: rpn_jax.RPNHead(8, 1, rngs=rngs)
