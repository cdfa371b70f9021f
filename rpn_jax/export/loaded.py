"""A function that was read from a file."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..core._typing import Array as AnyArray
from ..core.proposals import Proposals
from .description import Array, Description


class Loaded:
    """A function that was read from a file.

    Attributes:
        description: what the file says about itself.
    """

    def __init__(
        self, description: Description, run: Callable[..., Mapping[str, Any]], path: str
    ) -> None:
        """Combines a program with its description.

        Args:
            description: what the file says about itself.
            run: from the inputs in their order to the outputs by name.
            path: the file, for the messages of errors.
        """
        self.description = description
        self._run, self._path = run, path

    def __call__(self, *arrays: AnyArray) -> Proposals:
        """Computes the proposals of a batch.

        Args:
            *arrays: the inputs, in the order of `description.inputs`. Sizes may be
                integers.

        Returns:
            The proposals of every image, in pixels of the images that the network saw.

        Raises:
            ValueError: an array does not have the shape or the dtype of its input.
        """
        inputs = self.description.inputs
        if len(arrays) != len(inputs):
            raise ValueError(
                f"{self._path} needs {len(inputs)} inputs: "
                f"{', '.join(map(str, inputs))}. It got {len(arrays)}."
            )
        checked = [self._checked(*x) for x in zip(inputs, arrays, strict=True)]
        numbers = [len(array) for array in checked]
        if len(set(numbers)) > 1 or numbers[0] == 0:
            raise ValueError(
                f"{self._path} needs inputs for one number of images, at least one, "
                f"got {', '.join(map(str, numbers))}."
            )
        return Proposals(**self._run(*checked))

    def _checked(self, wanted: Array, array: AnyArray) -> AnyArray:
        """The array; sizes in integers become floats."""
        if wanted.name == "image_sizes" and array.dtype.kind in "iu":
            array = np.asarray(array, wanted.dtype)
        fits = array.ndim == len(wanted.shape) and array.shape[1:] == wanted.shape[1:]
        if not fits or array.dtype.name != wanted.dtype:
            raise ValueError(
                f"{self._path} needs {wanted}, got {list(array.shape)} of "
                f"{array.dtype.name}. It was exported for images of "
                f"{' x '.join(map(str, self.description.image_shape))} pixels: give it "
                "arrays for this size, or export it for another one."
            )
        return array
