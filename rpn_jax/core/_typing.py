"""The vocabulary of every signature.

Dimensions have the same names everywhere: `b` images, `l` levels, `h w c` feature maps,
`a` anchors per cell, `n` anchors of an image, `m` rows of ground truth (padding
included), `k` samples or proposals. Boxes are `(x0, y0, x1, y1)` in pixels of the
padded input image.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax
import numpy as np
from jax.typing import DTypeLike as DTypeLike
from jaxtyping import Bool as Bool
from jaxtyping import Float as Float
from jaxtyping import Int as Int
from jaxtyping import Key
from jaxtyping import UInt8 as UInt8
from jaxtyping import UInt32 as UInt32

Array = jax.Array | np.ndarray  # NumPy is welcome wherever JAX is
# Public functions take lists too. They check shapes after `_arguments.lenient` has made
# arrays of them, so lists are for type checkers only.
if TYPE_CHECKING:
    _Row = Sequence[float | jax.Array]
    ArrayLike = Array | _Row | Sequence[_Row] | Sequence[Sequence[_Row]]
else:
    ArrayLike = Array
PRNGKey = Key[jax.Array, ""] | UInt32[Array, "words"]  # typed, or raw of 2 or 4
Scalar = float | np.number | Float[Array, ""] | Int[Array, ""]
ImageSize = Sequence[Scalar] | Float[Array, "2"] | Int[Array, "2"]  # (height, width)
DeltaWeights = tuple[float, float, float, float]  # factors of (dx, dy, dw, dh)
