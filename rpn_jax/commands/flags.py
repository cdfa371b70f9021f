"""Frozen configurations as command-line flags."""

import argparse
import dataclasses
import os
from collections.abc import Sequence
from typing import Any, TypeVar

import tyro

from ..core.config import open_shares
from ..distributed import ProcessConfig
from ..train import TrainConfig, read_config
from ..train.resolve import with_parts
from . import anchor_flags
from .help_defaults import with_both_defaults

T = TypeVar("T")
# The fields of all commands that name a file or a folder.
PATHS = frozenset(
    {
        *("data", "images", "val_data", "val_images", "init_weights", "out"),
        *("run", "runs", "weights", "source", "target", "base"),
    }
)
_HELP = ("-h", "--help")
_registry = tyro.constructors.ConstructorRegistry()
anchor_flags.add_rules(_registry)


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
        The configuration. A `~` that begins a path has become the user's home folder.
    """
    # The help is left to the final pass, which knows the defaults of every flag.
    if is_draft:
        arguments = [x for x in arguments if x not in _HELP]
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
    return _at_home(found[0] if is_draft else found)


def check_network(command: str, run: str | None, weights: str | None) -> None:
    """Raises a `ValueError` unless exactly one source of a network is given.

    Args:
        command: name of the subcommand.
        run: folder of a training run, or None.
        weights: file with the weights of another system, or None.
    """
    if (run is None) == (weights is None):
        raise ValueError(
            f"{command} needs either --run, the folder of a training run, or "
            f"--weights, a file of another system, got {run} and {weights}. Pass "
            "exactly one of them."
        )


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
    config, rest = _defaults(arguments, default)
    return parse(type(config), rest, default=config, name=name)


def parse_distributed_training(
    arguments: Sequence[str],
) -> tuple[TrainConfig, ProcessConfig]:
    """Reads the flags of `rpn-jax train`: those of the run, and those of its processes.

    Args:
        arguments: the command line after the subcommand.

    Returns:
        The settings, as `parse_training` returns them, and who shares the run.
    """
    config, rest = _defaults(arguments, None)
    kind: Any = dataclasses.make_dataclass(
        "TrainFlags", [], bases=(type(config), ProcessConfig), frozen=True, kw_only=True
    )
    found = parse(kind, rest, default=kind(**_values(config, config)), name="train")
    return (
        TrainConfig(**_values(found, TrainConfig)),
        ProcessConfig(**_values(found, ProcessConfig)),
    )


def _values(config: Any, kind: Any) -> dict[str, Any]:
    """The values that `config` has for the fields of `kind`, by name."""
    return {x.name: getattr(config, x.name) for x in dataclasses.fields(kind)}


def _defaults(
    arguments: Sequence[str], default: TrainConfig | None
) -> tuple[TrainConfig, list[str]]:
    """The defaults of all flags of a run, and the flags without `--config`."""
    # The file is read first, because its values are the defaults of all other flags.
    file = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    file.add_argument("--config")
    given, rest = file.parse_known_args(arguments)
    config = default or TrainConfig()
    if given.config is not None:
        config = read_config(TrainConfig, os.path.expanduser(given.config))
    config = _with_open_shares(config)
    # The defaults of a nested flag such as --rpn.anchors.sizes depend on --preset and
    # --backbone. So a first pass reads those, and the second one has all the flags.
    parts = ("optimizer", "pipeline", "rpn")
    if None in [getattr(config, part) for part in parts]:
        draft = parse(TrainConfig, rest, default=config, is_draft=True)
        filled = with_parts(draft)
        chosen = {part: getattr(filled, part) for part in parts}
        is_open = config.pipeline is None and draft.data == "scenes"
        config = dataclasses.replace(config, **chosen)
        # Help without --data has to serve whoever will pass it.
        if is_open and any(x in _HELP for x in rest):
            other = with_parts(dataclasses.replace(draft, data="other data"))
            config = with_both_defaults(config, other)
    return _with_open_shares(config), rest


def _with_open_shares(config: TrainConfig) -> TrainConfig:
    """So that a flag of `rpn.targets` sets its value for all stages."""
    if config.rpn is None:
        return config
    return dataclasses.replace(config, rpn=open_shares(config.rpn))


def _at_home(config: T) -> T:
    """Expands the `~` of every path, which a shell leaves alone in `--out=~/run`."""
    fields: Any = config
    names = PATHS & {field.name for field in dataclasses.fields(fields)}
    changed = {name: _expanded(getattr(config, name)) for name in names}
    return dataclasses.replace(fields, **changed)


def _expanded(path: Any) -> Any:
    if isinstance(path, tuple):
        return tuple(map(_expanded, path))
    return os.path.expanduser(path) if isinstance(path, str) else path
