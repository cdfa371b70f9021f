"""Compiles the core for TPUs without having one, and reads what it would cost there.

`pip install libtpu` installs the compiler; no TPU is needed:

    python benchmarks/tpu_compile.py              # v5e, 800 x 1344, 8 images, 100 boxes
    python benchmarks/tpu_compile.py --boxes 20 --json                      # see --help
    python benchmarks/tpu_compile.py train --topology v5e:16x16  # a training step

These programs are compiled:

* `assign` labels, samples and encodes. `assign_atss` and so on do so by another rule of
  `TargetConfig.assigner`, and `sample_libra` and `sample_hardest` by other samplers.
* `loss` adds the two losses and their gradients with respect to the predictions.
* `step` is `compute_losses` with gradients of the head's weights and of the features.
* `step_everywhere` is `step` with a prediction at every anchor.
* `step_cascade` is `step` for a `CascadeHead`, whose anchors each image moves, and
  `predict_cascade` are its predictions at all anchors.
* `dense` is what the others avoid: labels from the matrix of all overlaps.

Each is compiled for one chip with all images, and for several chips that share them.

The table has the bytes that a chip needs, as the compiler counts them, and the largest
stored array that is not a feature map. It counts collectives, and separately those in
loops, because such a loop waits for all chips in each iteration.
`benchmarks/tpu_training.py` describes `train`.
"""

import argparse
import dataclasses
import functools
import json
import math
import os
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

# libtpu and JAX read these when they start: compile for a TPU, run on the CPU.
os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np
import tpu_training
from flax import nnx
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from tpu_hlo import count_collectives, largest_array

import rpn_jax
from rpn_jax import presets

