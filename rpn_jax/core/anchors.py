"""Anchors: the reference boxes around every cell of every feature map."""

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ._arguments import lenient
from ._typing import Array, ArrayLike, Bool, Float, Int
from .anchor_config import AnchorConfig

Edges = Float[np.ndarray, "a cells"]
StaticShape = Sequence[int | np.integer]  # (height, width), known when traced


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class AnchorLevel:
    """The anchors of one feature map: the same few boxes at every cell.

    Attributes:
        cell: the boxes `(x0, y0, x1, y1)` of a cell, relative to its origin.
        stride: `(vertical, horizontal)` pixels between two cells.
        origin: `(y, x)` of the cell at row 0 and column 0, in pixels.
        shape: `(height, width)` of the feature map, in cells.
    """

    cell: tuple[tuple[float, float, float, float], ...]
    stride: tuple[int, int]
    origin: tuple[float, float]
    shape: tuple[int, int]

    @property
    def size(self) -> int:
        """Number of anchors."""
        return len(self.cell) * math.prod(self.shape)

    def x_edges(self) -> tuple[Edges, Edges]:
        """Left and right edges of the boxes of a cell, `[a w]`, in every column."""
        return self._edges(0), self._edges(2)

    def y_edges(self) -> tuple[Edges, Edges]:
        """Top and bottom edges of the boxes of a cell, `[a h]`, in every row."""
        return self._edges(1), self._edges(3)

    def origins(self, axis: int) -> Float[np.ndarray, " cells"]:
        """Pixels at which the cells begin, along `axis` 0 (y) or 1 (x)."""
        steps = np.arange(self.shape[axis]) * self.stride[axis] + self.origin[axis]
        return steps.astype(np.float32)

    def _edges(self, coordinate: int) -> Edges:
        corners = np.array([box[coordinate] for box in self.cell], np.float32)
        return corners[:, None] + self.origins(1 - coordinate % 2)[None, :]


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class AnchorGrid:
    """All anchors of an image as a grid: a few numbers instead of an array.

    To JAX it is a pytree without leaves, that is, a constant: `jit` accepts it as an
    argument and compiles for it, `vmap` shares it among images, and grids with the same
    numbers are equal.

    Attributes:
        levels: the feature maps, in the order of the head's outputs.

    >>> from rpn_jax import AnchorConfig, make_anchors
    >>> len(make_anchors(AnchorConfig(sizes=(32,), strides=(16,)), [(2, 3)]))
    18
    """

    levels: tuple[AnchorLevel, ...]

    def __len__(self) -> int:
        return sum(self.level_sizes)

    @property
    def level_sizes(self) -> tuple[int, ...]:
        """Number of anchors on every level."""
        return tuple(level.size for level in self.levels)

    @property
    def boxes(self) -> Float[jax.Array, "n 4"]:
        """The anchors, in the order (level, y, x, anchor in cell)."""
        return jnp.concatenate([_level_boxes(level) for level in self.levels])

    @lenient
    def take(self, index: Int[ArrayLike, " k"]) -> Float[jax.Array, "k 4"]:
        """Computes `boxes[index]` without the other boxes."""
        boxes = jnp.zeros((len(index), 4), jnp.float32)
        # Every level is asked for every anchor, since which level has it is not static.
        # An edge depends on the shape and on the column or row alone.
        for level, cells in zip(self.levels, self.locate(index), strict=True):
            rows, columns, shapes = cells.y, cells.x, cells.shape
            (left, right), (top, bottom) = level.x_edges(), level.y_edges()
            edges = ((left, columns), (top, rows), (right, columns), (bottom, rows))
            found = [jnp.asarray(edge)[shapes, cell] for edge, cell in edges]
            boxes = jnp.where(cells.is_here[:, None], jnp.stack(found, axis=1), boxes)
        return boxes

    @lenient
    def locate(self, index: Int[ArrayLike, " k"]) -> list["Cells"]:
        """Finds the level and the cell of anchors.

        Args:
            index: indices of the anchors.

        Returns:
            For each level, which of the anchors lie there, and where.
        """
        located, start = [], 0
        for level in self.levels:
            # The index within the level; anchors of other levels count as its first.
            local = jnp.asarray(index, jnp.int32) - start
            is_here = (local >= 0) & (local < level.size)
            cell, shape = jnp.divmod(jnp.where(is_here, local, 0), len(level.cell))
            y, x = jnp.divmod(cell, level.shape[1])
            located.append(Cells(is_here, y, x, shape))
            start += level.size
        return located


Anchors = AnchorGrid | Float[Array, "n 4"]  # a grid, or any boxes


class Cells(NamedTuple):
    """The cells in which anchors lie on one level.

    Attributes:
        is_here: `[k]` whether the anchor lies on this level; if not, all else is 0.
        y: `[k]` row of the cell.
        x: `[k]` column of the cell.
        shape: `[k]` index of the anchor among those of its cell.
    """

    is_here: Bool[jax.Array, " k"]
    y: Int[jax.Array, " k"]
    x: Int[jax.Array, " k"]
    shape: Int[jax.Array, " k"]


