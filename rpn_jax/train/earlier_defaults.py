"""Defaults that were others before, with which an earlier run continues."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from .resolve import with_parts
from .train_config import ResolvedConfig, TrainConfig

# What version 0.1.0 had, by the part of the settings.
_EARLIER: Mapping[str, Mapping[str, Any]] = {
    "optimizer": {"beta2": 0.999},
    "pipeline": {"reduced_decoding": False},
    "rpn": {"num_pointwise": 0},
    "targets": {
        "num_samples": 256,
        "positive_sampler": "uniform",
        "negative_sampler": "uniform",
    },
    "losses": {"objectness": "label"},
    "proposals": {
        "iou_threshold": 0.7,
        "soft_iou_threshold": None,
        "soft_factor": 0.03,
        "vote_iou_threshold": None,
    },
}
# What stays as it is in the run, whatever today's defaults are.
_OF_RUN = ("batch_size", "lr", "trunk_lr_scale")
Kept = Mapping[str, Any]


def earlier_settings(run: ResolvedConfig) -> Kept:
    """What `with_earlier` needs to know of a run, as JSON has it.

    Args:
        run: the settings of the run.
    """
    parts = _parts(run)
    kept = {
        part: [name for name, value in old.items() if parts[part][name] == value]
        for part, old in _EARLIER.items()
    }
    return {name: getattr(run, name) for name in _OF_RUN} | {"kept": kept}


def with_earlier(config: TrainConfig, earlier: Kept) -> TrainConfig:
    """The settings that continue a run, as if its defaults were today's.

    * The batch size and the learning rates are those of the run, if there are none.
    * A setting that has today's default gets that of version 0.1.0, if the run has it.

    Args:
        config: the settings as they were given.
        earlier: what `earlier_settings` found.
    """
    for name in _OF_RUN:
        if getattr(config, name) is None:
            config = dataclasses.replace(config, **{name: earlier[name]})
    filled = with_parts(config)
    now = _parts(filled)
    open_parts = dataclasses.replace(config, optimizer=None, pipeline=None, rpn=None)
    today = _parts(with_parts(open_parts))
    changed = {
        part: {
            name: _EARLIER[part][name]
            for name in names
            if today[part][name] == now[part][name] != _EARLIER[part][name]
        }
        for part, names in earlier["kept"].items()
    }
    if not any(changed.values()):
        return config
    assert filled.rpn is not None
    stages = {
        name: dataclasses.replace(getattr(filled.rpn, name), **changed[name])
        for name in ("targets", "losses", "proposals")
    }
    others: dict[str, Any] = {
        name: dataclasses.replace(getattr(filled, name), **changed[name])
        for name in ("optimizer", "pipeline")
    }
    rules = dataclasses.replace(filled.rpn, **changed["rpn"], **stages)
    return dataclasses.replace(config, rpn=rules, **others)


def _parts(config: TrainConfig) -> Mapping[str, Mapping[str, Any]]:
    """The fields of every part of settings that have a pipeline and rules."""
    assert config.rpn is not None
    parts = {
        "optimizer": config.optimizer,
        "pipeline": config.pipeline,
        "rpn": config.rpn,
        "targets": config.rpn.targets,
        "losses": config.rpn.losses,
        "proposals": config.rpn.proposals,
    }
    return {part: vars(settings) for part, settings in parts.items()}
