"""The model of a run: as it begins, and as its newest checkpoint has it."""

import os
from typing import NamedTuple

from flax import nnx

from ..devices import make_mesh
from ..models import RPN, make_model
from ..models.interop import SYSTEMS
from .checkpoints import CheckpointStore
from .config_file import read_config
from .optimizer import make_optimizer, make_schedule
from .run_folder import RunFolder
from .step import init_state
from .train_config import ResolvedConfig


class TrainedRun(NamedTuple):
    """What a finished, or interrupted, run has learnt.

    Attributes:
        model: with the parameters of the newest whole checkpoint.
        config: of the run.
        step: how many steps it had made.
    """

    model: RPN
    config: ResolvedConfig
    step: int


def build_model(config: ResolvedConfig) -> RPN:
    """The network of a configuration, with random weights.

    Args:
        config: its backbone, rules and seed.

    Returns:
        The network; its norms are group norms unless pretrained weights will be loaded.
    """
    system = config.weights_system
    traits = {} if system is None else SYSTEMS[system].options(config.backbone)
    is_scratch = config.init_weights is None and config.backbone != "vgg16"
    return make_model(
        config.rpn.anchors,
        backbone=config.backbone,
        norm="group" if is_scratch else None,
        out_features=config.fpn_features,
        frozen_stages=config.frozen_stages,
        # The systems with these anchors have a softmax over (background, object).
        num_logits=2 if config.rpn.anchors.rounding == "legacy" else 1,
        dtype=None if config.dtype == "float32" else config.dtype,
        rngs=nnx.Rngs(config.seed),
        **traits,
    )


def load_run(folder: str | os.PathLike[str]) -> TrainedRun:
    """The model of a run, from its newest whole checkpoint.

    Args:
        folder: of the run, as `rpn-jax train --out` was given it.

    Returns:
        The model, the settings and how far the run had come.

    Raises:
        ValueError: there is no run in the folder, or no checkpoint of it.
    """
    places = RunFolder(folder)
    config = read_config(ResolvedConfig, places.config)
    schedule = make_schedule(config.optimizer, config.lr, 1)
    optimizer = make_optimizer(config.optimizer, schedule)
    graphdef, state = init_state(build_model(config), optimizer, make_mesh())
    store = CheckpointStore(places.checkpoints)
    restored = store.restore(state)
    store.close()
    if restored is None:
        raise ValueError(
            f"load_run needs a whole checkpoint in {places.checkpoints}, got none. Go "
            "on with the run by `rpn-jax train --resume`."
        )
    model = nnx.merge(graphdef, restored.state.params, restored.state.frozen)
    return TrainedRun(model, config, restored.step)