@lenient
def make_anchors(
    config: AnchorConfig,
    feature_shapes: Sequence[StaticShape],
    image_size: StaticShape | None = None,
) -> AnchorGrid:
    """The anchors of every cell of every feature map.

    Args:
        config: shapes and spacing of the anchors.
        feature_shapes: `(height, width)` of every level's feature map.
        image_size: `(height, width)` of the padded image. If given, a level's stride is
            `image_size // feature_shape`, as torchvision computes it at run time,
            instead of the one in `config`. The two differ where a level does not divide
            the image: P6 of 800 x 1344 pixels has 61 x 64 rather than 64 x 64.

    Returns:
        A grid of `sum(h * w * a)` anchors.

    Raises:
        ValueError: there is not one feature shape per level, or one is empty.

    >>> grid = make_anchors(AnchorConfig(sizes=(32,), strides=(16,)), [(2, 3)])
    >>> len(grid), grid.boxes[1]
    (18, Array([-16., -16.,  16.,  16.], dtype=float32))
    """
    if len(feature_shapes) != len(config.strides):
        raise ValueError(
            f"make_anchors needs a feature shape for each of the {len(config.strides)} "
            f"levels of the config, got {len(feature_shapes)}: {feature_shapes}."
        )
    feature_shapes = [(int(height), int(width)) for height, width in feature_shapes]
    if not all(height > 0 and width > 0 for height, width in feature_shapes):
        raise ValueError(
            "make_anchors needs feature maps of at least one cell, got shapes "
            f"{feature_shapes}. Pass (height, width) of each, without the channels."
        )
    strides = config.level_strides
    if image_size is not None:
        height, width = (int(side) for side in image_size)
        strides = [(height // h, width // w) for h, w in feature_shapes]
        if not all(step > 0 for stride in strides for step in stride):
            raise ValueError(
                "make_anchors needs an image of at least one pixel a cell, got "
                f"image_size {image_size} for feature shapes {feature_shapes}."
            )
    levels = zip(cell_anchors(config), strides, feature_shapes, strict=True)
    return AnchorGrid(tuple(_make_level(config, *level) for level in levels))


@lenient
def cell_anchors(config: AnchorConfig) -> tuple[Float[np.ndarray, "_ 4"], ...]:
    """The boxes of one cell, for every level.

    Args:
        config: shapes of the anchors; `rounding` names the system that is followed.

    Returns:
        For each level, boxes `(x0, y0, x1, y1)` in float32. They are relative to the
        cell's centre, and under `"legacy"` rounding to its top left corner.

    >>> cell_anchors(AnchorConfig(sizes=(128,), strides=(16,), rounding="legacy"))[0][0]
    array([-84., -40.,  99.,  55.], dtype=float32)
    """
    make = _legacy_cell if config.rounding == "legacy" else _centred_cell
    cells = [make(config, np.array(sizes)) for sizes in config.level_sizes]
    if config.cell_order == "size_major":
        cells = [cell.swapaxes(0, 1) for cell in cells]
    return tuple(cell.reshape(-1, 4).astype(np.float32) for cell in cells)


def _make_level(
    config: AnchorConfig,
    cell: Float[np.ndarray, "a 4"],
    stride: tuple[int, int],
    shape: tuple[int, int],
) -> AnchorLevel:
    offset = 0.0 if config.rounding == "legacy" else config.center_offset
    return AnchorLevel(
        cell=tuple((x0, y0, x1, y1) for x0, y0, x1, y1 in cell.tolist()),
        stride=stride,
        origin=(offset * stride[0], offset * stride[1]),
        shape=(shape[0], shape[1]),
    )


def _level_boxes(level: AnchorLevel) -> Float[jax.Array, "n 4"]:
    (left, right), (top, bottom) = level.x_edges(), level.y_edges()
    shape = (*level.shape, len(level.cell))
    x0, x1 = (jnp.broadcast_to(x.T[None, :, :], shape) for x in (left, right))
    y0, y1 = (jnp.broadcast_to(y.T[:, None, :], shape) for y in (top, bottom))
    return jnp.stack([x0, y0, x1, y1], axis=-1).reshape(-1, 4)


def _centred_cell(
    config: AnchorConfig, sizes: Float[np.ndarray, " s"]
) -> Float[np.ndarray, "r s 4"]:
    """The cell as the generators of detectron2, mmdetection and torchvision make it."""
    ratios = np.array(config.aspect_ratios)[:, None]
    width = np.sqrt(sizes[None, :] ** 2.0 / ratios)
    height = ratios * width
    cell = np.stack([-width, -height, width, height], axis=-1) / 2.0
    return np.round(cell) if config.rounding == "corners" else cell


def _legacy_cell(
    config: AnchorConfig, sizes: Float[np.ndarray, " s"]
) -> Float[np.ndarray, "r s 4"]:
    """The cell as `generate_anchors` of py-faster-rcnn makes it, ratios first."""
    # A square of `base` pixels becomes one rectangle per ratio, with rounded sides.
    base = config.base_size
    ratios = np.array(config.aspect_ratios)
    width = np.round(np.sqrt(base**2 / ratios))
    height = np.round(width * ratios)
    # The scales multiply the sides. Coordinates are inclusive, so a side of s pixels
    # reaches (s - 1) / 2 pixels from its centre.
    x, y = (
        (side[:, None] * sizes[None, :] / base - 1.0) / 2.0 for side in (width, height)
    )
    center = (base - 1.0) / 2.0
    return np.stack([center - x, center - y, center + x, center + y], axis=-1)
