"""Frozen configurations as command-line flags."""

import argparse
import dataclasses
from collections.abc import Sequence
from typing import Any, TypeVar, get_type_hints

import tyro

from ..core.anchor_config import AnchorConfig
from ..train import TrainConfig, read_config
from ..train.resolve import with_parts

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
        kind: a dataclass whose fields are the flags.
        arguments: the command line after the subcommand.
        default: values of the flags that are not given; None uses the defaults of
            `kind`.
        name: name of the subcommand.
        is_draft: ignores unknown flags and requests for help.

    Returns:
        The configuration.
    """
    # The help is left to the final pass, which knows the defaults of every flag.
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


def parse_training(
    arguments: Sequence[str],
    *,
    name: str = "train",
    default: TrainConfig | None = None,
) -> TrainConfig:
    """Reads the flags of a training run, and the file that `--config` names.

    Args:
        arguments: the command line after the subcommand.
        name: name of the subcommand.
        default: settings without flags and without a file; None uses `TrainConfig()`.

    Returns:
        The settings, with optimizer, pipeline and rules filled in.
    """
    # The file is read first, because its values are the defaults of all other flags.
    file = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    file.add_argument("--config")
    given, rest = file.parse_known_args(arguments)
    config = default or TrainConfig()
    if given.config is not None:
        config = read_config(TrainConfig, given.config)
    # The defaults of a nested flag such as --rpn.anchors.sizes depend on --preset and
    # --backbone. So a first pass reads those, and the second one has all the flags.
    parts = ("optimizer", "pipeline", "rpn")
    if None in [getattr(config, part) for part in parts]:
        draft = with_parts(parse(TrainConfig, rest, default=config, is_draft=True))
        chosen = {part: getattr(draft, part) for part in parts}
        config = dataclasses.replace(config, **chosen)
    return parse(TrainConfig, rest, default=config, name=name)


@_registry.primitive_rule
def _sizes_rule(
    info: tyro.constructors.PrimitiveTypeInfo,
) -> tyro.constructors.PrimitiveConstructorSpec | None:
    """Reads anchor sizes as `32 64 128`, or `8,16 32,64` for two on each level."""
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
