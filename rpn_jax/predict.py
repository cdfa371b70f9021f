"""Proposals of a model for images, in pixels of the original images."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import UInt8
from PIL import Image

from .core._typing import Array, Float
from .core.config import RPNConfig, TargetConfig
from .core.proposals import Proposals
from .core.rpn import compute_proposals
from .data import GroundTruth, ImageError, ImageSource, PipelineConfig, eval_batches
from .devices import (
    AXIS,
    TrainBatch,
    get_rows,
    make_mesh,
    put_batch,
    put_copies,
    put_rows,
)
from .distributed.progress import progress
from .evaluate import ImageProposals
from .models import RPN, grid_for
from .models.interop import padded_size, resized_size


def predict(
    model: RPN,
    source: ImageSource,
    *,
    pipeline: PipelineConfig,
    config: RPNConfig,
    batch_size: int = 8,
) -> Iterator[tuple[int, ImageProposals]]:
    """Predicts proposals for every image of a source that can be decoded.

    Images are spread over all devices of all processes, and every process yields all of
    them. One program is compiled for each of the few shapes that images are padded to.

    Args:
        model: the trained network.
        source: the images.
        pipeline: settings of resizing and batching.
        config: the settings that the network was trained with.
        batch_size: images per batch; it is rounded up to fill every device.

    Yields:
        The row of an image in `source`, and its proposals, the best first, in pixels of
        the upright original image. Rows come in the order of the pipeline.

    >>> from rpn_jax.data import Scenes
    >>> from rpn_jax.models import BackboneConfig, make_model
    >>> narrow = BackboneConfig(name="tiny_fpn", out_features=8)
    >>> config = RPNConfig()
    >>> model = make_model(config.anchors, backbone=narrow, rngs=nnx.Rngs(0))
    >>> found = predict(
    ...     model,
    ...     Scenes(num_images=1, size=(48, 64)),
    ...     pipeline=PipelineConfig(min_side=48, max_side=64),
    ...     config=config,
    ... )
    >>> [(row, of_image.boxes.shape[1]) for row, of_image in found]
    [(0, 4)]
    """
    mesh = make_mesh()
    batch_size = -(-batch_size // mesh.size) * mesh.size
    propose = _on_mesh(model, mesh, _for_proposals(config))
    batches = eval_batches(
        source,
        pipeline,
        batch_size=batch_size,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    shapes = set()
    with progress.evaluating():
        for batch in batches:
            progress.read()
            places = put_rows((batch.rows, batch.scales), mesh)
            with _first_of(batch.images.shape, shapes):
                found = propose(put_batch(batch, mesh))
            found, (rows, scales) = get_rows((found, places), mesh)
            progress.batch(int((rows >= 0).sum()))
            for i, row in enumerate(rows.tolist()):
                if row >= 0:  # the last batch may be padded
                    of_image = jax.tree.map(lambda x, i=i: x[i], found)
                    yield row, _in_original(of_image, source.truth(row), scales[i])


def predict_alone(
    model: RPN, source: ImageSource, *, system: str, config: RPNConfig
) -> Iterator[tuple[int, ImageProposals]]:
    """Predicts proposals for one image at a time, prepared as another system does.

    An image is resized and padded by the rules of that system for one image. So its
    proposals do not depend on the other images. One program is compiled for each
    distinct padded shape, which is rare in a folder of equal cameras and frequent in a
    folder of many sources. Use `predict` where the time matters more than equality with
    the system.

    Args:
        model: a network with the weights of the system, from `make_foreign_model`.
        source: the images.
        system: name in `SYSTEMS`, whose sizes and padding are used.
        config: the rules of the system.

    Yields:
        As `predict`, in the order of the source.

    >>> from rpn_jax.data import Scenes
    >>> from rpn_jax.models import BackboneConfig, make_model
    >>> narrow = BackboneConfig(name="tiny_fpn", out_features=8)
    >>> config = RPNConfig()
    >>> model = make_model(config.anchors, backbone=narrow, rngs=nnx.Rngs(0))
    >>> source = Scenes(num_images=1, size=(48, 640))
    >>> found = predict_alone(model, source, system="torchvision_320", config=config)
    >>> [row for row, of_image in found]
    [0]
    """
    propose = _on_one_device(model, _for_proposals(config))
    for row in range(len(source)):
        try:
            pixels = source.pixels(row)
        except ImageError:
            continue
        image = prepare(pixels, system)
        found = propose(image.pixels[None], image.size[None])
        of_image = jax.tree.map(lambda x: x[0], jax.device_get(found))
        yield row, _in_original(of_image, source.truth(row), image.scale)


class Prepared(NamedTuple):
    """One image at the size that the network sees.

    Attributes:
        pixels: `[h w 3]` the resized image; the padding is 0, below and to the right.
        size: `[2]` `(height, width)` without the padding.
        scale: `[2]` vertical and horizontal factor from the original to `size`.
    """

    pixels: UInt8[np.ndarray, "h w 3"]
    size: Float[np.ndarray, "2"]
    scale: Float[np.ndarray, "2"]


def prepare(pixels: UInt8[np.ndarray, "_ _ 3"], system: str) -> Prepared:
    """Resizes and pads an image to the sizes that a system would choose for it alone.

    Pillow's bilinear filter resizes, as in detectron2. The other systems use the same
    sizes with another filter; `docs/weights.md` says what this changes.

    Args:
        pixels: the original image.
        system: name in `SYSTEMS`.

    >>> image = prepare(np.zeros((40, 60, 3), np.uint8), "torchvision")
    >>> image.pixels.shape, image.scale.tolist()
    ((800, 1216, 3), [20.0, 20.0])
    """
    original = pixels.shape[:2]
    height, width = resized_size(system, *original)
    if (height, width) != original:
        resized = Image.fromarray(pixels).resize(
            (width, height), Image.Resampling.BILINEAR
        )
        pixels = np.asarray(resized)
    padded = np.zeros((*padded_size(system, height, width), 3), np.uint8)
    padded[:height, :width] = pixels
    size = np.array([height, width], np.float32)
    return Prepared(padded, size, (size / np.array(original)).astype(np.float32))


def _for_proposals(config: RPNConfig) -> RPNConfig:
    """The settings that proposals depend on.

    So networks that were trained by different rules share the programs.
    """
    targets = config.targets
    shared = TargetConfig(
        pixel_offset=targets.pixel_offset, delta_weights=targets.delta_weights
    )
    return RPNConfig(anchors=config.anchors, targets=shared, proposals=config.proposals)


def _first_of(
    shape: tuple[int, ...], known: set[tuple[int, ...]]
) -> contextlib.AbstractContextManager[None]:
    """Tells the watchdog that a shape is compiled, unless it is known, and adds it."""
    if shape in known:
        return contextlib.nullcontext()
    known.add(shape)
    return progress.compiling()


def _in_original(
    found: Proposals, truth: GroundTruth, scale: Float[np.ndarray, "2"]
) -> ImageProposals:
    """The proposals of one image in pixels of the original instead of the resized."""
    boxes = found.boxes[found.valid] / scale[[1, 0, 1, 0]]
    height, width = truth.size
    limits = np.array([width, height, width, height], np.float32)
    scores = np.asarray(found.scores[found.valid])
    return ImageProposals(truth.image_id, np.clip(boxes, 0, limits), scores)


def _on_mesh(
    model: RPN, mesh: Mesh, config: RPNConfig
) -> Callable[[TrainBatch], Proposals]:
    """A compiled function that spreads the images of a batch over the devices."""
    graphdef, state = nnx.split(model)
    if jax.process_count() > 1:
        state = put_copies(state, mesh)
    return lambda batch: _propose_on_mesh(state, batch, graphdef, mesh, config)


# Networks of the same settings share the programs, so evaluating again compiles none.
@functools.partial(jax.jit, static_argnames=("graphdef", "mesh", "config"))
def _propose_on_mesh(
    state: nnx.State,
    batch: TrainBatch,
    graphdef: nnx.GraphDef,
    mesh: Mesh,
    config: RPNConfig,
) -> Proposals:
    """The proposals of a batch that is spread over the devices."""

    def propose(state: nnx.State, batch: TrainBatch) -> Proposals:
        model = nnx.merge(graphdef, state)
        return _propose(model, config, batch.images, batch.image_sizes)

    # Under `shard_map` each device suppresses in its own loop. Without it, the loop
    # would ask all devices in every iteration whether to continue.
    mapped = jax.shard_map(
        propose,
        mesh=mesh,
        in_specs=(PartitionSpec(), PartitionSpec(AXIS)),
        out_specs=PartitionSpec(AXIS),
    )
    return mapped(state, batch)


def _on_one_device(model: RPN, config: RPNConfig) -> Callable[..., Proposals]:
    """A compiled function from images and their sizes to proposals."""
    graphdef, state = nnx.split(model)
    return lambda images, sizes: _propose_alone(state, images, sizes, graphdef, config)


@functools.partial(jax.jit, static_argnames=("graphdef", "config"))
def _propose_alone(
    state: nnx.State,
    images: UInt8[Array, "b h w 3"],
    image_sizes: Float[Array, "b 2"],
    graphdef: nnx.GraphDef,
    config: RPNConfig,
) -> Proposals:
    return _propose(nnx.merge(graphdef, state), config, images, image_sizes)


def _propose(
    model: RPN,
    config: RPNConfig,
    images: UInt8[Array, "b h w 3"],
    image_sizes: Float[Array, "b 2"],
) -> Proposals:
    """The proposals of a batch, in pixels of the resized images."""
    features = model.features(images, image_sizes)
    anchors = grid_for(model, config.anchors, images.shape[1:3])
    return compute_proposals(model.head, features, anchors, image_sizes, config=config)
