"""Converts images to the numbers that the weights of a network expect."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from ..core._typing import Array, Float, Int

Triple = tuple[float, float, float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How bytes become the numbers that a network was trained on.

    The network's input is `(byte / scale - mean) / std`.

    Attributes:
        scale: divisor of the bytes.
        mean: mean of each channel after the division, in `order`.
        std: standard deviation of each channel after the division, in `order`.
        order: order of the channels in the network's input. Images are RGB.

    >>> caffe = Preprocessing(
    ...     scale=1.0, mean=(103.0, 116.0, 123.0), std=(1.0, 1.0, 1.0), order="BGR"
    ... )
    >>> pixel = np.full((1, 1, 1, 3), 128, np.uint8)
    >>> caffe.normalize(pixel, np.array([[1, 1]])).tolist()
    [[[[25.0, 12.0, 5.0]]]]
    """

    scale: float = 255.0
    mean: Triple = (0.485, 0.456, 0.406)
    std: Triple = (0.229, 0.224, 0.225)
    order: Literal["RGB", "BGR"] = "RGB"

    def normalize(
        self,
        images: jax.Array | np.ndarray,
        image_sizes: Float[Array, "b 2"] | Int[Array, "b 2"],
    ) -> Float[jax.Array, "b h w 3"]:
        """The network's input, which is 0 in the padding.

        Args:
            images: `[b h w 3]` RGB bytes, with padding at the bottom and on the right.
            image_sizes: `(height, width)` of every image without its padding.

        Returns:
            The normalised images, in float32.
        """
        # One multiplication and one addition; their constants are computed in float64.
        factor = 1.0 / (np.float64(self.scale) * np.array(self.std))
        offset = -np.array(self.mean) / np.array(self.std)
        x = jnp.asarray(images).astype(jnp.float32)
        if self.order == "BGR":
            x = x[..., ::-1]
        shape = (1, 1, 1, 3)
        x = x * factor.astype(np.float32).reshape(shape)
        x = x + offset.astype(np.float32).reshape(shape)
        return jnp.where(_is_image(x.shape, jnp.asarray(image_sizes)), x, 0.0)


IMAGENET = Preprocessing()


def _is_image(shape: tuple[int, ...], image_sizes: jax.Array) -> jax.Array:
    """Whether each pixel belongs to its image instead of the padding, `[b h w 1]`."""
    sizes = image_sizes.astype(jnp.float32).reshape(-1, 2, 1, 1, 1)
    rows = jnp.arange(shape[1], dtype=jnp.float32).reshape(1, -1, 1, 1)
    columns = jnp.arange(shape[2], dtype=jnp.float32).reshape(1, 1, -1, 1)
    return (rows < sizes[:, 0]) & (columns < sizes[:, 1])
