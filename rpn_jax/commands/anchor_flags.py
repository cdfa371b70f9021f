"""Anchors as flags of the command line: what is written can be read again."""

import dataclasses
from collections.abc import Sequence
from typing import Any, get_type_hints

import tyro

from ..core.anchor_config import AnchorConfig

_PREFIX = "--rpn.anchors."
# Fields with an entry per level, which may have several numbers: `8,16 32,64`.
_NESTED = {"sizes": ("SIZE[,SIZE...]", float), "strides": ("STRIDE[,STRIDE]", int)}


def add_rules(registry: tyro.constructors.ConstructorRegistry) -> None:
    """Lets flags take sizes and strides as `32 64 128`, or `8,16 32,64` for pairs."""
    hints = get_type_hints(AnchorConfig)
    kinds = {hints[name]: rule for name, rule in _NESTED.items()}

    @registry.primitive_rule
    def _(
        info: tyro.constructors.PrimitiveTypeInfo,
    ) -> tyro.constructors.PrimitiveConstructorSpec | None:
        if info.type not in kinds:
            return None
        metavar, number = kinds[info.type]
        return tyro.constructors.PrimitiveConstructorSpec(
            nargs="*",
            metavar=metavar,
            instance_from_str=lambda words: _from_words(words, number),
            is_instance=lambda value: isinstance(value, tuple),
            str_from_instance=_to_words,
        )


def flags_of(config: AnchorConfig) -> str:
    """All flags that make these anchors, whatever the other flags are.

    >>> flags_of(AnchorConfig(sizes=((8, 12.5), 32), strides=(8, 16)))[:55]
    '--rpn.anchors.sizes 8,12.5 32 --rpn.anchors.strides 8 1'
    """
    fields = dataclasses.fields(config)
    return " ".join(_flag(field.name, getattr(config, field.name)) for field in fields)


def _flag(name: str, value: Any) -> str:
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return _PREFIX + ("" if value else "no-") + flag
    words = _to_words(value) if isinstance(value, tuple) else [_text(value)]
    return " ".join([_PREFIX + flag, *words])


def _from_words(
    words: Sequence[str], number: type[float] | type[int]
) -> tuple[float | tuple[float, ...], ...]:
    levels = [tuple(number(x) for x in word.split(",")) for word in words]
    return tuple(level[0] if len(level) == 1 else level for level in levels)


def _to_words(levels: Sequence[float | Sequence[float]]) -> list[str]:
    nested = [x if isinstance(x, Sequence) else (x,) for x in levels]
    return [",".join(map(_text, level)) for level in nested]


def _text(value: Any) -> str:
    """A number in as few digits as give the same number again, or a word."""
    if not isinstance(value, float):
        return str(value)
    short = f"{value:g}"
    return short if float(short) == value else repr(value)
