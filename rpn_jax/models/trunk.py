"""A trunk: the layers of a classifier that look at the image, in stages."""

import dataclasses

from flax import nnx

from .layers import Layer

Step = str | Layer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trunk:
    """Layers under torchvision's names, and the order in which they are applied.

    Attributes:
        layers: by the names that they have in torchvision.
        stages: of every stage the names of its layers, with functions between them.
        widths: channels after every stage.
        strides: pixels of the image between two cells, after every stage.
    """

    layers: nnx.Dict[Layer]
    stages: tuple[tuple[Step, ...], ...]
    widths: tuple[int, ...]
    strides: tuple[int, ...]
