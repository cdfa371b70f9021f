"""The weights of a file under the names and in the layout of this library."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from .file_facts import AnchorShapes
from .names import Rule, rename, reverse
from .systems import SYSTEMS, System
from .weight_files import Tensors

# Names of additional tensors in files of this library: the name of the system that the
# weights were made for, and its anchors if they are not the usual ones of the system.
ORIGIN, ANCHOR_SIZES, ANCHOR_RATIOS = "system", "anchors.sizes", "anchors.ratios"

_LEAVES = {"kernel", "scale", "bias", "mean", "var"}
# The end of the names of tensors that count the batches of a norm in PyTorch.
COUNTER = ".num_batches_tracked"


class Checkpoint(NamedTuple):
    """The weights of a file.

    Attributes:
        path: path of the file.
        system: name in `SYSTEMS` of the system that the weights were made for.
        tensors: arrays under the names of this library; kernels are HWIO.
        names: name in the file, by the name in this library.
        left_out: names in the file that the system's rules do not cover. The counters
            of PyTorch's batch norms are not listed, because nothing uses them.
        anchors: shapes of the anchors that the file itself states, if they are not the
            usual ones of the system.
        notes: sentences about what was chosen and what was left out, for the user.
    """

    path: str
    system: str
    tensors: Tensors
    names: dict[str, str]
    left_out: tuple[str, ...]
    anchors: AnchorShapes | None = None
    notes: tuple[str, ...] = ()


def translate(tensors: Mapping[str, np.ndarray], system: str) -> Checkpoint:
    """Renames tensors of a system and reorders their axes, without copying any.

    Args:
        tensors: arrays by the system's names.
        system: name of the system in `SYSTEMS`.

    Returns:
        The weights.

    Raises:
        ValueError: there is no such system, or it has none of the names.

    >>> weights = {"rpn.head.cls_logits.weight": np.zeros((3, 8, 1, 1))}
    >>> checkpoint = translate(weights, "torchvision")
    >>> {name: x.shape for name, x in checkpoint.tensors.items()}
    {'head.logits.kernel': (1, 1, 8, 3)}
    """
    rules, ours, names = SYSTEMS[checked_system(system)], {}, {}
    for name, value in tensors.items():
        found = translate_name(name, system)
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
        name for name in tensors if name not in known and not name.endswith(COUNTER)
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

    >>> weights = {"rpn.head.cls_logits.weight": np.zeros((3, 8, 1, 1))}
    >>> checkpoint = translate(weights, "torchvision")
    >>> {name: x.shape for name, x in to_system(checkpoint, "detectron2_fpn").items()}
    {'proposal_generator.rpn_head.objectness_logits.weight': (3, 8, 1, 1)}
    """
    rules = SYSTEMS[checked_system(system)]
    table = rules.rules
    # A head with a single convolution has no number in its name; with several, all have
    # one, the first included.
    if "head.convs.1.kernel" in checkpoint.tensors:
        table = tuple(rule for rule in table if rule[0] != "head.convs.0")
    tensors = {}
    lost = dropped(checkpoint, system)
    for name, value in checkpoint.tensors.items():
        if name in lost:
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
        tensors[ORIGIN] = np.frombuffer(checkpoint.system.encode(), np.uint8)
        if checkpoint.anchors is not None:
            tensors[ANCHOR_SIZES] = np.array(checkpoint.anchors.sizes)
            tensors[ANCHOR_RATIOS] = np.array(checkpoint.anchors.ratios)
    return tensors


def dropped(checkpoint: Checkpoint, system: str) -> list[str]:
    """The tensors that a system has no place for, because it is a classifier.

    >>> weights = {
    ...     "backbone.body.conv1.weight": np.zeros((8, 3, 7, 7)),
    ...     "rpn.head.cls_logits.bias": np.zeros(3),
    ... }
    >>> dropped(translate(weights, "torchvision"), "torchvision_resnet")
    ['head.logits.bias']
    """
    if SYSTEMS[system].preset is not None:
        return []
    return [x for x in checkpoint.tensors if not x.startswith("backbone.body.")]


def checked_system(system: str) -> str:
    """The name of a system, which is refused if it is not in `SYSTEMS`."""
    if system not in SYSTEMS:
        raise ValueError(
            f"There is no system {system!r}. Choose from {', '.join(SYSTEMS)}."
        )
    return system


def translate_name(name: str, system: str) -> str | None:
    """The name of a tensor in this library; None if the system has no such tensor.

    `weight` becomes `kernel`, even that of a norm.
    """
    rules = SYSTEMS[system]
    with_leaf = rename(name.replace("/", "."), _reversed(rules.leaves))
    if with_leaf is None:
        return None
    layer, leaf = with_leaf.rsplit(".", 1)
    found = rename(layer, _reversed(rules.rules))
    return found and f"{found}.{leaf}"


def system_names(names: Iterable[str], system: str) -> list[str]:
    """The names that a system has for layers or tensors of this library, if it has any.

    Args:
        names: names in this library, of layers (`head.logits`) or of tensors.
        system: name in `SYSTEMS`.
    """
    rules, translated = SYSTEMS[system], []
    for name in names:
        layer, _, leaf = name.rpartition(".")
        there = rename(layer, rules.rules) if leaf in _LEAVES else None
        with_leaf = there and rename(f"{there}.{leaf}", rules.leaves)
        translated.append(with_leaf or rename(name, rules.rules) or name)
    return translated


@functools.cache
def _reversed(rules: tuple[Rule, ...]) -> Sequence[Rule]:
    return reverse(rules)


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
    if not value.shape or value.shape[-1] % 2:
        return value  # its shape is wrong, which `match_shapes` reports
    return value.reshape(*value.shape[:-1], *last).swapaxes(-1, -2).reshape(value.shape)
