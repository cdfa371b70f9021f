"""`rpn-jax export`: writes a network with its proposals for other runtimes."""

import dataclasses
import logging
import pathlib
from collections.abc import Sequence
from typing import Annotated, NamedTuple

import tyro
from flax import nnx

from ..core.config import RPNConfig
from ..export import Program, core_program, network_program, write
from ..export.files import check_suffix
from ..models import RPN
from ..models.interop import (
    SYSTEMS,
    SystemName,
    make_foreign_model,
    padded_size,
    read_checkpoint,
)
from ..train import build_model, load_run
from . import flags

_logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """A network and its proposals as one file that runs without rpn_jax.

    The inputs are bytes of images and their sizes, the outputs are proposals. Weights,
    preprocessing and suppression are inside of the file. The number of images is open.

    Attributes:
        target: file to write. `.stablehlo` is an artifact of `jax.export` for CPU, CUDA
            and TPU; `.onnx` is for ONNX Runtime.
        run: folder of the training run; its newest checkpoint is used.
        weights: file with the weights of a detector of another system, instead of
            `run`.
        system: system that `weights` come from; None guesses it from the names of the
            tensors.
        core: exports only what follows the network: logits and deltas in, proposals
            out.
        image_size: height and width in pixels of the padded images. None takes the
            shorter side of the run or the system as the height, and the longer one as
            the width, both as they are padded.
    """

    target: Annotated[str, tyro.conf.arg(name="to")]
    run: str | None = None
    weights: str | None = None
    system: SystemName | None = None
    core: bool = False
    image_size: tuple[int, int] | None = None


class _Network(NamedTuple):
    """A network, its rules, and the size of its images."""

    model: RPN
    config: RPNConfig
    image_size: tuple[int, int]
    source: str


def main(arguments: Sequence[str]) -> str:
    """Exports a network, or what follows it.

    Args:
        arguments: the command line after `export`.

    Returns:
        The file, its size, and its inputs and outputs.
    """
    options = flags.parse(ExportConfig, arguments, name="export")
    flags.check_network("export", options.run, options.weights)
    target = pathlib.Path(options.target)
    check_suffix(target)  # before the network is read
    # The converter to ONNX warns of constants that are dropped afterwards, and of each
    # package that it could convert and that is not installed.
    for name in ("onnx_ir", "jax2onnx"):
        logging.getLogger(name).setLevel(logging.ERROR)
    network = _of_run(options) if options.run is not None else _of_weights(options)
    program = _program(network, options.core)
    target.parent.mkdir(parents=True, exist_ok=True)
    write(program, target)
    return _summary(program, target)


def _of_run(options: ExportConfig) -> _Network:
    assert options.run is not None
    trained = load_run(options.run)
    config, model = trained.config, trained.model
    if options.target.endswith(".onnx") and config.dtype != "float32":
        # ONNX Runtime has few operations in bfloat16. The parameters are float32.
        model = build_model(dataclasses.replace(config, dtype="float32"))
        nnx.update(model, nnx.state(trained.model))
        _logger.warning("The file computes in float32 instead of %s.", config.dtype)
    sides, multiple = config.pipeline, config.pipeline.size_multiple
    largest = (sides.min_side, sides.max_side)
    height, width = (-(-side // multiple) * multiple for side in largest)
    source = f"step {trained.step} of a training run, backbone {config.backbone}"
    return _Network(model, config.rpn, options.image_size or (height, width), source)


def _of_weights(options: ExportConfig) -> _Network:
    assert options.weights is not None
    found = make_foreign_model(read_checkpoint(options.weights, options.system))
    _logger.info("%s", found.report)
    name = found.report.system
    sides = SYSTEMS[name].min_side, SYSTEMS[name].max_side
    size = options.image_size or padded_size(name, *sides)
    return _Network(found.model, found.config, size, f"weights of {name}")


def _program(network: _Network, is_core: bool) -> Program:
    model, config, size, source = network
    if not is_core:
        return network_program(model, size, config=config, source=source)
    return core_program(
        config.anchors,
        model.feature_shapes(size),
        size,
        num_logits=config.num_logits,
        config=config.proposals,
        source=source,
    )


def _summary(program: Program, target: pathlib.Path) -> str:
    described, size = program.description, target.stat().st_size / 1e6
    lines = [f"Wrote {target}, {size:,.2f} MB. b is the number of images."]
    lines += [f"in:  {array}" for array in described.inputs]
    lines += [f"out: {array}" for array in described.outputs]
    return "\n".join(lines)
