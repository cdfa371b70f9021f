"""The optimizer, which turns gradients into updates, and its learning rate."""

import dataclasses
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from ..core._arguments import lenient_settings
from ..core._typing import Int
from .average import averaging


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """How gradients become updates.

    Attributes:
        name: `"sgd"` with momentum, as in all reference systems, `"adamw"` or `"muon"`,
            described at https://kellerjordan.github.io/posts/muon, which needs fewer
            steps from scratch. Muon updates kernels, and AdamW the other parameters.
        momentum: momentum of SGD, or the decay of the first moments of AdamW and Muon.
        beta2: decay of the second moments of AdamW, and of Muon's part that is AdamW.
        weight_decay: decay of the kernels; biases and norms are never decayed. SGD adds
            it to the gradient, AdamW and Muon to the update.
        warmup_steps: number of steps in which the learning rate rises linearly to its
            peak, but at most a fifth of all steps.
        schedule: `"cosine"` decays to 0 at the last step; `"step"` multiplies the rate
            by `decay_factor` at every milestone; `"constant"` does not decay.
        milestones: positions of the decays of `"step"`, as shares of all steps.
        decay_factor: factor of the learning rate at every milestone.
        clip_norm: largest norm of all gradients together; None does not clip.

    >>> OptimizerConfig(name="sgd").momentum
    0.9
    """

    name: Literal["sgd", "adamw", "muon"] = "sgd"
    momentum: float = 0.9
    beta2: float = 0.999
    weight_decay: float = 1e-4
    warmup_steps: int = 50
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    milestones: tuple[float, ...] = (2 / 3, 8 / 9)
    decay_factor: float = 0.1
    clip_norm: float | None = 10.0

    def __post_init__(self) -> None:
        if self.warmup_steps < 0 or not all(0 < x < 1 for x in self.milestones):
            raise ValueError(
                "OptimizerConfig needs warmup_steps >= 0 and milestones in (0, 1), got "
                f"{self.warmup_steps} and {self.milestones}."
            )
        if not all(0 <= x < 1 for x in (self.momentum, self.beta2)):
            raise ValueError(
                "OptimizerConfig needs a momentum and a beta2 in [0, 1), got "
                f"{self.momentum} and {self.beta2}."
            )
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(
                "OptimizerConfig needs a finite weight_decay >= 0, got "
                f"{self.weight_decay}."
            )
        clip = 1.0 if self.clip_norm is None else self.clip_norm
        if not (0 < self.decay_factor < math.inf and clip > 0):
            raise ValueError(
                "OptimizerConfig needs a finite decay_factor > 0, and a clip_norm > 0 "
                f"or None, got {self.decay_factor} and {self.clip_norm}."
            )


lenient_settings(OptimizerConfig)


