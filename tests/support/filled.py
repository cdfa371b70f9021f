"""Networks with random numbers that NumPy draws, so that nothing is compiled."""

import numpy as np
from flax import nnx

from rpn_jax.models import default_anchors, make_model
from rpn_jax.models.interop.network_shapes import variables_of
from rpn_jax.models.shapes_only import shapes_only


def filled(make, seed=0):
    """The network that `make` makes from a source of randomness."""
    model, rng = shapes_only(make), np.random.default_rng(seed)
    for name, variable in variables_of(model):
        noise = 0.05 * rng.standard_normal(variable.get_value().shape, np.float32)
        variable.set_value(noise + 1.0 if name.endswith(("scale", "var")) else noise)
    return model


def filled_model(backbone, seed=0, *, anchors=None, dtype=None):
    """The network of a backbone, for its usual anchors or others."""
    anchors = anchors or default_anchors(backbone.name)
    options = {"backbone": backbone, "dtype": dtype}
    return filled(lambda rngs: make_model(anchors, **options, rngs=rngs), seed)


def filled_module(make, *, scale, seed=0):
    """The module that `make` makes, with all its parameters drawn from one normal."""
    module, rng = shapes_only(make), np.random.default_rng(seed)
    for _, node in nnx.iter_graph(module):
        if isinstance(node, nnx.Param):
            shape = node.get_value().shape
            node.set_value(scale * rng.standard_normal(shape, np.float32))
    return module
