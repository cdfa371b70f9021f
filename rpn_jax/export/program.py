"""What is exported: a function of arrays with an open number of images."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
from flax import nnx

from ..core.anchor_config import AnchorConfig
from ..core.anchors import AnchorGrid, make_anchors
from ..core.config import ProposalConfig, RPNConfig
from ..core.output import RPNOutput
from ..core.proposals import Proposals, propose, select_candidates
from ..core.suppression import Candidates
from ..models import RPN, grid_for
from .description import Array, Description, settings_of


class Program(NamedTuple):
    """What can be written to a file: the way from a network's input to proposals.

    Attributes:
        predict: from all inputs to the predictions for all anchors; the last input is
            the sizes of the images.
        anchors: the anchors.
        config: decoding, selection and suppression.
        description: what the file will say about itself.
    """

    predict: Callable[..., RPNOutput]
    anchors: AnchorGrid
    config: ProposalConfig
    description: Description

    def of_batch(self, *arrays: jax.Array) -> Proposals:
        """The proposals of a batch, whose size may be symbolic.

        Args:
            *arrays: the inputs of the description, in their order.
        """
        output = self.predict(*arrays)
        return propose(output, self.anchors, arrays[-1], config=self.config)

    def of_image(self, *arrays: jax.Array) -> Proposals:
        """The proposals of one image.

        Args:
            *arrays: the inputs, without the axis of the images.
        """
        output = self._predict_one(*arrays)
        return propose(output, self.anchors, arrays[-1], config=self.config)

    def candidates_of_image(self, *arrays: jax.Array) -> Candidates:
        """What enters suppression in one image.

        Args:
            *arrays: the inputs, without the axis of the images.
        """
        output = self._predict_one(*arrays)
        return select_candidates(output, self.anchors, arrays[-1], self.config)

    def _predict_one(self, *arrays: jax.Array) -> RPNOutput:
        output = self.predict(*[x[None] for x in arrays])
        return jax.tree.map(lambda x: x[0], output)


def network_program(
    model: RPN,
    image_shape: Sequence[int],
    *,
    config: RPNConfig,
    source: str | None = None,
) -> Program:
    """The way from the bytes of images to proposals, with the weights.

    Args:
        model: the network. Its preprocessing becomes a part of the program.
        image_shape: `(height, width)` of the images with their padding.
        config: the rules that the network was trained with.
        source: where the weights come from, for the description.

    Returns:
        A program with two inputs: `images`, bytes `[b h w 3]` in RGB with padding at
        the bottom and on the right, and `image_sizes`, `(height, width)` without it.
        Its outputs are `boxes`, `scores` and `valid` of `Proposals`. Boxes are in
        pixels of `images`.

    Raises:
        ValueError: the images are too small for the network or its anchors.

    >>> from rpn_jax.models import BackboneConfig, make_model
    >>> narrow = BackboneConfig(name="tiny_fpn", out_features=8)
    >>> config = RPNConfig()
    >>> model = nnx.eval_shape(
    ...     lambda: make_model(config.anchors, backbone=narrow, rngs=nnx.Rngs(0))
    ... )
    >>> program = network_program(model, (480, 800), config=config)
    >>> [array.shape for array in program.description.inputs]
    [('b', 480, 800, 3), ('b', 2)]
    """
    height, width = map(int, image_shape)
    grid = grid_for(model, config.anchors, (height, width))
    graphdef, state = nnx.split(model)

    def predict(images: jax.Array, sizes: jax.Array) -> RPNOutput:
        return nnx.merge(graphdef, state)(images, sizes)

    inputs = (Array(name="images", shape=("b", height, width, 3), dtype="uint8"), SIZES)
    description = Description(
        content="network",
        inputs=inputs,
        outputs=_outputs(config.proposals),
        image_shape=(height, width),
        settings=settings_of(config.anchors, config.proposals, model.preprocessing),
        source=source,
    )
    return Program(predict, grid, config.proposals, description)


def core_program(
    anchors: AnchorConfig,
    feature_shapes: Sequence[Sequence[int]],
    image_shape: Sequence[int],
    *,
    num_logits: int = 1,
    config: ProposalConfig = ProposalConfig(),
    source: str | None = None,
) -> Program:
    """The way from the predictions of any network to proposals, without weights.

    Args:
        anchors: shapes and spacing of the anchors.
        feature_shapes: `(height, width)` of every level's feature map.
        image_shape: `(height, width)` of the images with their padding.
        num_logits: 1 for a sigmoid, 2 for a softmax over (background, object).
        config: decoding, selection and suppression.
        source: what the predictions come from, for the description.

    Returns:
        A program from `logits` `[b n]`, or `[b n 2]`, `deltas` `[b n 4]` and
        `image_sizes` to the outputs of `network_program`. Anchors are in the order
        (level, y, x, anchor in cell).

    Raises:
        ValueError: the feature maps do not fit the anchors.

    >>> anchors = AnchorConfig(sizes=(32,), strides=(16,))
    >>> program = core_program(anchors, [(2, 3)], (32, 48))
    >>> program.description.content, [x.shape for x in program.description.inputs]
    ('core', [('b', 18), ('b', 18, 4), ('b', 2)])
    """
    height, width = map(int, image_shape)
    size = (height, width) if anchors.strides_from_image else None
    grid = make_anchors(anchors, [tuple(map(int, x)) for x in feature_shapes], size)

    pair = () if num_logits == 1 else (2,)
    inputs = (
        Array(name="logits", shape=("b", len(grid), *pair)),
        Array(name="deltas", shape=("b", len(grid), 4)),
        SIZES,
    )
    description = Description(
        content="core",
        inputs=inputs,
        outputs=_outputs(config),
        image_shape=(height, width),
        settings=settings_of(anchors, config),
        source=source,
    )
    return Program(
        lambda logits, deltas, _: RPNOutput(logits, deltas), grid, config, description
    )


SIZES = Array(name="image_sizes", shape=("b", 2))


def _outputs(config: ProposalConfig) -> tuple[Array, ...]:
    """The outputs of every program, with the names and the order of `Proposals`."""
    rows = ("b", config.post_nms_top_k)
    shapes = {"boxes": (*rows, 4), "scores": rows, "valid": rows}
    dtypes = {"valid": "bool"}
    return tuple(
        Array(name=name, shape=shapes[name], dtype=dtypes.get(name, "float32"))
        for name in Proposals._fields
    )
