"""The head: from feature maps to a logit and four deltas for every anchor."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from ._arguments import lenient
from ._typing import ArrayLike, Bool, DTypeLike, Float, Int
from .anchors import AnchorGrid
from .output import RPNOutput


class RPNHead(nnx.Module):
    """3x3 convolutions, and 1x1 convolutions for objectness and box deltas.

    All levels share one set of weights. Weights are initialised from N(0, 0.01) and
    biases with 0, as in Sec. 3.1.3 of "Faster R-CNN" by Ren et al.
    (https://arxiv.org/abs/1506.01497) and in all systems that follow it.

    Attributes:
        num_logits: number of logits of objectness per anchor, 1 or 2.
        convs: the 3x3 convolutions and then the 1x1 ones, each with a ReLU.
        logits: the 1x1 convolution for objectness. The channels of an anchor are side
            by side: (background, object) if there are two.
        deltas: the 1x1 convolution for box deltas. The four channels of an anchor are
            side by side.

    >>> head = nnx.eval_shape(lambda: RPNHead(4, 3, rngs=nnx.Rngs(0)))
    >>> maps = [jax.ShapeDtypeStruct((2, 5, 6, 4), jnp.float32)]
    >>> output = jax.eval_shape(lambda head, maps: head(maps), head, maps)
    >>> output.logits.shape, output.deltas.shape
    ((2, 90), (2, 90, 4))
    """

    @lenient
    def __init__(
        self,
        in_features: int,
        anchors_per_cell: int,
        *,
        hidden_features: int | None = None,
        num_logits: int = 1,
        num_convs: int = 1,
        num_pointwise: int = 0,
        dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        """Makes the parameters in float32.

        Args:
            in_features: channels of every feature map.
            anchors_per_cell: number of anchors at a cell, which is
                `AnchorConfig.anchors_per_cell`.
            hidden_features: channels between the layers; None uses `in_features`.
            num_logits: 1 for a sigmoid, 2 for a softmax over (background, object).
            num_convs: number of 3x3 convolutions.
            num_pointwise: number of 1x1 convolutions after them. They add little to the
                time of a training step.
            dtype: dtype of the computation, such as bfloat16; None is float32. The
                features are converted to it. The outputs are float32.
            rngs: randomness of the initial parameters.

        Raises:
            ValueError: `num_logits` is neither 1 nor 2, there is no 3x3 convolution, or
                a number is negative.
        """
        if num_logits not in (1, 2) or num_convs < 1 or num_pointwise < 0:
            raise ValueError(
                "RPNHead needs num_logits of 1 (sigmoid) or 2 (softmax), num_convs of "
                "at least 1 and num_pointwise of at least 0, got "
                f"{num_logits}, {num_convs} and {num_pointwise}."
            )
        hidden = in_features if hidden_features is None else hidden_features
        conv = functools.partial(make_conv, dtype=dtype, rngs=rngs)
        self.num_logits = num_logits
        sizes = [3] * num_convs + [1] * num_pointwise
        pairs = [(in_features, hidden)] + [(hidden, hidden)] * (len(sizes) - 1)
        self.convs = nnx.List(
            [conv(*pair, size) for pair, size in zip(pairs, sizes, strict=True)]
        )
        self.logits = conv(hidden, anchors_per_cell * num_logits, 1)
        self.deltas = conv(hidden, anchors_per_cell * 4, 1)

    @lenient
    def __call__(self, features: Sequence[Float[jax.Array, "b _ _ c"]]) -> RPNOutput:
        """Predicts for all anchors.

        Args:
            features: one map `[b h w c]` per level, in the order of the anchors'
                levels.

        Returns:
            Logits `[b n]`, or `[b n 2]`, and deltas `[b n 4]`, float32.
        """
        levels = [self._predict(x) for x in self._cast(features)]
        return jax.tree.map(lambda *xs: jnp.concatenate(xs, axis=1), *levels)

    @lenient
    def at(
        self,
        features: Sequence[Float[jax.Array, "b _ _ c"]],
        anchors: AnchorGrid,
        index: Int[ArrayLike, "b k"],
    ) -> RPNOutput:
        """Predicts for a few anchors of each image, and for no others.

        The result equals the rows `index` of what `__call__` returns. The loss depends
        on 256 of a quarter of a million anchors, so this takes a thousandth of the work
        of the forward and the backward pass.

        Args:
            features: one map per level.
            anchors: the grid that the maps belong to.
            index: indices of the anchors to predict for.

        Returns:
            Logits `[b k]`, or `[b k 2]`, and deltas `[b k 4]`, float32.

        Raises:
            ValueError: the maps do not have the grid's shapes.
        """
        shapes = [x.shape[1:3] for x in features]
        if shapes != [level.shape for level in anchors.levels]:
            raise ValueError(
                "RPNHead.at needs the feature maps that the anchors were made for, got "
                f"maps {shapes} for {[level.shape for level in anchors.levels]}."
            )
        # Each anchor sees a patch around its cell. The convolutions shrink the patches
        # of all anchors of the batch to one cell each.
        index = jnp.asarray(index)
        patches, is_inside, shape = jax.vmap(self._patches, in_axes=(0, None, 0))(
            self._cast(features), anchors, index
        )
        x, is_inside = (v.reshape(-1, *v.shape[2:]) for v in (patches, is_inside))
        for i, conv in enumerate(self.convs):
            if i > 0:  # outside the map a convolution sees zeros, as its padding has
                x = jnp.where(is_inside[..., None], x, 0)
            x = jax.nn.relu(_without_padding(conv, x))
            if conv.kernel_size == (3, 3):
                is_inside = is_inside[:, 1:-1, 1:-1]
        # A cell predicts for all its anchors: pick the one that was asked for.
        output = self._outputs(x)
        rows = jnp.arange(index.size)
        picked = jax.tree.map(lambda v: v[rows, shape.reshape(-1)], output)
        return jax.tree.map(lambda v: v.reshape(*index.shape, *v.shape[1:]), picked)

    def _cast(
        self, features: Sequence[Float[jax.Array, "b _ _ c"]]
    ) -> list[Float[jax.Array, "b _ _ c"]]:
        """The maps in the dtype of the computation, without relying on promotion."""
        return [x.astype(self.logits.dtype or jnp.float32) for x in features]

    def _predict(self, x: Float[jax.Array, "b h w c"]) -> RPNOutput:
        for conv in self.convs:
            x = jax.nn.relu(conv(x))
        return self._outputs(x)

    def _outputs(self, x: Float[jax.Array, "b h w c"]) -> RPNOutput:
        logits = self.logits(x).astype(jnp.float32)
        deltas = self.deltas(x).astype(jnp.float32)
        shape = (x.shape[0], -1) if self.num_logits == 1 else (x.shape[0], -1, 2)
        return RPNOutput(logits.reshape(shape), deltas.reshape(x.shape[0], -1, 4))

    def _patches(
        self,
        features: list[Float[jax.Array, "_ _ c"]],
        anchors: AnchorGrid,
        index: Int[jax.Array, " k"],
    ) -> tuple[
        Float[jax.Array, "k p p c"], Bool[jax.Array, "k p p"], Int[jax.Array, " k"]
    ]:
        """The cells that each anchor's prediction depends on.

        Returns:
            The patches, which of their cells lie on the map, and the index of each
            anchor among those of its cell.
        """
        # A patch has one cell more on each side per 3x3 convolution. Cells are counted
        # through all levels; `outside` stands for a cell beyond the map.
        reach = sum(conv.kernel_size == (3, 3) for conv in self.convs)
        offsets = jnp.arange(-reach, reach + 1, dtype=jnp.int32)[None, :]
        levels = [x.reshape(-1, x.shape[-1]) for x in features]
        outside = sum(len(cells) for cells in levels)
        size = (index.shape[0], 2 * reach + 1, 2 * reach + 1)
        place, start = jnp.full(size, outside, jnp.int32), 0
        shape = jnp.zeros(index.shape, jnp.int32)
        for x, cells in zip(features, anchors.locate(index), strict=True):
            # Where the patches of the anchors of this level lie.
            height, width = x.shape[:2]
            rows, columns = cells.y[:, None] + offsets, cells.x[:, None] + offsets
            is_row = (rows >= 0) & (rows < height) & cells.is_here[:, None]
            is_column = (columns >= 0) & (columns < width)
            is_here = is_row[:, :, None] & is_column[:, None, :]
            cell = start + rows[:, :, None] * width + columns[:, None, :]
            place = jnp.where(is_here, cell, place)
            shape += cells.shape
            start += height * width
        patches = jax.lax.platform_dependent(
            place, *levels, cpu=_take_at_once, default=_take_by_level
        )
        return patches, place != outside, shape


def make_conv(inputs: int, outputs: int, size: int, **options: Any) -> nnx.Conv:
    """A convolution with the initial weights of a head.

    Args:
        inputs: number of input channels.
        outputs: number of output channels.
        size: height and width of the kernel.
        **options: further arguments of `nnx.Conv`.
    """
    initial = nnx.initializers.normal(0.01)
    return nnx.Conv(inputs, outputs, (size, size), kernel_init=initial, **options)


def _take_at_once(
    place: Int[jax.Array, "k p p"], *levels: Float[jax.Array, "_ c"]
) -> Float[jax.Array, "k p p c"]:
    """The cells at places counted through all levels; zeros beyond the last.

    It gathers from a copy of all levels, which is the fastest form on a CPU.
    """
    zeros = jnp.zeros((1, levels[0].shape[1]), levels[0].dtype)
    return jnp.concatenate([*levels, zeros]).at[place].get(mode="promise_in_bounds")


def _take_by_level(
    place: Int[jax.Array, "k p p"], *levels: Float[jax.Array, "_ c"]
) -> Float[jax.Array, "k p p c"]:
    """The same level by level: on an accelerator, a copy would be the largest array."""
    found, start = jnp.zeros((), levels[0].dtype), 0
    for level in levels:
        is_here = (place >= start) & (place < start + len(level))
        cells = level[jnp.where(is_here, place - start, 0)]
        found = jnp.where(is_here[..., None], cells, found)
        start += len(level)
    return found


def _without_padding(
    conv: nnx.Conv, x: Float[jax.Array, "b h w c"]
) -> Float[jax.Array, "..."]:
    """The outputs of `conv` whose windows lie inside `x`."""
    bias = conv.bias
    kernel, offset = conv.kernel[...], 0.0 if bias is None else bias[...]
    x, kernel, offset = (
        jnp.asarray(v, conv.dtype or x.dtype) for v in (x, kernel, offset)
    )
    if x.shape[1:3] == kernel.shape[:2]:  # one window: a matmul, which is faster
        y = x.reshape(len(x), -1) @ kernel.reshape(-1, kernel.shape[-1])
        return (y + offset.reshape(1, -1)).reshape(len(x), 1, 1, -1)
    layout = ("NHWC", "HWIO", "NHWC")
    y = jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "VALID", dimension_numbers=layout
    )
    return y + offset.reshape(1, 1, 1, -1)
