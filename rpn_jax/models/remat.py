"""Blocks of a network whose insides are computed again in the backward pass."""

from collections.abc import Iterable

import jax
from flax import nnx

from ..core._typing import Float
from .layers import Conv, FrozenBatchNorm, GroupNorm, Layer, Sequential


def split_blocks(layers: Iterable[Layer]) -> list[Sequential]:
    """Splits the layers of a stage into blocks, in their order.

    A residual block, or a convolution with its norm, ends a block. Other layers join
    the block that they precede: the stem of a ResNet is one, and a stage of VGG16.

    Args:
        layers: the layers and functions of a stage.
    """
    blocks = [Sequential([])]
    for layer in layers:
        # A stage of a ResNet is a sequence of residual blocks.
        parts = [layer]
        if isinstance(layer, Sequential) and not isinstance(layer[0], Conv):
            parts = list(layer)
        for part in parts:
            blocks[-1].append(part)
            if not _is_simple(part):
                blocks.append(Sequential([]))
    return [block for block in blocks if len(block)]


def recomputed(
    block: Sequential, x: Float[jax.Array, "b h w c"]
) -> Float[jax.Array, "b _ _ _"]:
    """Applies a block, and keeps only its input for the backward pass.

    The backward pass computes the block again; see "Training Deep Nets with Sublinear
    Memory Cost" by Chen et al. (https://arxiv.org/abs/1604.06174).

    Args:
        block: the layers.
        x: the maps that they take.

    Returns:
        The maps that the last layer gives.
    """
    # Not `nnx.remat`: it writes the variables back, and those that are not trained
    # belong to no derivative, so that Flax refuses it.
    graphdef, state = nnx.split(block)

    @jax.checkpoint
    def apply(state: nnx.State, x: jax.Array) -> jax.Array:
        return nnx.merge(graphdef, state)(x)

    return apply(state, x)


def _is_simple(layer: Layer) -> bool:
    """Whether a layer is a function, a convolution or a norm."""
    return not isinstance(layer, nnx.Module) or isinstance(
        layer, Conv | FrozenBatchNorm | GroupNorm
    )
