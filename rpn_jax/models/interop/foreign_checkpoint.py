"""The weights of a file under the names and in the layout of this library."""

import pathlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from .names import rename, reverse
from .published import published_system
from .systems import SYSTEMS, System
from .weight_files import Tensors, read_tensors

# Name of an additional tensor in files of this library. It holds the name of the system
# that the weights were made for.
_ORIGIN = "system"


class Checkpoint(NamedTuple):
    """The weights of a file.

    Attributes:
        path: path of the file.
        system: name in `SYSTEMS` of the system that the weights were made for.
        tensors: arrays under the names of this library; kernels are HWIO.
        names: name in the file, by the name in this library.
        left_out: names in the file that the system's rules do not cover. The counters
            of PyTorch's batch norms are not listed, because nothing uses them.
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
        system: name in `SYSTEMS` of the system that the file comes from; None guesses
            it from the names of the tensors.

    Returns:
        The weights.

    Raises:
        ValueError: the file cannot be read, or comes from no known system.
    """
    tensors = read_tensors(path)
    origin = tensors.pop(_ORIGIN, None)
    try:
        name = system or published_system(path) or guess_system(tensors)
        translated = translate(tensors, name)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    # Files of this library have its own names, so a tensor tells the original system,
    # which determines the preprocessing.
    if origin is not None and system is None:
        return translated._replace(
            path=str(path), system=_checked(bytes(origin).decode())
        )
    return translated._replace(path=str(path))


def guess_system(names: Iterable[str]) -> str:
    """The system whose rules cover most names; the first one in `SYSTEMS` if they tie.

    Args:
        names: names of tensors.

    Returns:
        Its name in `SYSTEMS`.

    Raises:
        ValueError: no system has a rule for any of the names.
    """
    names = list(names)
    found = {
        system: sum(_translate_name(name, rules) is not None for name in names)
        for system, rules in SYSTEMS.items()
    }
    best = max(found, key=lambda system: found[system])
    if not found[best]:
        raise ValueError(
            f"No tensor has a name of {', '.join(SYSTEMS)}, got "
            f"{', '.join(names[:3]) or 'no tensors'}. Choose a file of one of these "
            "systems."
        )
    return best


def translate(tensors: Mapping[str, np.ndarray], system: str) -> Checkpoint:
    """Renames tensors of a system and reorders their axes, without copying any.

    Args:
        tensors: arrays by the system's names.
        system: name of the system in `SYSTEMS`.

    Returns:
        The weights.

    Raises:
        ValueError: there is no such system, or it has none of the names.
    """
    rules, ours, names = SYSTEMS[_checked(system)], {}, {}
    for name, value in tensors.items():
        found = _translate_name(name, rules)
        if found is None:
            continue
        # PyTorch calls both a kernel and the scale of a norm `weight`; a scale has one
        # axis.
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
        system: name in `SYSTEMS`. A classifier gets the trunk alone.

    Returns:
        Arrays by name.

    Raises:
        ValueError: the system has no name for a tensor, which the message names.
    """
    rules = SYSTEMS[_checked(system)]
    table = rules.rules
    # A head with a single convolution has no number in its name; with several, all have
    # one, the first included.
    if "head.convs.1.kernel" in checkpoint.tensors:
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
                f"{system} has no name for {name}. Choose a system that has this "
                f"backbone and head from {', '.join(SYSTEMS)}."
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
    """The name in this library; `weight` becomes `kernel`, even that of a norm."""
    with_leaf = rename(name.replace("/", "."), reverse(system.leaves))
    if with_leaf is None:
        return None
    layer, leaf = with_leaf.rsplit(".", 1)
    found = rename(layer, reverse(system.rules))
    return found and f"{found}.{leaf}"


def _from_layout(name: str, value: np.ndarray, system: System) -> np.ndarray:
    """The array with the order of axes and of logits that this library has."""
    if system.is_oihw and value.ndim == 4:
        value = value.transpose(2, 3, 1, 0)
    if system.is_split and name.startswith("head.logits."):
        value = _swap_pairs(value, (2, -1))
    return value


def _to_layout(name: str, value: np.ndarray, system: System) -> np.ndarray:
    """The inverse of `_from_layout`."""
    if system.is_split and name.startswith("head.logits."):
        value = _swap_pairs(value, (-1, 2))
    if system.is_oihw and value.ndim == 4:
        value = value.transpose(3, 2, 0, 1)
    return value


def _swap_pairs(value: np.ndarray, last: tuple[int, int]) -> np.ndarray:
    """Splits the last axis into two of sizes `last`, and exchanges these two."""
    if value.shape[-1] % 2:
        return value  # its shape is wrong, which `match_variables` reports
    return value.reshape(*value.shape[:-1], *last).swapaxes(-1, -2).reshape(value.shape)
