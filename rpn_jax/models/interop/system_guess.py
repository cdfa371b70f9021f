"""Guesses which system a file comes from. A guess must explain a complete network."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from ..backbone_registry import BACKBONES
from .foreign_checkpoint import Checkpoint, system_names, translate, translate_name
from .network_shapes import backbone_of, expected_shapes, has_head
from .systems import SYSTEMS

_NUM_EXAMPLES = 3
# Share of the network that may be missing. The loader names single tensors.
_MAY_MISS = 0.1
# Number of tensors that may be among those of the network without a place in it, such
# as the last layer of a classifier. Deformable convolutions or attention have more.
_MAY_ADD = 2
# Names in the file that describe the network, and are no weights.
_NO_WEIGHTS = ("num_batches_tracked", "cell_anchors", "pixel_mean", "pixel_std")
_FAMILIES = sorted({name.rsplit("_", 1)[0] for name in BACKBONES})


class Fit(NamedTuple):
    """How well a system explains a file.

    Attributes:
        system: name in `SYSTEMS`.
        number: number of tensors that have a name of the system.
        objection: why the file is not of this system; empty if it may be.
    """

    system: str
    number: int
    objection: str


def guess_system(tensors: Mapping[str, np.ndarray] | Iterable[str]) -> str:
    """The system that explains a file: the first one of `SYSTEMS` that fits best.

    Args:
        tensors: arrays by name, or the names alone, which tell less.

    Returns:
        Its name in `SYSTEMS`.

    Raises:
        ValueError: no system explains nearly all tensors of a complete network. The
            message names the nearest systems, and what the file misses for each.

    >>> from flax import nnx
    >>> from rpn_jax import AnchorConfig
    >>> from rpn_jax.models import BackboneConfig, export_weights, make_model
    >>> narrow = BackboneConfig(name="tiny_fpn", out_features=8)
    >>> model = make_model(AnchorConfig(), backbone=narrow, rngs=nnx.Rngs(0))
    >>> guess_system(export_weights(model, "torchvision"))
    'torchvision'
    """
    names = list(tensors)
    arrays = tensors if isinstance(tensors, Mapping) else {}
    found = {
        system: {name: ours for name in names if (ours := translate_name(name, system))}
        for system in SYSTEMS
    }
    # The sort is stable, so the order of `SYSTEMS` decides between equals.
    best = sorted(found, key=lambda system: -len(found[system]))
    if not found[best[0]]:
        raise ValueError(
            f"No tensor has a name of {', '.join(SYSTEMS)}, got "
            f"{', '.join(names[:3]) or 'no tensors'}. Choose a file of one of these "
            "systems."
        )
    fits = []
    for system in best:
        # Systems with the same names as a nearer one have the same objections.
        if found[system] and all(found[system] != found[x.system] for x in fits):
            fits.append(_fit(names, arrays, found[system], system))
            if not fits[-1].objection:
                return system
    raise ValueError(_nothing_fits(fits, len(names)))


def _fit(
    names: list[str],
    arrays: Mapping[str, np.ndarray],
    found: Mapping[str, str],
    system: str,
) -> Fit:
    """Whether the names of a file are those of a complete network of a system."""
    if arrays:
        checkpoint = translate(arrays, system)
    else:
        tensors = dict.fromkeys(found.values(), np.zeros(()))
        checkpoint = Checkpoint("the file", system, tensors, {}, ())
    return Fit(system, len(found), _objection(names, arrays, found, checkpoint))


def _objection(
    names: list[str],
    arrays: Mapping[str, np.ndarray],
    found: Mapping[str, str],
    checkpoint: Checkpoint,
) -> str:
    ours = set(found.values())
    try:
        backbone_of(checkpoint)
    except ValueError:
        return "its backbone is unknown"
    # A pyramid without a head is that of another kind of detector.
    head = [f"head.{part}" for part in ("convs.0", "logits", "deltas")]
    lost = [x for x in head if not any(y.startswith(f"{x}.") for y in ours)]
    is_detector = has_head(checkpoint) or any("backbone.fpn." in x for x in ours)
    if is_detector and lost:
        return f"it misses {_summary(system_names(lost, checkpoint.system))}"
    # Tensors among those of the network that have no place in it show that the network
    # is another one.
    roots = {name.split(".")[0] for name in found}
    strange = [
        name
        for name in names
        if name not in found
        and name.split(".")[0] in roots
        and not any(x in name for x in _NO_WEIGHTS)
    ]
    if len(strange) > _MAY_ADD:
        return f"its network has no place for {_summary(strange)}"
    return _differences(checkpoint) if arrays else ""


def _differences(checkpoint: Checkpoint) -> str:
    """What the network of the shapes in the file needs, or has, beside them."""
    try:
        expected = expected_shapes(checkpoint)
    except ValueError:  # a tensor is missing that the loader asks for by name
        return ""
    lost = [name for name in expected if name not in checkpoint.tensors]
    if len(lost) > _MAY_MISS * len(expected):
        return f"it misses {_summary(system_names(lost, checkpoint.system))}"
    other = [
        checkpoint.names[name]
        for name, shape in expected.items()
        if checkpoint.tensors.get(name, np.zeros(shape)).shape != shape
    ]
    if len(other) > _MAY_MISS * len(expected):
        return f"other shapes have {_summary(other)}"
    # A classifier may have further stages, which a detector does not use.
    is_detector = has_head(checkpoint)
    added = [x for x in checkpoint.tensors if is_detector and x not in expected]
    if len(added) > _MAY_ADD or any("fpn" in name or "head" in name for name in added):
        names = [checkpoint.names[name] for name in added]
        return f"its network has no place for {_summary(names)}"
    return ""


def _nothing_fits(fits: list[Fit], number: int) -> str:
    nearest = "; ".join(
        f"{fit.system} explains {fit.number}, but {fit.objection}"
        for fit in fits[:_NUM_EXAMPLES]
    )
    return (
        f"its {number} tensors are no complete network of a known system: {nearest}. "
        "Choose a detector with an RPN, or a classifier, of one of these systems, on "
        f"{', '.join(_FAMILIES[:-1])} or {_FAMILIES[-1]}."
    )


def _summary(names: list[str]) -> str:
    examples = ", ".join(names[:_NUM_EXAMPLES])
    if len(names) > _NUM_EXAMPLES:
        return f"{len(names)} tensors ({examples}, ...)"
    return examples
