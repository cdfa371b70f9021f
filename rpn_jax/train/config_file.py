"""Configurations as JSON files, which can be edited and read again."""

import dataclasses
import json
import os
import pathlib
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from beartype import BeartypeConf
from beartype.door import is_bearable

from ..atomic_file import replace_file
from .old_config import upgraded

T = TypeVar("T")
_INT_IS_FLOAT = BeartypeConf(is_pep484_tower=True)


def write_config(config: Any, path: str | os.PathLike[str]) -> None:
    """Writes a frozen dataclass, with all nested ones, as JSON.

    Args:
        config: the configuration.
        path: file to write. It is replaced in one step, or not at all.

    >>> import tempfile
    >>> from rpn_jax.train import TrainConfig
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_config(TrainConfig(steps=5), f"{folder}/config.json")
    ...     read_config(TrainConfig, f"{folder}/config.json").steps
    5
    """
    with replace_file(path) as draft:
        draft.write_text(json.dumps(dataclasses.asdict(config), indent=2) + "\n")


def read_config(kind: type[T], path: str | os.PathLike[str]) -> T:
    """Reads a file of `write_config`. Fields that are missing take their defaults.

    Files of version 0.1.0 are brought up to date; see `old_config.upgraded`. The file
    may be in UTF-8, UTF-16 or UTF-32, with or without a byte-order mark.

    Args:
        kind: the dataclass to make.
        path: file to read.

    Returns:
        The configuration.

    Raises:
        ValueError: the file is not a JSON object, has a field that `kind` does not
            have, or has a value of the wrong type. The message names the field.

    >>> import tempfile
    >>> from rpn_jax.train import TrainConfig
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_config(TrainConfig(steps=5), f"{folder}/config.json")
    ...     read_config(TrainConfig, f"{folder}/config.json").steps
    5
    """
    try:
        # From bytes, `json` finds the encoding, and drops a byte-order mark.
        values = json.loads(pathlib.Path(path).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(
            f"read_config needs a JSON file, got {os.fspath(path)!r}: {error}"
        ) from error
    return _build(kind, upgraded(values), where=kind.__name__)


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as one level.

    Args:
        settings: the settings, in which dictionaries are nested.
        prefix: what the names begin with.

    >>> flat({"lr": 0.1, "rpn": {"nms": {"iou": 0.7}}})
    {'lr': 0.1, 'rpn.nms.iou': 0.7}
    """
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def _build(kind: Any, value: Any, where: str) -> Any:
    """`value` as a `kind`: objects become dataclasses, and lists become tuples."""
    dataclass: Any = next(filter(dataclasses.is_dataclass, _members(kind)), None)
    if dataclass is not None and isinstance(value, dict):
        # The path of a field is passed down the recursion, so that errors can name it.
        hints = typing.get_type_hints(dataclass)
        if unknown := sorted(value.keys() - hints.keys()):
            raise ValueError(
                f"{where} needs fields from {sorted(hints)}, got {unknown}."
            )
        fields = {k: _build(hints[k], v, f"{where}.{k}") for k, v in value.items()}
        return dataclass(**fields)
    # JSON has no tuples, so lists are converted before the type is checked.
    value = _tuples(value)
    if not is_bearable(value, kind, conf=_INT_IS_FLOAT):
        raise ValueError(f"{where} needs a value of type {kind}, got {value!r}.")
    return value


def _members(kind: Any) -> tuple[Any, ...]:
    """The alternatives of a union, or the type itself."""
    return typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
