"""The two compositions of all stages: one for training loops, one for inference."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Key

from ._arguments import lenient
from ._typing import Array, ArrayLike, Bool, Float, Int, PRNGKey
from .anchors import AnchorGrid
from .boxes import is_proper
from .cascade_head import CascadeHead, FirstStage
from .config import RPNConfig, TargetConfig
from .head import RPNHead
from .keys import threefry_key
from .losses import RPNLosses, RPNMetrics, rpn_loss, rpn_metrics
from .output import RPNOutput
from .proposals import Proposals, propose
from .targets import Samples, count_degenerate, sample_targets, share

T = TypeVar("T")
Head = RPNHead | CascadeHead | Callable[[Sequence[jax.Array]], RPNOutput]


class TrainOutput(NamedTuple):
    """The losses of a training step, and what it logs.

    Attributes:
        losses: the losses; differentiate `losses.total`.
        metrics: counts of the sampled anchors.
        unsampled_fraction: share of the boxes that no sampled positive regresses to.
        num_degenerate: number of valid boxes that are degenerate and count as padding.
    """

    losses: RPNLosses
    metrics: RPNMetrics
    unsampled_fraction: Float[jax.Array, ""]
    num_degenerate: Int[jax.Array, ""]


@lenient
def compute_losses(
    head: Head,
    key: PRNGKey,
    features: Sequence[Float[jax.Array, "b _ _ c"]],
    anchors: AnchorGrid,
    gt_boxes: Float[ArrayLike, "b m 4"],
    gt_valid: Bool[ArrayLike, "b m"],
    image_sizes: Float[ArrayLike, "b 2"] | Int[ArrayLike, "b 2"] | None = None,
    *,
    gt_ignore: Bool[ArrayLike, "b m"] | None = None,
    image_index: Int[ArrayLike, " b"] | None = None,
    config: RPNConfig = RPNConfig(),
) -> TrainOutput:
    """Targets and losses of a batch, from its feature maps.

    The losses depend on the sampled anchors alone. So an `RPNHead` predicts at those
    anchors only, which gives the same losses and gradients in a fraction of the time.
    Any other head, such as `lambda x: model.apply(params, x)`, predicts everywhere.

    A `CascadeHead` predicts everywhere in its first stage, and at the sampled anchors
    in its second. The targets of the second stage, and the metrics, are about the moved
    anchors, and the box loss is the sum of both stages.

    Args:
        head: maps features to an `RPNOutput`.
        key: randomness of the samples. Each image folds its index into it.
        features: a map `[b h w c]` for each level.
        anchors: the anchors of those maps.
        gt_boxes: boxes `(x0, y0, x1, y1)` of every image, in pixels.
        gt_valid: which rows are boxes; the others are padding and may hold anything.
        image_sizes: `(height, width)` of every image without its padding. Needed if
            `config.targets` has an `allowed_border` or `ignore_padding`.
        gt_ignore: which of the valid rows are ignored regions instead of objects.
        image_index: index of every image in the whole batch, if this is a part of it.
            The sample of an image then does not depend on where it is computed. None
            counts from 0.
        config: the rules.

    Returns:
        The losses, and counts to log.

    Raises:
        ValueError: the maps do not have the shapes of the anchors, or `config` needs
            `image_sizes` and got none.

    >>> from flax import nnx
    >>> from rpn_jax import AnchorConfig, RPNHead, make_anchors
    >>> def losses_of(key):
    ...     head = RPNHead(4, 3, rngs=nnx.Rngs(0))
    ...     boxes, valid = jnp.zeros((2, 5, 4)), jnp.zeros((2, 5), bool)
    ...     maps = [jnp.zeros((2, 3, 4, 4))]
    ...     grid = make_anchors(AnchorConfig(sizes=(32,), strides=(16,)), [(3, 4)])
    ...     return compute_losses(head, key, maps, grid, boxes, valid).losses
    >>> jax.eval_shape(losses_of, jax.random.key(0)).box.shape
    ()
    """
    if image_index is None:
        image_index = jnp.arange(len(gt_boxes), dtype=jnp.int32)
    # Folded as a key of threefry, since other generators differ under `vmap`.
    gt = _GroundTruth(
        jax.vmap(jax.random.fold_in, in_axes=(None, 0))(
            threefry_key(key), jnp.asarray(image_index)
        ),
        gt_boxes,
        gt_valid,
        image_sizes,
        gt_ignore,
    )
    if isinstance(head, CascadeHead):
        stage = _cascade_losses(head, features, anchors, gt, config)
    else:
        stage = _plain_losses(head, features, anchors, gt, config)
    samples, output, losses = stage
    return TrainOutput(
        losses=losses,
        metrics=rpn_metrics(output, samples.targets),
        unsampled_fraction=_unsampled_fraction(samples, gt_boxes, gt_valid, gt_ignore),
        num_degenerate=jnp.sum(
            jax.vmap(count_degenerate)(gt_boxes, gt_valid), dtype=jnp.int32
        ),
    )


@lenient
def compute_proposals(
    head: Head,
    features: Sequence[Float[jax.Array, "b _ _ c"]],
    anchors: AnchorGrid,
    image_sizes: Float[Array, "b 2"] | Int[Array, "b 2"],
    *,
    training: bool = False,
    config: RPNConfig = RPNConfig(),
) -> Proposals:
    """Proposals of a batch, from its feature maps. No gradient passes through them.

    Args:
        head: maps features to an `RPNOutput`.
        features: a map `[b h w c]` for each level.
        anchors: the anchors of those maps.
        image_sizes: `(height, width)` of every image without its padding; boxes are
            clipped to it.
        training: uses the training limits, for a second stage that trains on proposals.
        config: the rules.

    Returns:
        A fixed number of boxes per image, and which of them are proposals.

    Raises:
        ValueError: the head predicts for another number of anchors.

    >>> from flax import nnx
    >>> from rpn_jax import AnchorConfig, RPNHead, make_anchors
    >>> def proposals_of(maps):
    ...     head = RPNHead(4, 3, rngs=nnx.Rngs(0))
    ...     grid = make_anchors(AnchorConfig(sizes=(32,), strides=(16,)), [(3, 4)])
    ...     return compute_proposals(head, [maps], grid, jnp.ones((2, 2)))
    >>> jax.eval_shape(proposals_of, jnp.zeros((2, 3, 4, 4))).boxes.shape
    (2, 1000, 4)
    """
    rules = config.proposals.for_training() if training else config.proposals
    output = jax.lax.stop_gradient(head(features))
    return propose(output, anchors, image_sizes, config=rules)


class _GroundTruth(NamedTuple):
    """What the targets of a batch depend on, beside the anchors and the rules."""

    keys: Key[jax.Array, " b"]
    boxes: Float[ArrayLike, "b m 4"]
    valid: Bool[ArrayLike, "b m"]
    image_sizes: Float[ArrayLike, "b 2"] | Int[ArrayLike, "b 2"] | None
    ignore: Bool[ArrayLike, "b m"] | None


class _Stage(NamedTuple):
    """The sampled anchors of a stage, the predictions for them, and its losses."""

    samples: Samples
    output: RPNOutput
    losses: RPNLosses


def _plain_losses(
    head: RPNHead | Callable[[Sequence[jax.Array]], RPNOutput],
    features: Sequence[Float[jax.Array, "b _ _ c"]],
    anchors: AnchorGrid,
    gt: _GroundTruth,
    config: RPNConfig,
) -> _Stage:
    """The losses of an `RPNHead`, or of a function."""
    # Sample first, then predict at the sampled anchors only. If the rules read the
    # predictions, or the head cannot predict at a few anchors, predict everywhere once.
    needed = config.targets.reads_predictions
    everywhere = None
    if needed or not isinstance(head, RPNHead):
        everywhere = head(features)
    predictions = everywhere if needed else None
    samples = _sample(anchors, gt, predictions, config.targets)
    index = samples.anchor_index
    if everywhere is None and isinstance(head, RPNHead):
        output = head.at(features, anchors, index)
    else:
        output = _take(head(features) if everywhere is None else everywhere, index)
    boxes = jax.vmap(anchors.take)(index)
    losses = rpn_loss(output, samples.targets, anchors=boxes, config=config.losses)
    return _Stage(samples, output, losses)


def _cascade_losses(
    head: CascadeHead,
    features: Sequence[Float[jax.Array, "b _ _ c"]],
    anchors: AnchorGrid,
    gt: _GroundTruth,
    config: RPNConfig,
) -> _Stage:
    """The second stage of a `CascadeHead`, with the losses of both stages."""
    first = head.first(features)
    first_loss = _first_box_loss(first, anchors, gt, config)
    # The moved anchors differ from image to image, so they are matched as any boxes.
    moved = first.moved(anchors)
    everywhere = None
    if config.targets.reads_predictions:
        everywhere = head.everywhere(first, anchors)
    samples = _sample(moved, gt, everywhere, config.targets)
    index = samples.anchor_index
    output = head.second(first, anchors, index)
    boxes = _take(moved, index)
    losses = rpn_loss(output, samples.targets, anchors=boxes, config=config.losses)
    return _Stage(samples, output, losses._replace(box=losses.box + first_loss))


def _first_box_loss(
    first: FirstStage, anchors: AnchorGrid, gt: _GroundTruth, config: RPNConfig
) -> Float[jax.Array, ""]:
    """The loss of the first stage of a `CascadeHead`, which has no objectness."""
    # Other randomness than the second stage has.
    keys = jax.vmap(lambda key: jax.random.fold_in(key, 1))(gt.keys)
    samples = _sample(anchors, gt._replace(keys=keys), None, config.grid_targets)
    deltas = _take(first.deltas, samples.anchor_index)
    boxes = jax.vmap(anchors.take)(samples.anchor_index)
    output = RPNOutput(jnp.zeros_like(deltas[..., 0]), deltas)
    losses = rpn_loss(output, samples.targets, anchors=boxes, config=config.losses)
    return config.cascade.first_box_weight * losses.box


def _sample(
    anchors: AnchorGrid | Float[jax.Array, "b n 4"],
    gt: _GroundTruth,
    predictions: RPNOutput | None,
    config: TargetConfig,
) -> Samples:
    """The sampled anchors of every image, which have a grid or boxes of their own."""

    def of_image(anchors, gt, predictions):
        return sample_targets(
            gt.keys,
            anchors,
            gt.boxes,
            gt.valid,
            gt.image_sizes,
            gt_ignore=gt.ignore,
            predictions=predictions,
            config=config,
        )

    return jax.vmap(of_image)(anchors, gt, predictions)


def _take(tree: T, index: Int[jax.Array, "b k"]) -> T:
    """A few rows of each image."""
    return jax.tree.map(lambda x: jax.vmap(lambda v, rows: v[rows])(x, index), tree)


def _unsampled_fraction(
    samples: Samples,
    gt_boxes: Float[ArrayLike, "b m 4"],
    gt_valid: Bool[ArrayLike, "b m"],
    gt_ignore: Bool[ArrayLike, "b m"] | None,
) -> Float[jax.Array, ""]:
    """Share of the objects of a batch that no sampled positive regresses to."""
    is_object = jnp.asarray(gt_valid) & jax.vmap(is_proper)(gt_boxes)
    if gt_ignore is not None:
        is_object &= ~jnp.asarray(gt_ignore)

    # Strike out the objects that a positive regresses to, and count the others.
    def count(is_object, gt_index, labels):
        row = jnp.where(labels == 1, gt_index, is_object.shape[0])  # else dropped
        return jnp.sum(is_object.at[row].set(False, mode="drop"), dtype=jnp.int32)

    unsampled = jax.vmap(count)(is_object, samples.gt_index, samples.targets.labels)
    total = jnp.sum(is_object, dtype=jnp.int32)
    return share(jnp.sum(unsampled, dtype=jnp.int32), total)
