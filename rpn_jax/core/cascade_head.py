"""The head of Cascade RPN: a first stage moves the anchors, a second one judges them.

"Cascade RPN: Delving into High-Quality Region Proposal Network with Adaptive
Convolution" by Vu et al. (https://arxiv.org/abs/1909.06720). Each cell has one anchor:

1. A dilated 3x3 convolution sees what lies around the cell. From it, the first stage
   predicts how to move the anchor, and nothing else.
2. An adaptive convolution reads the same features at nine points of the moved anchor.
   From it, the second stage predicts objectness, and how to move the anchor again.

No gradient passes from the second stage through the moved anchors. mmdetection clips
these to the image; here they are not clipped, since proposals are in the end.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ._arguments import lenient
from ._typing import Array, ArrayLike, DTypeLike, Float, Int
from .adaptive import Places, adaptive_convolution
from .anchor_config import AnchorConfig
from .anchors import AnchorGrid, make_anchors
from .boxes import decode_boxes
from .config import MAX_LOG_SCALE
from .head import make_conv
from .output import RPNOutput

# What the outputs of each stage are multiplied by: `target_stds` of mmdetection.
FIRST_SCALE = (0.1, 0.1, 0.5, 0.5)
SECOND_SCALE = (0.05, 0.05, 0.1, 0.1)


class FirstStage(NamedTuple):
    """What the first stage computes.

    Attributes:
        cells: `[b n c]` the features of every cell, in the order of the anchors.
        deltas: `[b n 4]` deltas from every anchor to the moved anchor.
    """

    cells: Float[jax.Array, "b n c"]
    deltas: Float[jax.Array, "b n 4"]

    def moved(self, anchors: AnchorGrid) -> Float[jax.Array, "b n 4"]:
        """The moved anchors of every image. No gradient passes through them."""
        deltas = jax.lax.stop_gradient(self.deltas)
        return jax.vmap(decode_boxes, in_axes=(0, None))(deltas, anchors.boxes)


class CascadeHead(nnx.Module):
    """A first stage that moves one anchor per cell, and a second that looks there.

    All levels share one set of weights, which are initialised as those of `RPNHead`.

    Attributes:
        anchor_config: shapes and spacing of the anchors.
        num_logits: number of logits of objectness per anchor, 1 or 2.
        conv: the dilated 3x3 convolution of the first stage, with a ReLU.
        first_deltas: the 1x1 convolution that moves the anchors.
        adaptive: the 3x3 convolution at nine points of a moved anchor, with a ReLU and
            without a bias.
        logits: the 1x1 convolution for objectness.
        deltas: the 1x1 convolution for box deltas.
    """

    @lenient
    def __init__(
        self,
        in_features: int,
        anchor_config: AnchorConfig,
        *,
        hidden_features: int | None = None,
        num_logits: int = 1,
        dilation: int = 3,
        dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        """Makes the parameters in float32.

        Args:
            in_features: channels of every feature map.
            anchor_config: shapes and spacing of the anchors. The second stage has to
                know how many cells an anchor spans.
            hidden_features: channels of both stages; None uses `in_features`.
            num_logits: 1 for a sigmoid, 2 for a softmax over (background, object).
            dilation: cells between two neighbouring points of the first convolution.
            dtype: dtype of the computation, such as bfloat16; None is float32. The
                features are converted to it. The outputs are float32.
            rngs: randomness of the initial parameters.

        Raises:
            ValueError: `num_logits` is neither 1 nor 2, a cell has several anchors, or
                their strides are not known before the image.
        """
        number = anchor_config.anchors_per_cell
        if num_logits not in (1, 2) or number != 1 or anchor_config.strides_from_image:
            raise ValueError(
                "CascadeHead needs num_logits of 1 or 2, and one anchor per cell with "
                f"strides_from_image=False, got {num_logits}, {number} per cell "
                f"and strides_from_image={anchor_config.strides_from_image}."
            )
        hidden = in_features if hidden_features is None else hidden_features
        conv = functools.partial(make_conv, dtype=dtype, rngs=rngs)
        self.anchor_config = anchor_config
        self.num_logits = num_logits
        self.conv = conv(in_features, hidden, 3, kernel_dilation=dilation)
        self.first_deltas = conv(hidden, 4, 1)
        self.adaptive = conv(hidden, hidden, 3, use_bias=False)
        self.logits = conv(hidden, num_logits, 1)
        self.deltas = conv(hidden, 4, 1)

    @lenient
    def __call__(self, features: Sequence[Float[jax.Array, "b _ _ c"]]) -> RPNOutput:
        """Predicts for all anchors.

        Args:
            features: one map `[b h w c]` per level, in the order of the anchors'
                levels.

        Returns:
            Logits `[b n]`, or `[b n 2]`, and deltas `[b n 4]`, float32. The deltas are
            those of both stages together, from the anchor of the grid.
        """
        anchors = make_anchors(self.anchor_config, [x.shape[1:3] for x in features])
        first = self.first(features)
        second = self.everywhere(first, anchors)
        return second._replace(deltas=_together(first.deltas, second.deltas))

    @lenient
    def first(self, features: Sequence[Float[jax.Array, "b _ _ c"]]) -> FirstStage:
        """The first stage, for all anchors.

        Args:
            features: one map `[b h w c]` per level.
        """
        dtype = self.conv.dtype or jnp.float32
        levels = [jax.nn.relu(self.conv(x.astype(dtype))) for x in features]
        deltas = [self.first_deltas(x).astype(jnp.float32) for x in levels]
        rows = [
            jnp.concatenate([x.reshape(x.shape[0], -1, x.shape[-1]) for x in maps], 1)
            for maps in (levels, deltas)
        ]
        return FirstStage(rows[0], rows[1] * jnp.asarray([[FIRST_SCALE]], jnp.float32))

    def everywhere(self, first: FirstStage, anchors: AnchorGrid) -> RPNOutput:
        """The second stage, for all anchors; see `second`."""
        index = jnp.arange(len(anchors), dtype=jnp.int32)[None, :]
        return self.second(
            first, anchors, jnp.broadcast_to(index, first.deltas.shape[:2])
        )

    @lenient
    def second(
        self,
        first: FirstStage,
        anchors: AnchorGrid,
        index: Int[ArrayLike, "b k"],
    ) -> RPNOutput:
        """The second stage, for a few anchors of each image.

        Args:
            first: what the first stage computed.
            anchors: the grid that the feature maps belong to.
            index: indices of the anchors to predict for.

        Returns:
            Logits `[b k]`, or `[b k 2]`, and deltas `[b k 4]` from the moved anchors,
            float32.
        """
        dtype = self.adaptive.dtype or first.cells.dtype
        kernel = jnp.asarray(self.adaptive.kernel[...], dtype)

        def look(first, index):
            deltas = jax.lax.stop_gradient(first.deltas[index])
            boxes, places = _boxes_in_cells(deltas, anchors, index)
            return adaptive_convolution(
                first.cells.astype(dtype), boxes, places, kernel
            )

        x = jax.nn.relu(jax.vmap(look)(first, jnp.asarray(index)))
        logits, deltas = (
            conv(x[:, :, None]).squeeze(2).astype(jnp.float32)
            for conv in (self.logits, self.deltas)
        )
        if self.num_logits == 1:
            logits = logits.squeeze(-1)
        return RPNOutput(logits, deltas * jnp.asarray([[SECOND_SCALE]], jnp.float32))


def _boxes_in_cells(
    deltas: Float[Array, "k 4"], anchors: AnchorGrid, index: Int[jax.Array, " k"]
) -> tuple[Float[jax.Array, "k 4"], Places]:
    """The moved anchors in cells of their maps, and the places of these maps."""
    # Every level is asked for every anchor, since which level has it is not static.
    boxes = jnp.zeros(deltas.shape, jnp.float32)
    places, start = Places(*[jnp.zeros(index.shape, jnp.int32)] * 3), 0
    for level, cells in zip(anchors.levels, anchors.locate(index), strict=True):
        ((x0, y0, x1, y1),), (vertical, horizontal) = level.cell, level.stride
        half = np.array([(x1 - x0) / horizontal, (y1 - y0) / vertical], np.float32) / 2
        center = jnp.stack([cells.x, cells.y], axis=1).astype(jnp.float32)
        whole = jnp.concatenate([center - half[None], center + half[None]], axis=1)
        boxes = jnp.where(cells.is_here[:, None], whole, boxes)
        height, width = level.shape
        here = Places(*(jnp.int32(v) for v in (start, height, width)))
        places = jax.tree.map(
            lambda new, old, is_here=cells.is_here: jnp.where(is_here, new, old),
            here,
            places,
        )
        start += height * width
    return decode_boxes(deltas, boxes), places


def _together(
    first: Float[Array, "b n 4"], second: Float[Array, "b n 4"]
) -> Float[jax.Array, "b n 4"]:
    """The deltas that carry an anchor as far as both stages do, one after the other."""
    shift, log_scale = jnp.split(first, 2, axis=-1)
    log_scale = jnp.minimum(log_scale, MAX_LOG_SCALE)  # as `decode_boxes` does
    second_shift, second_log_scale = jnp.split(second, 2, axis=-1)
    shift += jnp.exp(log_scale) * second_shift
    return jnp.concatenate([shift, log_scale + second_log_scale], axis=-1)
