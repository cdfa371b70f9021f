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
    dropped,
    has_head,
    read_checkpoint,
    read_tensors,
    rules_of,
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
        source: weights to convert: the folder of a training run, or a file of
            safetensors, NumPy, PyTorch or detectron2, whatever its name ends in.
        target: file to write; its extension decides the format: `.safetensors`, `.npz`,
            `.pth`, `.pt` or `.pkl`.
        system: system whose names and layout are written.
        source_system: system that the weights come from; None guesses it from the names
            of the tensors.
        source_part: part of a checkpoint that holds several models, such as
            `model_ema`; None takes the model itself.
        base: file of a whole detector in `system`. Its other weights are kept, so that
            the result is a whole detector too.
    """

    source: Annotated[str, tyro.conf.arg(name="from")]
    target: Annotated[str, tyro.conf.arg(name="to")]
    system: SystemName = "rpn_jax"
    source_system: Annotated[SystemName | None, tyro.conf.arg(name="from-system")] = (
        None
    )
    source_part: Annotated[str | None, tyro.conf.arg(name="from-part")] = None
    base: str | None = None


def main(arguments: Sequence[str]) -> str:
    """Converts weights and writes them.

    Args:
        arguments: the command line after `convert`.

    Returns:
        The number of tensors written and left out, what was chosen in the file, and
        the options that the other system needs to compute the same numbers.

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
    base = f" and {len(kept.keys() - tensors.keys())} of {options.base}" * bool(kept)
    differences = _differences(checkpoint.system, options.system)
    return "\n".join(
        [
            _counts(checkpoint, options, base),
            *checkpoint.notes,
            *_other_anchors(checkpoint),
            *differences,
        ]
    )


def _counts(checkpoint: Checkpoint, options: ConvertConfig, base: str) -> str:
    """How many tensors of the file were written and left out."""
    lost = dropped(checkpoint, options.system)
    left_out = (*checkpoint.left_out, *(checkpoint.names[name] for name in lost))
    more = ", ..." if len(left_out) > 3 else ""
    examples = f" ({', '.join(left_out[:3])}{more})" if left_out else ""
    return (
        f"Wrote {len(checkpoint.tensors) - len(lost)} tensors of {checkpoint.system}"
        f"{base} to {options.target} under the names of {options.system}; "
        f"{len(left_out)} were left out{examples}."
    )


def _read(options: ConvertConfig) -> Checkpoint:
    """The weights of a run or of a file; a file must have a whole network."""
    if pathlib.Path(options.source).is_dir():
        trained = load_run(options.source)
        if (head := trained.config.rpn.head) != "plain":
            raise ValueError(
                f'convert needs a run with a "plain" head, got "{head}", which the '
                "other systems have no names for. Use --run of propose, evaluate and "
                "export."
            )
        system = options.source_system or trained.config.weights_system
        return checkpoint_of(trained.model, system or "torchvision")
    checkpoint = read_checkpoint(
        options.source, options.source_system, options.source_part
    )
    check_complete(checkpoint)
    return checkpoint


def _other_anchors(checkpoint: Checkpoint) -> list[str]:
    """What a user of the weights must know about a head with other anchors."""
    if not has_head(checkpoint) or SYSTEMS[checkpoint.system].preset is None:
        return []
    try:
        rules_of(checkpoint)
    except ValueError as error:
        return [str(error)]
    return []


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
