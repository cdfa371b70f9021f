"""Frozen configurations as flags of the command line."""

from collections.abc import Sequence
from typing import Any, TypeVar, get_type_hints

import tyro

from ..core.anchor_config import AnchorConfig

T = TypeVar("T")
Sizes = tuple[float | tuple[float, ...], ...]
_registry = tyro.constructors.ConstructorRegistry()


def parse(
    kind: type[T],
    arguments: Sequence[str],
    *,
    default: T | None = None,
    name: str = "",
    is_draft: bool = False,
) -> T:
    """Reads flags, or prints their help and exits.

    Args:
        kind: a dataclass, whose fields are the flags.
        arguments: of the command line.
        default: what holds without flags; None takes that of `kind`.
        name: of the subcommand.
        is_draft: leaves out flags that are not known yet, and the help.

    Returns:
        The configuration.
    """
    if is_draft:
        arguments = [x for x in arguments if x not in ("-h", "--help")]
    options: dict[str, Any] = {} if default is None else {"default": default}
    found: Any = tyro.cli(
        kind,
        config=(tyro.conf.AvoidSubcommands,),
        prog=f"rpn-jax {name}",
        args=arguments,
        return_unknown_args=is_draft,
        registry=_registry,
        **options,
    )
    return found[0] if is_draft else found


@_registry.primitive_rule
def _sizes_rule(
    info: tyro.constructors.PrimitiveTypeInfo,
) -> tyro.constructors.PrimitiveConstructorSpec | None:
    """Anchor sizes as `32 64 128`, or `8,16 32,64` for several on a level."""
    if info.type != get_type_hints(AnchorConfig)["sizes"]:
        return None
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs="*",
        metavar="SIZE[,SIZE...]",
        instance_from_str=_sizes_from_text,
        is_instance=lambda value: isinstance(value, tuple),
        str_from_instance=_text_from_sizes,
    )


def _sizes_from_text(words: list[str]) -> Sizes:
    levels = [[float(side) for side in word.split(",")] for word in words]
    return tuple(tuple(sides) if len(sides) > 1 else sides[0] for sides in levels)


def _text_from_sizes(sizes: Sizes) -> list[str]:
    levels = [size if isinstance(size, tuple) else (size,) for size in sizes]
    return [",".join(f"{side:g}" for side in level) for level in levels]
