"""`rpn-jax convert`: weights of one system as those of another."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Annotated

import tyro

from ..models.interop import (
    SYSTEMS,
    Checkpoint,
    SystemName,
    check_complete,
    checkpoint_of,
    read_checkpoint,
    read_tensors,
    to_system,
    write_tensors,
)
from ..train import load_run
from . import flags

_TRAITS = ("preprocessing", "stride_in_1x1", "unpadded_pool", "epsilon")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvertConfig:
    """Weights of one system under the names and in the layout of another.

    Attributes:
        source: what to convert: a file `.safetensors`, `.npz`, `.pth`, `.pt` or `.pkl`,
            or the folder of a training run.
        target: the file to write; its ending says of which kind.
        system: whose names to write.
        source_system: whose weights they are; None guesses it from the names.
        base: a file of the whole detector in `system`, whose other weights are kept, so
            that the result is one of the whole detector.
    """

    source: Annotated[str, tyro.conf.arg(name="from")]
    target: Annotated[str, tyro.conf.arg(name="to")]
    system: SystemName = "rpn_jax"
    source_system: Annotated[SystemName | None, tyro.conf.arg(name="from-system")] = (
        None
    )
    base: str | None = None


def main(arguments: Sequence[str]) -> str:
    """Converts.

    Args:
        arguments: of the command line, after `convert`.

    Returns:
        What was written, what was left out, and what it needs to give the same numbers.

    Raises:
        ValueError: a file cannot be read, or misses a tensor, or has one of another
            shape; or the system has no name for one.
    """
    options = flags.parse(ConvertConfig, arguments, name="convert")
    checkpoint = _read(options)
    tensors = to_system(checkpoint, options.system)
    kept = {}
    if options.base is not None:
        kept = read_tensors(options.base)
        if foreign := sorted(tensors.keys() - kept.keys()):
            raise ValueError(
                f"{options.base} needs the names of {options.system}, and has no "
                f"{foreign[0]}."
            )
    write_tensors(options.target, kept | tensors)
    left_out = checkpoint.left_out
    examples = f" ({', '.join(left_out[:3])}, ...)" if left_out else ""
    base = f", and {len(kept.keys() - tensors.keys())} of {options.base}" * bool(kept)
    line = (
        f"{len(tensors)} tensors of {checkpoint.system}{base} are in {options.target} "
        f"under the names of {options.system}; {len(left_out)} were left out{examples}."
    )
    return "\n".join([line, *_differences(checkpoint.system, options.system)])


def _read(options: ConvertConfig) -> Checkpoint:
    if pathlib.Path(options.source).is_dir():
        trained = load_run(options.source)
        system = options.source_system or trained.config.weights_system
        return checkpoint_of(trained.model, system or "torchvision")
    checkpoint = read_checkpoint(options.source, options.source_system)
    check_complete(checkpoint)
    return checkpoint


def _differences(origin: str, target: str) -> list[str]:
    """What a network of the other system must do differently for the same numbers."""
    here, there = SYSTEMS[origin], SYSTEMS[target]
    if target == "rpn_jax" or there.preset is None:
        return []
    return [
        f"For the same numbers {target} needs {name} {getattr(here, name)} in place of "
        f"{getattr(there, name)}."
        for name in _TRAITS
        if getattr(here, name) != getattr(there, name)
    ]
