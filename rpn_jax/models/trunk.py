"""A trunk: the convolutional layers of a classifier, in stages."""

import dataclasses

from flax import nnx

from .layers import Layer

Step = str | Layer  # the name of a layer, or a function without parameters


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trunk:
    """Layers under torchvision's names, and the order in which they are applied.

    Attributes:
        layers: layers by their names in torchvision.
        stages: for each stage, the names of its layers and the functions between them,
            in the order in which they are applied.
        widths: number of channels after each stage.
        strides: pixels of the image between two cells, after each stage.
    """

    layers: nnx.Dict[Layer]
    stages: tuple[tuple[Step, ...], ...]
    widths: tuple[int, ...]
    strides: tuple[int, ...]
