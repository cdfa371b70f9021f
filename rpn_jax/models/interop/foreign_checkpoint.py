"""The weights of a file under the names and in the layout of this library."""

import pathlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from .names import rename, reverse
from .systems import SYSTEMS, System
from .weight_files import Tensors, published_system, read_tensors

_ORIGIN = "system"  # of a file of this library: what its weights were made for


class Checkpoint(NamedTuple):
    """The weights of a file.

    Attributes:
        path: of the file.
        system: name in `SYSTEMS` of what the weights were made for.
        tensors: arrays by the names here, kernels HWIO.
        names: the name in the file for each name here.
        left_out: names in the file that the system's rules do not have, but for the
            counters of PyTorch's batch norms, which nothing uses.
    """

    path: str
    system: str
    tensors: Tensors
    names: dict[str, str]
    left_out: tuple[str, ...]


def read_checkpoint(path: str | pathlib.Path, system: str | None = None) -> Checkpoint:
    """Reads weights of any system.

    Args:
        path: a file as in `read_tensors`.
        system: a name in `SYSTEMS`; None guesses it from the names in the file.

    Returns:
        The weights.

    Raises:
        ValueError: the file cannot be read, or is of no known system.
    """
    tensors = read_tensors(path)
    origin = tensors.pop(_ORIGIN, None)
    try:
        name = system or published_system(path) or guess_system(tensors)
        translated = translate(tensors, name)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if origin is not None and system is None:
        return translated._replace(
            path=str(path), system=_checked(bytes(origin).decode())
        )
    return translated._replace(path=str(path))


def guess_system(names: Iterable[str]) -> str:
    """The system whose rules have most of the names.

    Args:
        names: of tensors.

    Returns:
        Its name in `SYSTEMS`.

    Raises:
        ValueError: no system has any of them.
    """
    names = list(names)
    found = {
        system: sum(_translate_name(name, rules) is not None for name in names)
        for system, rules in SYSTEMS.items()
    }
    best = max(found, key=lambda system: found[system])
    if not found[best]:
        raise ValueError(
            f"No tensor has a name of {', '.join(SYSTEMS)}: there are "
            f"{', '.join(names[:3]) or 'none at all'}."
        )
    return best


def translate(tensors: Mapping[str, np.ndarray], system: str) -> Checkpoint:
    """Tensors of a system as those of this library, without a copy.

    Args:
        tensors: by the system's names.
        system: its name in `SYSTEMS`.

    Returns:
        The weights.

    Raises:
        ValueError: there is no such system, or it has not one of the names.
    """
    rules, ours, names = SYSTEMS[_checked(system)], {}, {}
    for name, value in tensors.items():
        found = _translate_name(name, rules)
        if found is None:
            continue
        if found.endswith(".kernel") and value.ndim < 2:
            found = found.removesuffix("kernel") + "scale"
        ours[found] = _from_layout(found, value, rules)
        names[found] = name
    if not ours:
        raise ValueError(f"No tensor has a name of {system}. Choose another system.")
    known = set(names.values())
    left_out = tuple(
        name
        for name in tensors
        if name not in known and not name.endswith(".num_batches_tracked")
    )
    return Checkpoint("tensors", system, ours, names, left_out)


def to_system(checkpoint: Checkpoint, system: str) -> Tensors:
    """Weights under the names and in the layout of a system.

    Args:
        checkpoint: the weights.
        system: a name in `SYSTEMS`; that of a classifier gets the trunk alone.

    Returns:
        Arrays by name.

    Raises:
        ValueError: the system has no name for a tensor, which the message names.
    """
    rules = SYSTEMS[_checked(system)]
    table = rules.rules
    if "head.convs.1.kernel" in checkpoint.tensors:  # then the first has a number too
        table = tuple(rule for rule in table if rule[0] != "head.convs.0")
    tensors = {}
    for name, value in checkpoint.tensors.items():
        if rules.preset is None and not name.startswith("backbone.body."):
            continue
        layer, leaf = name.rsplit(".", 1)
        layer = rename(layer, table)
        found = layer and rename(f"{layer}.{leaf}", rules.leaves)
        if not found:
            raise ValueError(
                f"{system} has no name for {name}. Choose the system that the backbone "
                f"and the head are of: {', '.join(SYSTEMS)}."
            )
        tensors[found] = _to_layout(name, value, rules)
    if system == "rpn_jax":
        tensors[_ORIGIN] = np.frombuffer(checkpoint.system.encode(), np.uint8)
    return tensors


def _checked(system: str) -> str:
    if system not in SYSTEMS:
        raise ValueError(
            f"There is no system {system!r}. Choose from {', '.join(SYSTEMS)}."
        )
    return system


def _translate_name(name: str, system: System) -> str | None:
    """The name here; `weight` becomes `kernel`, though it may be a norm's scale."""
    with_leaf = rename(name.replace("/", "."), reverse(system.leaves))
    if with_leaf is None:
        return None
    layer, leaf = with_leaf.rsplit(".", 1)
    found = rename(layer, reverse(system.rules))
    return found and f"{found}.{leaf}"


def _from_layout(name: str, value: np.ndarray, system: System) -> np.ndarray:
    if system.is_oihw and value.ndim == 4:
        value = value.transpose(2, 3, 1, 0)
    if system.is_split and name.startswith("head.logits."):
        value = _swap_pairs(value, (2, -1))
    return value


def _to_layout(name: str, value: np.ndarray, system: System) -> np.ndarray:
    if system.is_split and name.startswith("head.logits."):
        value = _swap_pairs(value, (-1, 2))
    if system.is_oihw and value.ndim == 4:
        value = value.transpose(3, 2, 0, 1)
    return value


def _swap_pairs(value: np.ndarray, last: tuple[int, int]) -> np.ndarray:
    """Reads the last axis as two, and exchanges them."""
    if value.shape[-1] % 2:
        return value  # of another shape than it should be, which is said elsewhere
    return value.reshape(*value.shape[:-1], *last).swapaxes(-1, -2).reshape(value.shape)
