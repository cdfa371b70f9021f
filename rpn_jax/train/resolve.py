"""Chooses the settings that a training configuration leaves at None."""

import dataclasses
from typing import Any, get_args

import jax

from .. import presets
from ..core.config import RPNConfig
from ..data import PipelineConfig
from ..models import backbone_spec
from ..models.interop import Checkpoint, SystemName, has_head, read_checkpoint
from ..models.interop.network_shapes import shape_of
from .defaults import FINE_TUNING_LR, SGD_LR, data_defaults, start_defaults
from .train_config import Preset, ResolvedConfig, TrainConfig


def resolve(config: TrainConfig, weights: Checkpoint | None = None) -> ResolvedConfig:
    """Fills in every setting that is None and does not depend on the data itself.

    Args:
        config: the settings as they were given.
        weights: the content of `config.init_weights`, if it was read already; None
            reads that file if `config.weights_system` is None.

    Returns:
        The settings with a backbone, frozen stages, a batch size, an optimizer,
        learning rates, a pipeline, the rules, and the system of the weights. The head
        has the layers that its weights have, if they are there and the rules have as
        many as by default.

    >>> resolve(TrainConfig(data="scenes")).backbone
    'tiny_fpn'
    """
    config = with_parts(config)
    if config.init_weights is not None and config.weights_system is None:
        weights = weights or read_checkpoint(config.init_weights)
    config = _with_layers(config, weights)
    data, start = data_defaults(config), start_defaults(config)
    assert config.optimizer is not None  # `with_parts` has chosen one
    is_adamw = config.optimizer.name == "adamw"
    rates = {"sgd": SGD_LR, "adamw": data.adamw_lr, "muon": data.muon_lr}
    if weights is not None and has_head(weights):
        rates["adamw"] = FINE_TUNING_LR
    return ResolvedConfig(
        **_filled(
            config,
            backbone=data.backbone,
            frozen_stages=start.frozen_stages,
            batch_size=_shared_evenly(data.batch_size, config.accumulate),
            weights_system=None if weights is None else _system_of(weights),
            lr=rates[config.optimizer.name],
            trunk_lr_scale=start.trunk_lr_scale if is_adamw else 1.0,
        )
    )


def with_parts(config: TrainConfig) -> TrainConfig:
    """Fills in the optimizer, the pipeline and the rules, without reading any file."""
    data, start = data_defaults(config), start_defaults(config)
    return TrainConfig(
        **_filled(
            config,
            optimizer=start.optimizer,
            pipeline=PipelineConfig(min_side=data.min_side, max_side=data.max_side),
            rpn=_rules(config.preset, config.backbone or data.backbone),
        )
    )


def _filled(config: TrainConfig, **defaults: Any) -> dict[str, Any]:
    """All fields by name, with `defaults` for those that are None."""
    values = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    return values | {k: v for k, v in defaults.items() if values[k] is None}


def _shared_evenly(batch_size: int, accumulate: int) -> int:
    """The next batch size that the parts and the devices share evenly."""
    parts = accumulate * jax.device_count()
    return -(-batch_size // parts) * parts


def _rules(preset: Preset | None, backbone: str) -> RPNConfig:
    """The rules of a preset, or the default rules of a backbone."""
    if preset is not None:
        return getattr(presets, preset)()
    return backbone_spec(backbone).rules()


def _with_layers(config: TrainConfig, weights: Checkpoint | None) -> TrainConfig:
    """Gives the head the layers of a head that is loaded, unless others were chosen."""
    rules, data = config.rpn, data_defaults(config)
    if rules is None or weights is None or not has_head(weights):
        return config
    usual = _rules(config.preset, config.backbone or data.backbone)
    layers = [(x.num_convs, x.num_pointwise) for x in (rules, usual)]
    if rules.head != "plain" or layers[0] != layers[1]:
        return config
    shape = shape_of(weights)
    rules = dataclasses.replace(
        rules, num_convs=shape.num_convs, num_pointwise=shape.num_pointwise
    )
    return dataclasses.replace(config, rpn=rules)


def _system_of(weights: Checkpoint) -> SystemName:
    return next(name for name in get_args(SystemName) if name == weights.system)
