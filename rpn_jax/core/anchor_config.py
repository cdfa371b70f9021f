"""The settings of the anchors: frozen and hashable, so `jit` can take them static."""

import dataclasses
import itertools
import math
from typing import Literal

from ._arguments import lenient_settings
from ._checks import require

Rounding = Literal["none", "corners", "legacy"]
CellOrder = Literal["ratio_major", "size_major"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnchorConfig:
    """Shapes and spacing of the anchors, one entry of `sizes` and `strides` per level.

    Attributes:
        sizes: side in pixels of the square anchor on each level; a tuple of several
            sides gives a level anchors of several sizes.
        strides: pixels of the image between two neighbouring cells, for each level; a
            pair is `(vertical, horizontal)`.
        aspect_ratios: height over width, shared by all levels; the area is kept.
        scales_per_octave: number of anchor sizes that every `s` in `sizes` gives:
            `s * 2 ** (i / scales_per_octave)`. RetinaNet uses 3.
        center_offset: position of an anchor's centre in its cell, in strides: 0.0 is
            the top left corner, 0.5 the middle. Ignored under `"legacy"` rounding.
        rounding: `"none"` keeps real-valued anchors, as detectron2 and mmdetection do;
            `"corners"` rounds the corners around each centre half to even, as
            torchvision does; `"legacy"` enumerates anchors as py-faster-rcnn does, from
            a square of `base_size` pixels with rounded, inclusive sides.
        cell_order: which index is the slow one among the anchors of a cell: the aspect
            ratio (`"ratio_major"`) or the size (`"size_major"`).
        base_size: side in pixels of the square that `"legacy"` rounding starts from;
            16 in py-faster-rcnn and jwyang, for every stride.
        strides_from_image: whether a model takes the stride of a level from the padded
            image, `image_size // feature_shape`, as torchvision does at run time,
            instead of from `strides`. `make_anchors` does so when it gets an
            `image_size`.

    >>> AnchorConfig(sizes=((8, 12), (32, 48)), strides=(8, 16)).anchors_per_cell
    6
    """

    sizes: tuple[float | tuple[float, ...], ...] = (32, 64, 128, 256, 512)
    strides: tuple[int | tuple[int, int], ...] = (4, 8, 16, 32, 64)
    aspect_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    scales_per_octave: int = 1
    center_offset: float = 0.0
    rounding: Rounding = "none"
    cell_order: CellOrder = "ratio_major"
    base_size: int = 16
    strides_from_image: bool = False

    def __post_init__(self) -> None:
        require(
            len(self.sizes) == len(self.strides) > 0,
            "AnchorConfig needs one entry of sizes per stride, at least one, got "
            f"{len(self.sizes)} sizes {self.sizes} and {len(self.strides)} strides "
            f"{self.strides}. For several sizes on one level, nest them in a tuple.",
        )
        require(
            self.scales_per_octave >= 1 and self.base_size >= 1,
            "AnchorConfig needs scales_per_octave and base_size of at least 1, got "
            f"{self.scales_per_octave} and {self.base_size}.",
        )
        sides = [side for level in self.level_sizes for side in level]
        steps = [step for level in self.level_strides for step in level]
        require(
            all(map(len, self.level_sizes)) and len(self.aspect_ratios) > 0,
            "AnchorConfig needs at least one size on every level and one aspect ratio, "
            f"got sizes {self.sizes} and aspect_ratios {self.aspect_ratios}.",
        )
        require(
            all(0 < x < math.inf for x in (*sides, *steps, *self.aspect_ratios)),
            "AnchorConfig needs finite sizes, strides and aspect_ratios above 0, got "
            f"{self.sizes}, {self.strides} and {self.aspect_ratios}.",
        )
        self._refuse_equal_anchors()

    def _refuse_equal_anchors(self) -> None:
        """Two anchors of a cell are equal if their sizes and their ratios are."""
        for level in self.level_sizes:
            require(
                _are_different(level),
                "AnchorConfig needs different sizes on a level, so that no two anchors "
                f"of a cell are equal, got {level} from sizes {self.sizes} with "
                f"scales_per_octave {self.scales_per_octave}. Each size gives that "
                "many; pass 1 if sizes lists all of them.",
            )
        require(
            _are_different(self.aspect_ratios),
            "AnchorConfig needs different aspect_ratios, so that no two anchors of a "
            f"cell are equal, got {self.aspect_ratios}.",
        )

    @property
    def level_sizes(self) -> tuple[tuple[float, ...], ...]:
        """The sides on every level, octave scales included."""
        octave = [
            2.0 ** (i / self.scales_per_octave) for i in range(self.scales_per_octave)
        ]
        nested = [s if isinstance(s, tuple) else (s,) for s in self.sizes]
        return tuple(
            tuple(s * scale for s in sizes for scale in octave) for sizes in nested
        )

    @property
    def level_strides(self) -> tuple[tuple[int, int], ...]:
        """The `(vertical, horizontal)` stride of every level."""
        return tuple(s if isinstance(s, tuple) else (s, s) for s in self.strides)

    @property
    def anchors_per_cell(self) -> int:
        """Number of anchors in a cell, the same on every level.

        Raises:
            ValueError: the levels have different numbers of sizes.
        """
        counts = {len(sizes) * len(self.aspect_ratios) for sizes in self.level_sizes}
        require(
            len(counts) == 1,
            "AnchorConfig needs the same number of sizes on every level, because one "
            f"head serves them all, got {self.sizes}.",
        )
        return counts.pop()


lenient_settings(AnchorConfig)


def _are_different(values: tuple[float, ...]) -> bool:
    """Whether no two numbers are equal, also if one was printed with five digits."""
    return all(
        not math.isclose(low, high, rel_tol=1e-4)
        for low, high in itertools.pairwise(sorted(values))
    )
