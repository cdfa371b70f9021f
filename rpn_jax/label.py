"""The labels of anchors for images: what the rules of a trained network teach it."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np
from flax import nnx
from jaxtyping import Float, Int, UInt8

from .core.anchor_config import AnchorConfig
from .core.anchors import AnchorGrid
from .core.cascade_head import CascadeHead
from .core.config import RPNConfig, TargetConfig
from .core.matching.association import Matches
from .core.matching.match import match_anchors
from .core.matching.per_object import ObjectAnchors, count_per_object
from .data import ImageSource, PipelineConfig, eval_batches
from .devices import TrainBatch
from .models import RPN, grid_for


class ImageLabels(NamedTuple):
    """The labels of the anchors of one image, and what each of its objects gets.

    Attributes:
        grid: the anchors, or in a cascade those that the first stage moved.
        size: `(height, width)` of the resized image without its padding.
        objects: `[o 4]` the objects in pixels of the resized image, in their order.
        anchor: `[p]` index of every positive anchor.
        row: `[p]` row of the object that it regresses to.
        boxes: `[p 4]` the positive anchors.
        is_ignored: `[n]` which anchors are ignored, eight in a byte (`np.packbits`).
        positives: `[o l]` number of positives of every object on every level.
        ignored: `[o l]` number of ignored anchors whose centre lies in the object.
    """

    grid: AnchorGrid
    size: tuple[int, int]
    objects: Float[np.ndarray, "o 4"]
    anchor: Int[np.ndarray, " p"]
    row: Int[np.ndarray, " p"]
    boxes: Float[np.ndarray, "p 4"]
    is_ignored: UInt8[np.ndarray, " _"]
    positives: Int[np.ndarray, "o l"]
    ignored: Int[np.ndarray, "o l"]

    def shared_with(self, other: "ImageLabels") -> Int[np.ndarray, " o"] | None:
        """Number of anchors that are positives of the same object in both labels.

        In a cascade, an anchor is the same one before and after it is moved.

        Args:
            other: the labels of the same image by other rules.

        Returns:
            The number for every object, or None if the grids differ.
        """
        if self.grid != other.grid:
            return None
        mine, others = (set(zip(x.anchor, x.row, strict=True)) for x in (self, other))
        rows = [row for _, row in mine & others]
        return np.bincount(np.array(rows, int), minlength=len(self.objects))


def label_images(
    model: RPN,
    source: ImageSource,
    *,
    pipeline: PipelineConfig,
    config: RPNConfig,
    batch_size: int = 8,
) -> Iterator[tuple[int, ImageLabels]]:
    """Labels the anchors of every image that can be decoded, before sampling.

    The labels are those that objectness learns from. Images are not augmented. In a
    cascade, they are the labels of the second stage, whose anchors the first one moved.

    Args:
        model: the network. Rules that read predictions use its predictions.
        source: the images with their ground truth.
        pipeline: settings of resizing and batching. All boxes get a row.
        config: the settings that the network was trained with.
        batch_size: images per batch.

    Yields:
        The row of an image in `source`, and its labels.

    >>> from rpn_jax.data import Scenes
    >>> from rpn_jax.models import BackboneConfig, make_model
    >>> small = BackboneConfig(name="tiny_fpn", out_features=16)
    >>> model = make_model(AnchorConfig(), backbone=small, rngs=nnx.Rngs(0))
    >>> sizes = PipelineConfig(min_side=48, max_side=64)
    >>> scenes = Scenes(num_images=1, size=(48, 64))
    >>> labelled = label_images(model, scenes, pipeline=sizes, config=RPNConfig())
    >>> {row: labels.positives.shape for row, labels in labelled}
    {0: (7, 5)}
    """
    graphdef, state = nnx.split(model)
    most = max(-(-int(source.num_boxes.max(initial=0)) // 8) * 8, 8)
    pipeline = dataclasses.replace(pipeline, max_boxes=most)
    for batch in eval_batches(source, pipeline, batch_size=batch_size):
        arrays = TrainBatch(*(getattr(batch, name) for name in TrainBatch._fields))
        grid = grid_for(model, config.anchors, batch.images.shape[1:3])
        found = jax.device_get(
            _label(state, arrays, graphdef, config.anchors, config.targets)
        )
        for i, row in enumerate(batch.rows.tolist()):
            if row >= 0:  # the last batch may be padded
                labelled = jax.tree.map(lambda x, i=i: x[i], found)
                is_object = batch.gt_valid[i] & ~batch.gt_ignore[i]
                size = batch.image_sizes[i]
                objects = batch.gt_boxes[i][is_object]
                yield row, _of_image(labelled, grid, size, objects)


class _Labelled(NamedTuple):
    """What a program computes for an image.

    Attributes:
        matches: the labels.
        counts: the anchors of every row of ground truth.
        moved: `[n 4]` the moved anchors of a cascade; None for a grid.
    """

    matches: Matches
    counts: ObjectAnchors
    moved: Float[jax.Array, "*b_n 4"] | None


def _of_image(
    labelled: _Labelled,
    grid: AnchorGrid,
    size: Float[np.ndarray, "2"],
    objects: Float[np.ndarray, "o 4"],
) -> ImageLabels:
    """Keeps the positives alone, because all labels of a data set fill the memory."""
    labels, gt_index, _ = map(np.asarray, labelled.matches)
    positives, ignored = map(np.asarray, labelled.counts)
    anchor = np.flatnonzero(labels == 1)
    boxes = _boxes_of(grid) if labelled.moved is None else np.asarray(labelled.moved)
    height, width = size.tolist()
    return ImageLabels(
        grid=grid,
        size=(int(height), int(width)),
        objects=objects,
        anchor=anchor,
        row=gt_index[anchor],
        boxes=boxes[anchor],
        is_ignored=np.packbits(labels == -1),
        positives=positives[: len(objects)],
        ignored=ignored[: len(objects)],
    )


@functools.lru_cache(maxsize=8)  # images of one shape have one grid
def _boxes_of(grid: AnchorGrid) -> Float[np.ndarray, "n 4"]:
    return np.asarray(grid.boxes)


# Networks of the same settings share the programs.
@functools.partial(jax.jit, static_argnames=("graphdef", "anchor_config", "rules"))
def _label(
    state: nnx.State,
    batch: TrainBatch,
    graphdef: nnx.GraphDef,
    anchor_config: AnchorConfig,
    rules: TargetConfig,
) -> _Labelled:
    """The labels of a batch, by the functions that training uses."""
    model = nnx.merge(graphdef, state)
    grid = grid_for(model, anchor_config, batch.images.shape[1:3])
    moved = output = None
    # The network runs only if the labels depend on it.
    if isinstance(model.head, CascadeHead):
        first = model.head.first(model.features(batch.images, batch.image_sizes))
        moved = first.moved(grid)
        if rules.assigner_reads_predictions:
            output = model.head.everywhere(first, grid)
    elif rules.assigner_reads_predictions:
        output = model(batch.images, batch.image_sizes)

    def of_image(anchors, output, size, boxes, valid, ignore):
        matches = match_anchors(
            anchors,
            boxes,
            valid,
            size,
            gt_ignore=ignore,
            predictions=output,
            config=rules,
        )
        counts = count_per_object(
            matches,
            anchors,
            boxes,
            valid & ~ignore,
            level_sizes=grid.level_sizes,
            pixel_offset=rules.pixel_offset,
        )
        return matches, counts

    truth = batch.image_sizes, batch.gt_boxes, batch.gt_valid, batch.gt_ignore
    anchors = grid if moved is None else moved
    matches, counts = jax.vmap(of_image)(anchors, output, *truth)
    return _Labelled(matches, counts, moved)
