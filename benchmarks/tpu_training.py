"""Compiles the training step for the chips of a TPU pod, without having one.

    python benchmarks/tpu_compile.py train                     # v5e:16x16, see --help
    python benchmarks/tpu_compile.py train --topology v4:8x8x4 --remat

The network is one with pretrained weights, `--backbone`, and the rules are `pyramid`.
It prints the bytes that a chip needs, every collective with its bytes, and the
predicted weak scaling. The script ends with an error if the step needs more memory than
a chip has, or if anything else than these crosses the links:

* reductions of gradients, of as many bytes as the parameters have;
* with `--shard-parameters`, gathers of the parameters, of as many bytes;
* with `--deterministic`, exchanges and gathers of the gradients, of as many bytes each;
* scalars, of 64 KiB together.

A collective in a loop is an error too, because the loop waits for all chips in each
turn.

The prediction makes these assumptions:

* A chip computes at a share of its peak, `--utilization`.
* A collective on n chips sends (n - 1) / n of its bytes, and an all-reduce twice that.
* The links of a chip have their published bandwidth, and all are used.
* Computing and sending do not overlap.
* Latency, input, and the network between pods take no time.
"""

import argparse
import dataclasses
import os
import time
from collections.abc import Sequence
from typing import Any

# libtpu and JAX read these when they start: compile for a TPU, run on the CPU.
os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from tpu_hlo import Collective, read_collectives

from rpn_jax.devices import AXIS, TrainBatch, part_shardings
from rpn_jax.models.shapes_only import shapes_only
from rpn_jax.train import (
    OptimizerConfig,
    TrainConfig,
    build_model,
    build_optimizer,
    resolve,
)
from rpn_jax.train.programs import keyed_step
from rpn_jax.train.step import state_shapes
from rpn_jax.train.train_config import ResolvedConfig

SCALARS = 64 * 2**10  # bytes that counts, losses and norms may have together
CHIPS = (1, 8, 32, 64, 128, 256, 512)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chip:
    """What Google publishes of a chip (https://cloud.google.com/tpu/docs).

    Attributes:
        memory: bytes of its memory.
        flops: peak operations per second in bfloat16.
        links: bytes per second that all its links together send, and as many that they
            receive.
    """

    memory: int
    flops: float
    links: float


