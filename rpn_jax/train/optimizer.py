"""The optimiser: what turns gradients into updates, and at what learning rate."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from ..core._typing import Int


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """How gradients become updates.

    Attributes:
        name: `"sgd"` with momentum, as in all reference systems, `"adamw"`, or
            `"muon"` (https://kellerjordan.github.io/posts/muon), which learns in fewer
            steps from random weights; it updates kernels, AdamW the rest.
        momentum: of SGD; the first moments of AdamW and of Muon decay by it.
        weight_decay: of the kernels; biases and norms are never decayed. SGD adds it to
            the gradient, AdamW and Muon to the update.
        warmup_steps: over which the learning rate rises linearly to its value.
        schedule: `"cosine"` falls to 0 at the last step, `"step"` by `decay_factor` at
            every milestone, `"constant"` stays.
        milestones: where `"step"` falls, as shares of all steps.
        decay_factor: what it falls by.
        clip_norm: the largest norm of all gradients together; None does not clip.
    """

    name: Literal["sgd", "adamw", "muon"] = "sgd"
    momentum: float = 0.9
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


def make_schedule(
    config: OptimizerConfig, learning_rate: float, num_steps: int
) -> optax.Schedule:
    """The learning rate of every step.

    Args:
        config: its shape.
        learning_rate: its highest value.
        num_steps: of the whole training. A warm-up is at most half of it.

    Returns:
        A function from the step, counted from 0, to the learning rate.
    """
    warmup = min(config.warmup_steps, num_steps // 2)
    rest = num_steps - warmup
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
    # The first step already learns: it has the first of `warmup` equal rises.
    rise = optax.linear_schedule(learning_rate / (warmup + 1), learning_rate, warmup)
    return optax.join_schedules([rise, main], [warmup])


def make_optimizer(
    config: OptimizerConfig, schedule: optax.Schedule
) -> optax.GradientTransformation:
    """The optimiser, which leaves everything as it is on gradients that are not finite.

    Args:
        config: its settings.
        schedule: the learning rate of every step.

    Returns:
        An optax transformation; `count_skipped` reads from its state how many steps it
        skipped.
    """
    if config.name == "adamw":
        update = optax.adamw(
            schedule,
            b1=config.momentum,
            weight_decay=config.weight_decay,
            mask=_is_kernel,
        )
    elif config.name == "muon":
        # Scaled to the size of AdamW's updates, so that one learning rate fits both.
        # From the Schatten norm (https://arxiv.org/abs/2506.10935), three steps of
        # Newton and Schulz did as well on scenes as five from Frobenius's.
        update = optax.contrib.muon(
            schedule,
            beta=config.momentum,
            weight_decay=config.weight_decay,
            adam_b1=config.momentum,
            muon_weight_dimension_numbers=_matrices,
            consistent_rms=0.2,
            ns_steps=3,
            preconditioning="schatten",
        )
    else:
        update = optax.chain(
            optax.add_decayed_weights(config.weight_decay, mask=_is_kernel),
            optax.sgd(schedule, momentum=config.momentum),
        )
    if config.clip_norm is not None:
        update = optax.chain(optax.clip_by_global_norm(config.clip_norm), update)
    # It is for the caller to give up after a run of these, never to apply one.
    never = jnp.iinfo(jnp.int32).max
    return optax.apply_if_finite(update, max_consecutive_errors=never)


def count_skipped(
    state: optax.OptState,
) -> tuple[Int[jax.Array, ""], Int[jax.Array, ""]]:
    """How many steps were skipped for gradients that were not finite.

    Args:
        state: of an optimiser of `make_optimizer`.

    Returns:
        The number since the last good step, and the number in all.

    Raises:
        TypeError: the state is another optimiser's.
    """
    if not isinstance(state, optax.ApplyIfFiniteState):
        raise TypeError(
            "count_skipped needs the state of an optimiser that make_optimizer made, "
            f"got a {type(state).__name__}."
        )
    return state.notfinite_count, state.total_notfinite


def _is_kernel(params: optax.Params) -> optax.Params:
    return jax.tree.map(lambda x: x.ndim > 1, params)


def _matrices(params: optax.Params) -> optax.Params:
    """Which axes of a kernel are the rows and columns of a matrix, for Muon.

    From all that a window sees to the outputs; in a depthwise convolution each channel
    has a matrix of its own. What is no kernel, None here, AdamW updates.
    """
    dense = optax.contrib.MuonDimensionNumbers((0, 1, 2), 3)
    depthwise = optax.contrib.MuonDimensionNumbers((0, 1), 2)

    def axes(x: jax.Array) -> optax.contrib.MuonDimensionNumbers | None:
        if x.ndim < 4:
            return None
        return depthwise if x.shape[2] == 1 else dense

    return jax.tree.map(axes, params)
