"""`rpn-jax convert`: turns weights of one system into weights of another."""

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

# The options of a network that change its numbers while the weights stay the same.
_TRAITS = ("preprocessing", "stride_in_1x1", "unpadded_pool", "epsilon")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvertConfig:
    """Weights of one system under the names and in the layout of another.

    Attributes:
        source: weights to convert: the folder of a training run, or a file that ends in
            one of `.safetensors`, `.npz`, `.pth`, `.pt` and `.pkl`.
        target: file to write; its extension decides the format.
        system: system whose names and layout are written.
        source_system: system that the weights come from; None guesses it from the names
            of the tensors.
        base: file of a whole detector in `system`. Its other weights are kept, so that
            the result is a whole detector too.
    """

    source: Annotated[str, tyro.conf.arg(name="from")]
    target: Annotated[str, tyro.conf.arg(name="to")]
    system: SystemName = "rpn_jax"
    source_system: Annotated[SystemName | None, tyro.conf.arg(name="from-system")] = (
        None
    )
    base: str | None = None


def main(arguments: Sequence[str]) -> str:
    """Converts weights and writes them.

    Args:
        arguments: the command line after `convert`.

    Returns:
        The number of tensors written and left out, and the options that the other
        system needs to compute the same numbers.

    Raises:
        ValueError: a file cannot be read, a tensor is missing or has the wrong shape,
            or the system has no name for a tensor.
    """
    options = flags.parse(ConvertConfig, arguments, name="convert")
    checkpoint = _read(options)
    tensors = to_system(checkpoint, options.system)
    kept = {}
    if options.base is not None:
        kept = read_tensors(options.base)
        # A name that the base lacks shows another architecture, which cannot be merged.
        if foreign := sorted(tensors.keys() - kept.keys()):
            raise ValueError(
                f"{options.base} needs to be a detector of {options.system}, got a "
                f"file without {foreign[0]}."
            )
    write_tensors(options.target, kept | tensors)
    left_out = checkpoint.left_out
    examples = f" ({', '.join(left_out[:3])}, ...)" if left_out else ""
    base = f" and {len(kept.keys() - tensors.keys())} of {options.base}" * bool(kept)
    line = (
        f"Wrote {len(tensors)} tensors of {checkpoint.system}{base} to "
        f"{options.target} under the names of {options.system}; {len(left_out)} were "
        f"left out{examples}."
    )
    return "\n".join([line, *_differences(checkpoint.system, options.system)])


def _read(options: ConvertConfig) -> Checkpoint:
    """The weights of a run or of a file; a file must have a whole network."""
    if pathlib.Path(options.source).is_dir():
        trained = load_run(options.source)
        system = options.source_system or trained.config.weights_system
        return checkpoint_of(trained.model, system or "torchvision")
    checkpoint = read_checkpoint(options.source, options.source_system)
    check_complete(checkpoint)
    return checkpoint


def _differences(origin: str, target: str) -> list[str]:
    """The options that the target system needs to compute the same numbers."""
    here, there = SYSTEMS[origin], SYSTEMS[target]
    if target == "rpn_jax" or there.preset is None:
        return []
    return [
        f"To compute the same numbers, {target} needs {name} {getattr(here, name)} "
        f"instead of {getattr(there, name)}."
        for name in _TRAITS
        if getattr(here, name) != getattr(there, name)
    ]
