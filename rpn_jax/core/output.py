"""The predictions of a head: the container that losses and proposals read."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ._typing import Array, Float


class RPNOutput(NamedTuple):
    """Predictions for every anchor, in the order (level, y, x, anchor in cell).

    The batch axis may be absent.

    Attributes:
        logits: `[b n]`, the logit of being an object, or `[b n 2]`, one logit for
            background and one for object, in this order.
        deltas: `[b n 4]`, the shifts `(dx, dy)` and log scales `(dw, dh)` that
            `encode_boxes` defines.

    >>> output = RPNOutput(logits=jnp.zeros((2, 9)), deltas=jnp.zeros((2, 9, 4)))
    >>> output.deltas.shape
    (2, 9, 4)
    """

    logits: Float[Array, "*b_n"] | Float[Array, "*b_n 2"]
    deltas: Float[Array, "*b_n 4"]


def objectness_logits(output: RPNOutput) -> Float[jax.Array, "*b_n"]:
    """The logit of being an object, in float32, for either form of `output.logits`.

    The softmax over two logits equals the sigmoid of their difference, so both have the
    same cross entropy. Losses and proposals therefore support one logit only.
    """
    logits = jnp.asarray(output.logits, jnp.float32)
    if logits.ndim == output.deltas.ndim:
        return logits[..., 1] - logits[..., 0]
    return logits