CONFIG = presets.torchvision_fpn()
CASCADE = presets.cascade_rpn()
TARGETS = {
    "assign": CONFIG.targets,
    **{
        f"assign_{name}": dataclasses.replace(CONFIG.targets, assigner=name)
        for name in ("atss", "task_aligned", "sim_ota", "region", "centerness")
    },
    "sample_libra": dataclasses.replace(
        CONFIG.targets,
        positive_sampler="instance_balanced",
        negative_sampler="iou_balanced",
    ),
    "sample_hardest": dataclasses.replace(
        CONFIG.targets, positive_sampler="hardest", negative_sampler="hardest"
    ),
}
STEPS = ("step", "step_everywhere", "step_cascade", "predict_cascade")
PROGRAMS = (*TARGETS, "loss", *STEPS, "dense")
TITLES = (
    *("program", "chips", "arguments MiB", "results MiB", "temporaries MiB"),
    *("largest array", "collectives", "in loops", "seconds"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
    """The sizes of the problem that is compiled, with the preset `torchvision_fpn`.

    Attributes:
        topology: generation and arrangement of the chips, as libtpu names them.
        image: height and width of the padded images.
        batch: number of images, over all chips.
        boxes: rows of ground truth per image.
        channels: number of channels of the feature maps. `largest` does not consider
            arrays with such a dimension.
    """

    topology: str = "v5e:2x4"
    image: tuple[int, int] = (800, 1344)
    batch: int = 8
    boxes: int = 100
    channels: int = 256

    @property
    def feature_shapes(self) -> list[tuple[int, int]]:
        """Height and width of each level."""
        height, width = self.image
        strides = CONFIG.anchors.level_strides
        return [(math.ceil(height / y), math.ceil(width / x)) for y, x in strides]

    @property
    def anchors(self) -> rpn_jax.AnchorGrid:
        """The anchors of an image."""
        return rpn_jax.make_anchors(CONFIG.anchors, self.feature_shapes)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """What the compiler reports about one program. Bytes are per chip.

    Attributes:
        program: name of the program.
        chips: number of chips that it runs on.
        argument_bytes: size of the inputs.
        output_bytes: size of the results.
        temp_bytes: largest size of the temporary arrays that exist at the same time.
        largest: dimensions of the largest stored array that is not a feature map.
        collectives: number of times that each collective occurs in the program.
        collectives_in_loops: number of collectives that are in a loop.
        seconds: time that lowering and compiling took.
    """

    program: str
    chips: int
    argument_bytes: int
    output_bytes: int
    temp_bytes: int
    largest: tuple[int, ...]
    collectives: dict[str, int]
    collectives_in_loops: int
    seconds: float


class Program(NamedTuple):
    """A function to compile and the shapes of its two arguments.

    Attributes:
        function: called with `shared` and `images`.
        shared: arrays that all images have in common.
        images: arrays with one row per image.
    """

    function: Callable[[Any, Any], Any]
    shared: Any
    images: Any


def compile_program(name: str, sizes: Sizes, *, chips: int) -> Report:
    """Compiles one of `PROGRAMS` for `chips` of the topology and reads the result.

    Args:
        name: name of the program.
        sizes: sizes of its arguments.
        chips: number of chips that share the images equally.
    """
    start = time.perf_counter()
    program = make_program(name, sizes)
    topology = topologies.get_topology_desc(
        platform="tpu", topology_name=sizes.topology
    )
    mesh = Mesh(np.array(topology.devices[:chips]), ("images",))
    placed = [
        jax.tree.map(functools.partial(_place, NamedSharding(mesh, spec)), tree)
        for tree, spec in (
            (program.shared, PartitionSpec()),
            (program.images, PartitionSpec("images")),
        )
    ]
    compiled = jax.jit(program.function).lower(*placed).compile()
    text = compiled.as_text()
    memory = compiled.memory_analysis()
    if text is None or memory is None:
        raise RuntimeError(
            "compile_program needs the program and its memory from libtpu, got None. "
            "Install another version of libtpu."
        )
    in_loops, counts = count_collectives(text)
    return Report(
        program=name,
        chips=chips,
        argument_bytes=memory.argument_size_in_bytes,
        output_bytes=memory.output_size_in_bytes,
        temp_bytes=memory.temp_size_in_bytes,
        largest=largest_array(text, without=sizes.channels),
        collectives=dict(counts),
        collectives_in_loops=in_loops,
        seconds=time.perf_counter() - start,
    )


def make_program(name: str, sizes: Sizes) -> Program:
    """Makes one of `PROGRAMS`, with the shapes of its arguments."""
    anchors = sizes.anchors
    b, n, m = sizes.batch, len(anchors), sizes.boxes
    key = jax.eval_shape(lambda: jax.random.key(0))
    truth = (_array(b, m, 4), jax.ShapeDtypeStruct((b, m), jnp.bool_))
    if name == "dense":
        return Program(functools.partial(_dense, anchors), key, truth)
    predictions = jax.eval_shape(rpn_jax.RPNOutput, _array(b, n), _array(b, n, 4))
    if name in TARGETS:
        config = TARGETS[name]
        if not config.reads_predictions:
            predictions = None

        def assign(key, images):
            truth, predictions = images
            return _assign(anchors, key, truth, predictions, config=config)

        return Program(assign, key, (truth, predictions))
    if name == "loss":

        def loss(key, images):
            return jax.value_and_grad(_loss)(images[0], anchors, key, images[1])

        return Program(loss, key, (predictions, truth))

    return _step(name, sizes, key, truth)


def _step(name: str, sizes: Sizes, key: Any, truth: Any) -> Program:
    """One of `STEPS`, with a head."""
    config = CASCADE if name.endswith("cascade") else CONFIG
    anchors = rpn_jax.make_anchors(config.anchors, sizes.feature_shapes)
    make_head = functools.partial(_head, sizes, config)
    graphdef, params = nnx.split(nnx.eval_shape(make_head), nnx.Param)

    def total(params, features, key, truth):
        head = nnx.merge(graphdef, params)
        if name == "step_everywhere":
            return _loss(head(features), anchors, key, truth)
        return rpn_jax.compute_losses(
            head, key, features, anchors, *truth, config=config
        ).losses.total

    def run(shared, images):
        params, key = shared
        features, truth = images
        if name == "predict_cascade":
            return nnx.merge(graphdef, params)(features)
        return jax.value_and_grad(total, (0, 1))(params, features, key, truth)

    features = [
        _array(sizes.batch, h, w, sizes.channels) for h, w in sizes.feature_shapes
    ]
    return Program(run, (params, key), (features, truth))


def _head(
    sizes: Sizes, config: rpn_jax.RPNConfig
) -> rpn_jax.RPNHead | rpn_jax.CascadeHead:
    if config.head == "cascade":
        return rpn_jax.CascadeHead(sizes.channels, config.anchors, rngs=nnx.Rngs(0))
    number = config.anchors.anchors_per_cell
    return rpn_jax.RPNHead(sizes.channels, number, rngs=nnx.Rngs(0))


def _assign(
    anchors, key, truth, predictions=None, config=CONFIG.targets
) -> rpn_jax.Targets:
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(len(truth[0])))

    def of_image(key, boxes, valid, predictions):
        return rpn_jax.assign_targets(
            key, anchors, boxes, valid, predictions=predictions, config=config
        )

    boxes, valid = truth
    return jax.vmap(of_image)(keys, boxes, valid, predictions)


def _loss(output, anchors, key, truth) -> jax.Array:
    targets = _assign(anchors, key, truth)
    losses = rpn_jax.rpn_loss(output, targets, anchors=anchors, config=CONFIG.losses)
    return losses.total


def _dense(anchors, key, truth) -> jax.Array:
    """Labels before sampling, as they are usually computed."""
    del key

    def labels(boxes, valid):
        iou = jnp.where(valid, rpn_jax.pairwise_iou(anchors.boxes, boxes), 0.0)
        forced = (iou == iou.max(0)) & (iou > 0.0)
        positive = (iou.max(1) >= CONFIG.targets.positive_iou) | forced.any(1)
        negative = iou.max(1) < CONFIG.targets.negative_iou
        return jnp.where(positive, 1, jnp.where(negative, 0, -1))

    return jax.vmap(labels)(*truth)


def _array(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def _place(sharding: NamedSharding, leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _row(report: Report) -> str:
    sizes = (report.argument_bytes, report.output_bytes, report.temp_bytes)
    cells = [
        report.program,
        str(report.chips),
        *(f"{size / 2**20:.1f}" for size in sizes),
        " x ".join(map(str, report.largest)),
        ", ".join(f"{n} {name}" for name, n in report.collectives.items()) or "none",
        str(report.collectives_in_loops),
        f"{report.seconds:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Prints a table, or JSON lines."""
    if sys.argv[1:2] == ["train"]:
        tpu_training.main(sys.argv[2:])
        return
    default = Sizes()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--topology", default=default.topology)
    parser.add_argument("--image", type=int, nargs=2, default=default.image)
    parser.add_argument("--batch", type=int, default=default.batch)
    parser.add_argument("--boxes", type=int, default=default.boxes)
    parser.add_argument("--channels", type=int, default=default.channels)
    parser.add_argument("--chips", type=int, nargs="+", default=[1, default.batch])
    parser.add_argument("--programs", nargs="+", choices=PROGRAMS, default=PROGRAMS)
    parser.add_argument(
        "--json", action="store_true", help="print one line per program"
    )
    options = parser.parse_args()
    sizes = Sizes(
        topology=options.topology,
        image=tuple(options.image),
        batch=options.batch,
        boxes=options.boxes,
        channels=options.channels,
    )
    if not options.json:
        print(f"{sizes}, {len(sizes.anchors)} anchors, jax {jax.__version__}\n")
        print(f"| {' | '.join(TITLES)} |\n|" + "---|" * len(TITLES))
    for name in options.programs:
        for chips in options.chips:
            report = compile_program(name, sizes, chips=chips)
            line = json.dumps(dataclasses.asdict(report))
            print(line if options.json else _row(report), flush=True)


if __name__ == "__main__":
    main()
