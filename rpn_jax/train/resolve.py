"""What a training configuration leaves open, chosen from the rest of it."""

import dataclasses
from typing import get_args

import jax

from .. import presets
from ..core.config import RPNConfig
from ..data import PipelineConfig
from ..models import default_anchors
from ..models.interop import SystemName, read_checkpoint
from .optimizer import OptimizerConfig
from .train_config import Preset, ResolvedConfig, TrainConfig


def resolve(config: TrainConfig) -> ResolvedConfig:
    """Fills in what is None and does not need the data to be read.

    Args:
        config: the settings as they were given.

    Returns:
        The settings with a backbone, its frozen stages, a batch size, an optimiser, a
        learning rate, a pipeline and the rules of the network.
    """
    is_scenes = config.data == "scenes"
    backbone = config.backbone or ("tiny_fpn" if is_scenes else "mobilenet_v2_fpn")
    sides = (240, 320) if is_scenes else (480, 800)
    pipeline = config.pipeline or PipelineConfig(min_side=sides[0], max_side=sides[1])
    has_weights = config.init_weights is not None
    optimizer = config.optimizer or OptimizerConfig(
        name="adamw" if has_weights else "muon"
    )
    # What `accumulate` and the devices divide.
    parts = config.accumulate * jax.device_count()
    images = -(-(4 if is_scenes else 8) // parts) * parts
    values = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    chosen = {
        "backbone": backbone,
        "frozen_stages": 2 if has_weights else 0,
        "batch_size": images,
        "weights_system": _system_of(config),
        "optimizer": optimizer,
        "lr": 0.02 if optimizer.name == "sgd" else (3e-3 if is_scenes else 1e-3),
        "pipeline": pipeline,
        "rpn": _choose_rules(config.preset, backbone),
    }
    missing = {k: v for k, v in chosen.items() if values[k] is None}
    return ResolvedConfig(**(values | missing))


def _choose_rules(preset: Preset | None, backbone: str) -> RPNConfig:
    if preset is not None:
        return getattr(presets, preset)()
    if backbone == "vgg16":
        return presets.jwyang_vgg16()
    if backbone.endswith("_c4"):
        return presets.detectron2_c4()
    rules = presets.pyramid()
    if backbone == "mobilenet_v3_large_fpn":  # whose pyramid has strides of its own
        return dataclasses.replace(rules, anchors=default_anchors(backbone))
    return rules


def _system_of(config: TrainConfig) -> SystemName | None:
    if config.init_weights is None or config.weights_system is not None:
        return config.weights_system
    found = read_checkpoint(config.init_weights).system
    return next(name for name in get_args(SystemName) if name == found)
