"""Weights of a checkpoint into a network, and those of a network out of it."""

import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx

from ..network import RPN
from .foreign_checkpoint import Checkpoint, read_checkpoint, to_system
from .systems import SYSTEMS
from .weight_files import Tensors

_PARTS = ("backbone.body.", "backbone.fpn.", "head.")
_NUM_EXAMPLES = 3


class LoadReport(NamedTuple):
    """What became of the tensors of a file.

    Attributes:
        system: what the weights were made for.
        loaded: names in the file of what the network now has.
        left_out: names in the file that the network has no place for.
        missing: names in the network that keep their values, dots between the parts.
    """

    system: str
    loaded: tuple[str, ...]
    left_out: tuple[str, ...]
    missing: tuple[str, ...]

    def __str__(self) -> str:
        """One line."""
        return (
            f"Loaded {len(self.loaded)} tensors of {self.system}; left out "
            f"{_summary(self.left_out)}; missing {_summary(self.missing)}."
        )


def load_weights(
    model: RPN, path: str | pathlib.Path, *, system: str | None = None
) -> LoadReport:
    """Puts the weights of a file, of any known system, into a network.

    The whole of a part is loaded, of the trunk, the pyramid or the head, or nothing of
    it. Any dtype becomes float32. The network is left as it was if anything is wrong.

    Args:
        model: changed in place.
        path: a file as in `read_tensors`.
        system: a name in `SYSTEMS`; None guesses it from the names in the file.

    Returns:
        What was loaded, left out, and missing.

    Raises:
        ValueError: the file cannot be read, holds nothing or only some of a part of
            this network, or holds a tensor of another shape, which the message names;
            or the network has other preprocessing than the weights expect.
    """
    return import_weights(model, read_checkpoint(path, system))


def import_weights(model: RPN, checkpoint: Checkpoint) -> LoadReport:
    """Puts weights that were read into a network; otherwise as `load_weights`."""
    expected = SYSTEMS[checkpoint.system].preprocessing
    if model.preprocessing != expected:
        raise ValueError(
            f"{checkpoint.path} has weights of {checkpoint.system}, which expect "
            f"{expected}, and the network has {model.preprocessing}. Make it by "
            "make_model with SYSTEMS[system].options(backbone)."
        )
    variables = dict(variables_of(model))
    report = match_variables(variables, checkpoint)
    for name in variables.keys() & checkpoint.tensors.keys():
        variables[name].set_value(jnp.asarray(checkpoint.tensors[name], jnp.float32))
    return report


def match_variables(
    variables: Mapping[str, nnx.Variable], checkpoint: Checkpoint
) -> LoadReport:
    """Finds what weights have for a network, and what is wrong with them.

    Args:
        variables: of the network, by name.
        checkpoint: the weights.

    Returns:
        What can be loaded.

    Raises:
        ValueError: as in `load_weights`.
    """
    loaded = [name for name in variables if name in checkpoint.tensors]
    missing = tuple(name for name in variables if name not in checkpoint.tensors)
    if not loaded:
        raise ValueError(
            f"{checkpoint.path} has nothing for this network: it has weights of "
            f"{checkpoint.system}, such as {_examples(list(checkpoint.names.values()))}"
            f", and the network needs {_examples(list(variables))}."
        )
    _check_parts(checkpoint, loaded, missing)
    for name in loaded:
        _check_shape(checkpoint, name, variables[name].get_value().shape)
    unused = [file for here, file in checkpoint.names.items() if here not in variables]
    return LoadReport(
        system=checkpoint.system,
        loaded=tuple(checkpoint.names[name] for name in loaded),
        left_out=(*unused, *checkpoint.left_out),
        missing=missing,
    )


def export_weights(model: RPN, system: str) -> Tensors:
    """The weights of a network under the names and in the layout of a system.

    What follows the RPN in a detector is not part of them.

    Args:
        model: the network.
        system: a name in `SYSTEMS`.

    Returns:
        Arrays by name.

    Raises:
        ValueError: the system has no name for a tensor.
    """
    return to_system(checkpoint_of(model, system), system)


def checkpoint_of(model: RPN, system: str) -> Checkpoint:
    """The weights of a network as if they had been read.

    Args:
        model: the network.
        system: name in `SYSTEMS` of what they are made for.
    """
    tensors = {name: np.asarray(x[...]) for name, x in variables_of(model)}
    names = {name: name for name in tensors}
    return Checkpoint("the network", system, tensors, names, ())


def variables_of(model: RPN) -> Iterator[tuple[str, nnx.Variable]]:
    """The variables of a network by their paths, dots between the parts."""
    for path, node in nnx.iter_graph(model):
        if isinstance(node, nnx.Variable):
            yield ".".join(map(str, path)), node


def _check_parts(
    checkpoint: Checkpoint, loaded: Sequence[str], missing: Sequence[str]
) -> None:
    for part in _PARTS:
        lost = [name for name in missing if name.startswith(part)]
        if lost and any(name.startswith(part) for name in loaded):
            raise ValueError(
                f"{checkpoint.path} has only some of {part[:-1]}: missing are "
                f"{_summary(lost)}. Choose the backbone and options that it was "
                "trained with, or a whole file."
            )


def _check_shape(checkpoint: Checkpoint, name: str, shape: tuple[int, ...]) -> None:
    value = checkpoint.tensors[name]
    if value.shape != shape:
        raise ValueError(
            f"{checkpoint.path}: {checkpoint.names[name]} needs the shape "
            f"{_as_in_file(checkpoint.names[name], shape)}, got "
            f"{_as_in_file(checkpoint.names[name], value.shape)}. Choose the backbone "
            "and options it was trained with."
        )


def _as_in_file(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    is_oihw = name.endswith((".weight", "_w")) and len(shape) == 4
    return (shape[3], shape[2], *shape[:2]) if is_oihw else shape


def _summary(names: Sequence[str]) -> str:
    if len(names) > _NUM_EXAMPLES:
        return f"{len(names)} ({_examples(names)}, ...)"
    return _examples(names)


def _examples(names: Sequence[str]) -> str:
    return ", ".join(names[:_NUM_EXAMPLES]) or "none"
