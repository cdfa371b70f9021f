"""Help for flags whose defaults depend on the data, before the data is known."""

import dataclasses
from typing import Annotated, Any

import tyro

from ..data import PipelineConfig
from ..train import TrainConfig


def with_both_defaults(scenes: TrainConfig, other: TrainConfig) -> TrainConfig:
    """Makes the help of `--pipeline` flags list two defaults where they differ.

    Args:
        scenes: the settings for scenes, with a pipeline.
        other: the settings for other data, with a pipeline.

    Returns:
        `scenes` as an instance of a subclass, whose help has both defaults.
    """
    here, there = (_values(config.pipeline) for config in (scenes, other))
    hints: list[tuple[str, Any]] = [
        (
            name,
            Annotated[int, tyro.conf.arg(help_behavior_hint=_hint(value, there[name]))],
        )
        for name, value in here.items()
        if value != there[name]
    ]
    pipeline = _subclass(PipelineConfig, hints)
    kind = _subclass(TrainConfig, [("pipeline", pipeline)])
    return kind(**(_values(scenes) | {"pipeline": pipeline(**here)}))


def _hint(scenes: int, other: int) -> str:
    return f"(default: {scenes} for scenes, {other} for other data)"


def _values(config: Any) -> dict[str, Any]:
    return {x.name: getattr(config, x.name) for x in dataclasses.fields(config)}


def _subclass(base: Any, fields: list[tuple[str, Any]]) -> Any:
    """A dataclass whose fields have other types, with the help of its base."""
    defaulted = [
        (name, kind, dataclasses.field(default=getattr(base, name)))
        for name, kind in fields
    ]
    return dataclasses.make_dataclass(
        base.__name__,
        defaulted,
        bases=(base,),
        namespace={"__doc__": base.__doc__},
        frozen=True,
        kw_only=True,
    )
