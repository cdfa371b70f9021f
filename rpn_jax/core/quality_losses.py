"""Losses of logits whose sigmoid should be a quality in `[0, 1]`."""

import jax
import jax.numpy as jnp
import optax

from ._typing import Array, Float


def quality_focal_loss(
    logits: Float[Array, "*b_n"], quality: Float[Array, "*b_n"], *, beta: float
) -> Float[jax.Array, "*b_n"]:
    """Cross entropy times the distance from the quality, to the power `beta`.

    Eq. 4 of "Generalized Focal Loss" by Li et al. (https://arxiv.org/abs/2006.04388),
    which recommends a `beta` of 2. It is lowest where the sigmoid is the quality.
    """
    cross_entropy = optax.sigmoid_binary_cross_entropy(logits, quality)
    return jnp.abs(jax.nn.sigmoid(logits) - quality) ** beta * cross_entropy


def varifocal_loss(
    logits: Float[Array, "*b_n"],
    quality: Float[Array, "*b_n"],
    *,
    alpha: float,
    gamma: float,
) -> Float[jax.Array, "*b_n"]:
    """Cross entropy weighted by quality, and where that is 0 by the sigmoid.

    Eq. 2 of "VarifocalNet" by Zhang et al. (https://arxiv.org/abs/2008.13367), which
    recommends an `alpha` of 0.75 and a `gamma` of 2. A row with a quality of 0 counts
    as a negative, with the weight `alpha` times the sigmoid to the power `gamma`.
    """
    cross_entropy = optax.sigmoid_binary_cross_entropy(logits, quality)
    of_negative = alpha * jax.nn.sigmoid(logits) ** gamma
    return jnp.where(quality > 0.0, quality, of_negative) * cross_entropy
