"""Tables of what presets set, read from the presets themselves."""

import dataclasses
import inspect
from collections.abc import Iterator
from typing import Any

from rpn_jax import RPNConfig, presets

_STAGES = {
    "anchors": "Anchors",
    "targets": "Targets",
    "losses": "Losses",
    "proposals": "Proposals",
    "cascade": "First stage of a cascade",
    "": "Head",
}
_HEAD = ["| setting | value | presets |", "|---|---|---|"]


def all_presets() -> dict[str, RPNConfig]:
    """The settings of every public preset, by its name."""
    functions = inspect.getmembers(presets, inspect.isfunction)
    own = [name for name, value in functions if value.__module__ == presets.__name__]
    return {name: getattr(presets, name)() for name in own if not name.startswith("_")}


def fields_of(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every field of a configuration, with those of configurations within it."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from fields_of(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, value


def preset_settings() -> str:
    """A table for each stage: the settings that presets do not agree on.

    What stages share is in the first of them. The default of the library comes first,
    and then the values that presets set.
    """
    configs = {name: dict(fields_of(value)) for name, value in all_presets().items()}
    stages: dict[str, list[str]] = {stage: [] for stage in _STAGES}
    seen = set()
    for field, usual in fields_of(RPNConfig()):
        stage, _, rest = field.partition(".") if "." in field else ("", "", field)
        users: dict[str, list[str]] = {}
        for name, config in configs.items():
            users.setdefault(_shown(config[field]), []).append(f"`{name}`")
        if len(users) > 1 and rest not in seen:
            stages[stage] += _rows(rest, users, _shown(usual))
        seen.add(rest)
    return "\n".join(
        "\n".join([f"### {_STAGES[stage]}", "", *_HEAD, *rows, ""])
        for stage, rows in stages.items()
        if rows
    )


def _rows(field: str, users: dict[str, list[str]], usual: str) -> list[str]:
    """The rows of one setting: its default, then the values that presets set."""
    others = [f"| | {x} | {', '.join(users[x])} |" for x in users if x != usual]
    return [f"| `{field}` | {usual} | the default |", *others]


def _shown(value: object) -> str:
    """A value as it is written in Python, with short numbers."""
    if isinstance(value, tuple):
        return f"({', '.join(map(_shown, value))}{',' * (len(value) == 1)})"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