KINDS = {
    "v4": Chip(memory=32 * 2**30, flops=275e12, links=300e9),
    "v5e": Chip(memory=16 * 2**30, flops=197e12, links=200e9),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """What the compiler reports about a training step. Bytes are per chip.

    Attributes:
        chips: number of chips.
        argument_bytes: size of the state and the batch.
        output_bytes: size of the results that do not reuse the memory of the state.
        temp_bytes: largest size of the temporary arrays that exist at the same time.
        parameter_bytes: size of all trained parameters.
        flops: number of operations per step.
        collectives: what travels between chips.
        seconds: time that lowering and compiling took.
    """

    chips: int
    argument_bytes: int
    output_bytes: int
    temp_bytes: int
    parameter_bytes: int
    flops: float
    collectives: list[Collective]
    seconds: float

    @property
    def memory(self) -> int:
        """Bytes that a chip needs."""
        return self.argument_bytes + self.output_bytes + self.temp_bytes


def compile_step(
    config: ResolvedConfig, mesh: Mesh, *, image: tuple[int, int], boxes: int
) -> Report:
    """Compiles the training step of a configuration.

    Args:
        config: the settings of the run.
        mesh: the chips.
        image: height and width of the padded images.
        boxes: rows of ground truth per image.
    """
    start = time.perf_counter()
    model = shapes_only(lambda rngs: build_model(config, rngs))
    optimizer, _ = build_optimizer(config, num_steps=1000)
    graphdef, state = state_shapes(model, optimizer, mesh)
    if config.shard_parameters:
        state = jax.tree.map(
            lambda x, sharding: x.update(sharding=sharding),
            state,
            part_shardings(state, mesh),
        )

    step = keyed_step(graphdef, optimizer, config, mesh)
    key = jax.eval_shape(lambda: jax.random.key(0))
    everywhere = NamedSharding(mesh, PartitionSpec())
    key = jax.ShapeDtypeStruct(key.shape, key.dtype, sharding=everywhere)
    batch = _batch(config.batch_size, image, boxes, mesh)
    compiled = jax.jit(step, donate_argnums=1).lower(key, state, batch).compile()
    text, memory = compiled.as_text(), compiled.memory_analysis()
    if text is None or memory is None:
        raise RuntimeError(
            "compile_step needs the program and its memory from libtpu, got None. "
            "Install another version of libtpu."
        )
    return Report(
        chips=mesh.size,
        argument_bytes=memory.argument_size_in_bytes,
        output_bytes=memory.output_size_in_bytes - memory.alias_size_in_bytes,
        temp_bytes=memory.temp_size_in_bytes,
        parameter_bytes=sum(
            x.size * x.dtype.itemsize for x in jax.tree.leaves(state.params)
        ),
        flops=float((compiled.cost_analysis() or {}).get("flops", 0.0)),
        collectives=read_collectives(text),
        seconds=time.perf_counter() - start,
    )


def faults_of(report: Report, chip: Chip, config: ResolvedConfig) -> list[str]:
    """What a training step must not do, and does.

    Args:
        report: what the compiler reports.
        chip: the chip.
        config: the settings of the run.

    Returns:
        A sentence per fault.
    """
    faults = []
    if report.memory > chip.memory:
        faults.append(f"A chip needs {report.memory} of {chip.memory} bytes.")
    if looping := [x for x in report.collectives if x.in_loop]:
        faults.append(f"{len(looping)} collectives are in a loop: {looping[:3]}.")
    whole = 1.01 * report.parameter_bytes + SCALARS
    gathers = config.shard_parameters or config.deterministic
    for kinds, allowed in (
        (("all-reduce", "reduce-scatter"), whole),
        (("all-gather",), whole if gathers else SCALARS),
        (("all-to-all",), whole if config.deterministic else SCALARS),
        (("collective-permute",), SCALARS),
    ):
        num_bytes = sum(x.num_bytes for x in report.collectives if x.kind in kinds)
        if num_bytes > allowed:
            faults.append(
                f"{' and '.join(kinds)} have {num_bytes} bytes; {allowed:.0f} are "
                "expected at most."
            )
    return faults


def seconds_of_links(report: Report, chip: Chip, chips: int) -> float:
    """The predicted time of all collectives on a number of chips."""
    times = {"all-reduce": 2, "reduce-scatter": report.chips}
    sent = sum(times.get(x.kind, 1) * x.num_bytes for x in report.collectives)
    return sent * (chips - 1) / chips / chip.links


def _batch(size: int, image: tuple[int, int], boxes: int, mesh: Mesh) -> TrainBatch:
    spread = NamedSharding(mesh, PartitionSpec(AXIS))

    def array(dtype: Any, *shape: int) -> Any:
        return jax.ShapeDtypeStruct((size, *shape), dtype, sharding=spread)

    return TrainBatch(
        images=array(jnp.uint8, *image, 3),
        image_sizes=array(jnp.float32, 2),
        gt_boxes=array(jnp.float32, boxes, 4),
        gt_valid=array(jnp.bool_, boxes),
        gt_ignore=array(jnp.bool_, boxes),
    )


def _print(report: Report, chip: Chip, utilization: float) -> None:
    sizes = {
        "arguments": report.argument_bytes,
        "results": report.output_bytes,
        "temporaries": report.temp_bytes,
        "together": report.memory,
        "memory of a chip": chip.memory,
        "parameters": report.parameter_bytes,
    }
    print("| bytes of a chip | MiB |\n|---|---|")
    for name, size in sizes.items():
        print(f"| {name} | {size / 2**20:,.1f} |")
    print("\n| collective | number | bytes | chips | in loops |\n|---|---|---|---|---|")
    kinds = sorted({(x.kind, x.group, x.in_loop) for x in report.collectives}, key=str)
    for kind in kinds:
        found = [x for x in report.collectives if (x.kind, x.group, x.in_loop) == kind]
        num_bytes = sum(x.num_bytes for x in found)
        print(f"| {kind[0]} | {len(found)} | {num_bytes:,} | {kind[1]} | {kind[2]} |")
    computing = report.flops / chip.flops / utilization
    print(
        f"\n{report.flops / 1e9:,.0f} GFLOP per chip and step, {1e3 * computing:.1f} "
        f"ms at {utilization:.0%} of the peak. {report.seconds:.0f} s to compile.\n"
    )
    print("| chips | ms of links | efficiency |\n|---|---|---|")
    for chips in CHIPS:
        sending = seconds_of_links(report, chip, chips)
        share = computing / (computing + sending)
        print(f"| {chips} | {1e3 * sending:.2f} | {share:.1%} |")


def main(arguments: Sequence[str]) -> None:
    """Prints tables, and raises an error if a demand is not met.

    Args:
        arguments: the command line after `train`.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--topology", default="v5e:16x16")
    parser.add_argument("--chips", type=int, help="takes the first ones alone")
    parser.add_argument("--images-per-chip", type=int, default=1)
    parser.add_argument("--image", type=int, nargs=2, default=(800, 1344))
    parser.add_argument("--boxes", type=int, default=100)
    parser.add_argument("--backbone", default="resnet50_fpn")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--optimizer", default="adamw")
    parser.add_argument("--accumulate", type=int, default=1)
    parser.add_argument("--frozen-stages", type=int, default=0)
    parser.add_argument("--utilization", type=float, default=0.4)
    for flag in ("--remat", "--shard-parameters", "--deterministic"):
        parser.add_argument(flag, action="store_true")
    options = parser.parse_args(arguments)
    devices = topologies.get_topology_desc(
        platform="tpu", topology_name=options.topology
    ).devices[: options.chips]
    mesh = Mesh(np.array(devices), (AXIS,), axis_types=(AxisType.Auto,))
    names = {field.name for field in dataclasses.fields(TrainConfig)}
    settings = {name: x for name, x in vars(options).items() if name in names}
    batch_size = options.images_per_chip * mesh.size
    optimizer = OptimizerConfig(name=options.optimizer)
    settings |= {"batch_size": batch_size, "optimizer": optimizer}
    config = resolve(TrainConfig(data="photos.json", **settings))
    # As with pretrained weights, which are not needed to compile.
    config = dataclasses.replace(
        config, init_weights="resnet50.pth", weights_system="torchvision"
    )
    print(f"{vars(options)}, {mesh.size} chips, jax {jax.__version__}\n", flush=True)
    image = (options.image[0], options.image[1])
    report = compile_step(config, mesh, image=image, boxes=options.boxes)
    chip = KINDS[options.topology.partition(":")[0]]
    _print(report, chip, options.utilization)
    if faults := faults_of(report, chip, config):
        raise SystemExit(" ".join(faults))