def make_schedule(
    config: OptimizerConfig, learning_rate: float, num_steps: int
) -> optax.Schedule:
    """Makes the learning rate of every step.

    Args:
        config: the shape of the schedule.
        learning_rate: peak learning rate.
        num_steps: number of steps of the whole training. The warm-up takes at most a
            fifth of them.

    Returns:
        A function from the step, counted from 0, to the learning rate.

    >>> schedule = make_schedule(OptimizerConfig(), 0.1, num_steps=10)
    >>> float(schedule(10)) < float(schedule(9))
    True
    """
    warmup = min(config.warmup_steps, num_steps // 5)
    rest = num_steps - warmup
    # `join_schedules` restarts the count after the warm-up, so decays do so too.
    if config.schedule == "cosine":
        main = optax.cosine_decay_schedule(learning_rate, max(rest, 1))
    elif config.schedule == "step":
        falls = {
            int(share * num_steps) - warmup: config.decay_factor
            for share in config.milestones
        }
        main = optax.piecewise_constant_schedule(learning_rate, falls)
    else:
        main = optax.constant_schedule(learning_rate)
    # The warm-up starts above 0, so that the first step changes the parameters too.
    rise = optax.linear_schedule(learning_rate / (warmup + 1), learning_rate, warmup)
    return optax.join_schedules([rise, main], [warmup])


def make_optimizer(
    config: OptimizerConfig,
    schedule: optax.Schedule,
    *,
    trunk_lr_scale: float = 1.0,
    ema: float | None = None,
) -> optax.GradientTransformation:
    """Makes an optimizer that skips steps whose gradients are not finite.

    Args:
        config: the settings of the optimizer.
        schedule: the learning rate of every step.
        trunk_lr_scale: factor of the learning rate of the trunk, `backbone.body`.
        ema: decay of the average of the weights, which `averaged` reads from the state;
            None keeps no average.

    Returns:
        An optax transformation. `count_skipped` reads the number of skipped steps from
        its state.

    >>> config = OptimizerConfig(name="sgd")
    >>> optimizer = make_optimizer(config, make_schedule(config, 0.1, num_steps=10))
    >>> state = jax.eval_shape(optimizer.init, {"bias": jnp.zeros(3)})
    """
    update = _with_trunk_scaled(_make_update(config, schedule), trunk_lr_scale)
    if config.clip_norm is not None:
        update = optax.chain(optax.clip_by_global_norm(config.clip_norm), update)
    # The average is inside, so a skipped step does not change it.
    if ema is not None:
        update = averaging(update, ema)
    # After so many errors optax would apply a non-finite update. Never reach it: the
    # caller counts skipped steps and decides when to stop.
    never = jnp.iinfo(jnp.int32).max
    return optax.apply_if_finite(update, max_consecutive_errors=never)


def count_skipped(
    state: optax.OptState,
) -> tuple[Int[jax.Array, ""], Int[jax.Array, ""]]:
    """Reads how many steps were skipped because of non-finite gradients.

    Args:
        state: state of an optimizer from `make_optimizer`.

    Returns:
        The number since the last step that was made, and the number over the whole run.

    Raises:
        TypeError: the state belongs to another optimizer.

    >>> import jax.numpy as jnp
    >>> config = OptimizerConfig(name="sgd")
    >>> optimizer = make_optimizer(config, make_schedule(config, 0.1, num_steps=10))
    >>> in_a_row, in_total = count_skipped(optimizer.init({"bias": jnp.zeros(3)}))
    >>> int(in_a_row), int(in_total)
    (0, 0)
    """
    if not isinstance(state, optax.ApplyIfFiniteState):
        raise TypeError(
            "count_skipped needs the state of an optimizer from make_optimizer, "
            f"got a {type(state).__name__}."
        )
    return state.notfinite_count, state.total_notfinite


def _make_update(
    config: OptimizerConfig, schedule: optax.Schedule
) -> optax.GradientTransformation:
    """The optimizer that `config.name` names, without clipping."""
    if config.name == "adamw":
        return optax.adamw(
            schedule,
            b1=config.momentum,
            b2=config.beta2,
            weight_decay=config.weight_decay,
            mask=_is_kernel,
        )
    # SGD adds the decay before the momentum, as in PyTorch and Caffe.
    if config.name == "sgd":
        return optax.chain(
            optax.add_decayed_weights(config.weight_decay, mask=_is_kernel),
            optax.sgd(schedule, momentum=config.momentum),
        )
    # `consistent_rms` scales the updates to the size of AdamW's, so that one learning
    # rate suits both. Three Newton-Schulz steps from the Schatten norm
    # (https://arxiv.org/abs/2506.10935) reach the same recall on scenes as five from
    # the Frobenius norm.
    return optax.contrib.muon(
        schedule,
        beta=config.momentum,
        weight_decay=config.weight_decay,
        adam_b1=config.momentum,
        adam_b2=config.beta2,
        muon_weight_dimension_numbers=_matrices,
        consistent_rms=0.2,
        ns_steps=3,
        preconditioning="schatten",
    )


def _with_trunk_scaled(
    update: optax.GradientTransformation, scale: float
) -> optax.GradientTransformation:
    """Multiplies the updates of the trunk, and so their learning rate.

    The state is that of `update`, so a checkpoint does not depend on the scale.
    """

    def step(
        updates: optax.Updates,
        state: optax.OptState,
        params: optax.Params | None = None,
    ) -> tuple[optax.Updates, optax.OptState]:
        updates, state = update.update(updates, state, params)
        scaled = jax.tree_util.tree_map_with_path(
            lambda path, x: scale * x if _is_in_trunk(path) else x, updates
        )
        return scaled, state

    return optax.GradientTransformation(update.init, step)


def _is_in_trunk(path: tuple[Any, ...]) -> bool:
    start = jax.tree_util.keystr(path[:2], simple=True, separator=".")
    return start == "backbone.body"


def _is_kernel(params: optax.Params) -> optax.Params:
    """Which parameters are decayed: biases and norms have a single axis."""
    return jax.tree.map(lambda x: x.ndim > 1, params)


def _matrices(params: optax.Params) -> optax.Params:
    """Which axes of a kernel Muon takes as the rows and columns of a matrix.

    The rows are all inputs of a window, and the columns are the output channels. In a
    depthwise convolution each channel is a separate matrix with a single column. AdamW
    updates the parameters that are None here.
    """
    dense = optax.contrib.MuonDimensionNumbers((0, 1, 2), 3)
    depthwise = optax.contrib.MuonDimensionNumbers((0, 1), 2)

    def axes(x: jax.Array) -> optax.contrib.MuonDimensionNumbers | None:
        if x.ndim < 4:
            return None
        return depthwise if x.shape[2] == 1 else dense

    return jax.tree.map(axes, params)
