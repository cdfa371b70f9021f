"""Networks with shapes in place of arrays."""

from collections.abc import Callable
from typing import TypeVar

import jax
from flax import nnx

M = TypeVar("M")


def shapes_only(make: Callable[[nnx.Rngs], M]) -> M:
    """Makes a module with a `jax.ShapeDtypeStruct` in place of every array.

    Nothing is computed and nothing is compiled.

    Args:
        make: makes the module; its argument is the source of randomness.

    Returns:
        The module.

    >>> shapes_only(lambda rngs: nnx.Linear(2, 3, rngs=rngs)).kernel.shape
    (2, 3)
    """
    return nnx.eval_shape(lambda: make(_OneKey(0)))


class _OneKey(nnx.Rngs):
    """Gives the same key for every parameter, because no number is drawn.

    `nnx.Rngs` counts the keys. Flax takes half of the time of `nnx.eval_shape` for it,
    because each count prints the traced program.
    """

    def params(self) -> jax.Array:
        """The key."""
        return self.default.key[...]
