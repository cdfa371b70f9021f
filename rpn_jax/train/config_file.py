"""Configurations as JSON files, which can be read, changed and given again."""

import dataclasses
import json
import os
import pathlib
import types
import typing
from typing import Any, TypeVar

from beartype import BeartypeConf
from beartype.door import is_bearable

T = TypeVar("T")
_INT_IS_FLOAT = BeartypeConf(is_pep484_tower=True)


def write_config(config: Any, path: str | os.PathLike[str]) -> None:
    """Writes a frozen dataclass, nested ones included, as JSON.

    Args:
        config: what to write.
        path: of the file, which is replaced at once or not at all.
    """
    path = pathlib.Path(path)
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(dataclasses.asdict(config), indent=2) + "\n")
    draft.replace(path)


def read_config(kind: type[T], path: str | os.PathLike[str]) -> T:
    """Reads what `write_config` wrote; fields that are missing take their defaults.

    Args:
        kind: the dataclass.
        path: of the file.

    Returns:
        The configuration.

    Raises:
        ValueError: the file is no JSON object, or has a field that `kind` does not
            have, or a value of another type. The message names the field.
    """
    try:
        values = json.loads(pathlib.Path(path).read_text())
    except (OSError, ValueError) as error:
        raise ValueError(
            f"read_config needs a JSON file, got {os.fspath(path)!r}: {error}"
        ) from error
    return _build(kind, values, where=kind.__name__)


def _build(kind: Any, value: Any, where: str) -> Any:
    """`value` as a `kind`: objects become dataclasses, and lists tuples."""
    dataclass: Any = next(filter(dataclasses.is_dataclass, _members(kind)), None)
    if dataclass is not None and isinstance(value, dict):
        hints = typing.get_type_hints(dataclass)
        if unknown := sorted(value.keys() - hints.keys()):
            raise ValueError(
                f"{where} needs fields out of {sorted(hints)}, got {unknown}."
            )
        fields = {k: _build(hints[k], v, f"{where}.{k}") for k, v in value.items()}
        return dataclass(**fields)
    value = _tuples(value)
    if not is_bearable(value, kind, conf=_INT_IS_FLOAT):
        raise ValueError(f"{where} needs a value of the type {kind}, got {value!r}.")
    return value


def _members(kind: Any) -> tuple[Any, ...]:
    return typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
