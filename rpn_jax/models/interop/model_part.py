"""Finds the weights of a model in a checkpoint, which may hold much besides them.

Training scripts store the model beside the state of the optimizer, its running average
beside the model, and both under many names.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from .stand_ins import LazyArray, Opaque

# Keys under which checkpoints keep the weights of a model, best first.
_CONTAINERS = (
    "model",
    "state_dict",
    "model_state_dict",
    "model_state",
    "blobs",
    "net",
    "network",
    "module",
    "params",
    "weights",
)
# Parts of a checkpoint that hold arrays by name, and no weights.
_NO_MODELS = re.compile(r"(optim|scheduler|scaler|message_hub|rng|loss|hparams|meta)")
# Words for the average of a model over its training.
_AVERAGE = re.compile(r"(^|[._])(ema|swa|avg|averaged?|shadow|teacher)([._]|$)")
# What wrappers put in front of every name: DataParallel, Lightning, `torch.compile`.
_WRAPPERS = {"module", "model", "detector", "net", "network", "student"}
_ARTEFACTS = re.compile(
    r"(^|\.)(_orig_mod|_forward_module|_fsdp_wrapped_module|_checkpoint_wrapped_module)"
    r"(?=\.)"
)
# Parts of one detector that some scripts store side by side.
_SIDE_BY_SIDE = {"backbone", "fpn", "neck", "rpn", "rpn_head", "proposal_generator"}
_MAX_DEPTH = 4


class Part(NamedTuple):
    """Arrays that belong together.

    Attributes:
        name: keys that lead to them in the file, with dots between them.
        arrays: arrays by their names, without what wrappers put in front.
    """

    name: str
    arrays: dict[str, LazyArray]

    @property
    def is_average(self) -> bool:
        """Whether it is the average of a model."""
        return _AVERAGE.search(self.name) is not None


def find_parts(content: Any) -> list[Part]:
    """The parts of a file that can be the weights of a model, best first.

    Args:
        content: what the file contains.

    Returns:
        The parts. A model is before its average, and a known key before others.
    """
    found = {}
    for name, items in _mappings(content, (), _MAX_DEPTH):
        for wrapper, arrays in _unwrapped(items).items():
            path = ".".join((*name, *wrapper))
            found[path] = Part(path, arrays)
    known = {name: rank for rank, name in enumerate(_CONTAINERS)}

    def order(part: Part) -> tuple[Any, ...]:
        key = part.name.split(".")[0]
        return part.is_average, known.get(key, len(known)), -len(part.arrays)

    return sorted(found.values(), key=order)


def _mappings(
    value: Any, name: tuple[str, ...], depth: int
) -> Iterator[tuple[tuple[str, ...], Mapping[str, LazyArray]]]:
    """Every dictionary that holds arrays, with the keys that lead to it."""
    value = value.content if isinstance(value, Opaque) else value
    if not isinstance(value, Mapping) or not depth:
        return
    named = {str(key): item for key, item in value.items()}
    arrays = {key: x for key, x in named.items() if isinstance(x, LazyArray)}
    inner = {
        key: x for key, x in named.items() if key not in arrays and _is_model_key(key)
    }
    if _SIDE_BY_SIDE & inner.keys():
        arrays |= {
            f"{key}.{name}": x
            for key, items in inner.items()
            for _, found in _mappings(items, (), 1)
            for name, x in found.items()
        }
        inner = {}
    if arrays:
        yield name, arrays
    for key, item in inner.items():
        yield from _mappings(item, (*name, key), depth - 1)


def _is_model_key(key: str) -> bool:
    # The state of an optimizer has a dictionary per number of a parameter.
    return not key.isdigit() and _NO_MODELS.search(key.lower()) is None


def _unwrapped(
    arrays: Mapping[str, LazyArray],
) -> dict[tuple[str, ...], dict[str, LazyArray]]:
    """The arrays of every wrapper, by the words that it puts in front of names."""
    groups: dict[tuple[str, ...], dict[str, LazyArray]] = {}
    for name, value in arrays.items():
        words = _ARTEFACTS.sub("", name).strip(".").split(".")
        number = 0
        while number < len(words) - 1 and _is_wrapper(words[number]):
            number += 1
        group = groups.setdefault(tuple(words[:number]), {})
        group[".".join(words[number:])] = value
    return groups


def _is_wrapper(word: str) -> bool:
    return word in _WRAPPERS or _AVERAGE.search(word) is not None
