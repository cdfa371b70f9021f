"""The model and the optimizer of a run, new or from its newest checkpoint."""

import os
from typing import Any, NamedTuple

import optax
from flax import nnx

from ..devices import make_mesh
from ..models import RPN, BackboneConfig, backbone_spec, make_model
from ..models.interop import SYSTEMS
from ..models.shapes_only import shapes_only
from .average import averaged
from .checkpoints import CheckpointStore
from .config_file import read_config
from .optimizer import make_optimizer, make_schedule
from .run_folder import RunFolder
from .step import state_shapes
from .train_config import ResolvedConfig


class TrainedRun(NamedTuple):
    """The result of a finished or interrupted run.

    Attributes:
        model: the network with the parameters of the newest intact checkpoint.
        config: the settings of the run.
        step: number of steps made before that checkpoint.
    """

    model: RPN
    config: ResolvedConfig
    step: int


def build_model(config: ResolvedConfig, rngs: nnx.Rngs | None = None) -> RPN:
    """Makes the network of a configuration with random weights.

    Args:
        config: the settings of a run, from `resolve`.
        rngs: source of randomness; None uses the seed of the settings.

    Returns:
        The network. It has group norms if it is trained from scratch, otherwise the
        norms that the pretrained weights of the backbone have.

    >>> from rpn_jax.train import TrainConfig, resolve
    >>> config = resolve(TrainConfig(data="scenes", fpn_features=8))
    >>> nnx.eval_shape(lambda: build_model(config)).feature_shapes((64, 96))[0]
    (16, 24)
    """
    # Frozen norms need pretrained statistics, so other runs have group norms.
    has_norms = backbone_spec(config.backbone).has_norms
    is_group = has_norms and config.init_weights is None
    backbone = BackboneConfig(
        name=config.backbone,
        norm="group" if is_group else None,
        out_features=config.fpn_features,
        frozen_stages=config.frozen_stages,
        remat=config.remat,
    )
    options: dict[str, Any] = {"backbone": backbone}
    if config.weights_system is not None:
        options = SYSTEMS[config.weights_system].options(backbone)
    return make_model(
        config.rpn.anchors,
        num_logits=config.rpn.num_logits,
        num_convs=config.rpn.num_convs,
        num_pointwise=config.rpn.num_pointwise,
        head=config.rpn.head,
        dtype=None if config.dtype == "float32" else config.dtype,
        rngs=rngs or nnx.Rngs(config.seed),
        **options,
    )


def build_optimizer(
    config: ResolvedConfig, num_steps: int
) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """Makes the optimizer of a configuration.

    Args:
        config: the settings of a run, from `resolve`.
        num_steps: number of steps of the whole run.

    Returns:
        The optimizer, and the learning rate of every step.

    >>> from rpn_jax.train import TrainConfig, resolve
    >>> config = resolve(TrainConfig(data="scenes"))
    >>> optimizer, schedule = build_optimizer(config, num_steps=1000)
    >>> float(schedule(0)) < config.lr
    True
    """
    schedule = make_schedule(config.optimizer, config.lr, num_steps)
    optimizer = make_optimizer(
        config.optimizer,
        schedule,
        trunk_lr_scale=config.trunk_lr_scale,
        ema=config.ema,
    )
    return optimizer, schedule


def load_run(folder: str | os.PathLike[str], *, best: bool = False) -> TrainedRun:
    """Loads the model of a run from its newest intact checkpoint, or from the best.

    Args:
        folder: folder of the run, the `--out` of `rpn-jax train`.
        best: whether to load the step with the best AR@100 of the evaluations during
            training (`eval_every`) instead of the newest one.

    Returns:
        The model, the settings and the number of steps.

    Raises:
        ValueError: the folder has no run, or the run has no such intact checkpoint.

    >>> load_run("no/such/run")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    ValueError: read_config needs a JSON file, got 'no/such/run/config.json': ...
    """
    places = RunFolder(folder)
    config = read_config(ResolvedConfig, places.config)
    # The saved state is restored by its shapes, so nothing is initialized, and the
    # length of the schedule does not matter.
    optimizer, _ = build_optimizer(config, num_steps=1)
    model = shapes_only(lambda rngs: build_model(config, rngs))
    graphdef, state = state_shapes(model, optimizer, make_mesh())
    checkpoints = places.best if best else places.checkpoints
    restored = None
    if checkpoints.is_dir():  # a store would make the folder
        store = CheckpointStore(checkpoints)
        restored = store.restore(state)
        store.close()
    if restored is None:
        advice = "Continue the run with `rpn-jax train --resume`."
        if best:
            advice = "Load the newest one, or train with --eval-every."
        raise ValueError(
            f"load_run needs an intact checkpoint in {checkpoints}, got none. {advice}"
        )
    params = averaged(restored.state.optimizer, restored.state.params)
    model = nnx.merge(graphdef, params, restored.state.frozen)
    return TrainedRun(model, config, restored.step)
