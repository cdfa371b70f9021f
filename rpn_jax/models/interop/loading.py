"""Puts the weights of a checkpoint into a network, and takes them out of it."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from ..network import RPN
from .checkpoint_files import read_checkpoint
from .foreign_checkpoint import Checkpoint, to_system
from .network_shapes import variables_of
from .systems import SYSTEMS
from .weight_files import Tensors

_PARTS = ("backbone.body.", "backbone.fpn.", "head.")  # prefixes of names
_NUM_EXAMPLES = 3


class LoadReport(NamedTuple):
    """Which tensors of a file were loaded into a network, and which were not.

    Attributes:
        system: name in `SYSTEMS` of the system that the weights were made for.
        loaded: names in the file of the tensors that the network now has.
        left_out: names in the file that the network has no place for.
        missing: names in the network of the variables that keep their values, with
            dots between the parts.
        notes: sentences about what was chosen in the file.
    """

    system: str
    loaded: tuple[str, ...]
    left_out: tuple[str, ...]
    missing: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The number of tensors of each kind, with examples, and the notes."""
        counts = (
            f"Loaded {len(self.loaded)} tensors of {self.system}; left out "
            f"{_summary(self.left_out)}; missing {_summary(self.missing)}."
        )
        return " ".join((counts, *self.notes))


def load_weights(
    model: RPN,
    weights: str | pathlib.Path | Checkpoint,
    *,
    system: str | None = None,
) -> LoadReport:
    """Puts weights of any known system into a network.

    Each part of the network (trunk, pyramid or head) is loaded as a whole or not at
    all. Any dtype becomes float32. If an error is raised, the network is unchanged.

    Args:
        model: the network, which is changed in place.
        weights: a file as in `read_tensors`, or the content of one that
            `read_checkpoint` returned.
        system: name in `SYSTEMS` of the system that a file comes from; None guesses it
            from the names of the tensors. A `Checkpoint` knows its system.

    Returns:
        Which tensors were loaded, left out, and missing.

    Raises:
        ValueError: the file cannot be read; it has nothing for this network, or a part
            of it only incompletely; a tensor has another shape, and the message names
            it; or the network has other preprocessing than the weights expect.

    >>> import tempfile
    >>> from flax import nnx
    >>> from rpn_jax import AnchorConfig
    >>> from rpn_jax.models import BackboneConfig, make_model
    >>> from rpn_jax.models.interop import write_tensors
    >>> narrow = BackboneConfig(name="tiny_fpn", out_features=8)
    >>> model = make_model(AnchorConfig(), backbone=narrow, rngs=nnx.Rngs(0))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = f"{folder}/weights.npz"
    ...     write_tensors(path, export_weights(model, "torchvision"))
    ...     report = load_weights(model, path)
    >>> len(report.loaded), report.left_out, report.missing
    (63, (), ())
    """
    if isinstance(weights, Checkpoint):
        return import_weights(model, weights)
    return import_weights(model, read_checkpoint(weights, system))


def import_weights(model: RPN, checkpoint: Checkpoint) -> LoadReport:
    """Puts weights that were read before into a network, as `load_weights` does.

    Args:
        model: the network, which is changed in place.
        checkpoint: the weights.

    Returns:
        Which tensors were loaded, left out, and missing.

    Raises:
        ValueError: as in `load_weights`.

    >>> from flax import nnx
    >>> from rpn_jax import AnchorConfig
    >>> from rpn_jax.models import BackboneConfig, make_model
    >>> narrow = BackboneConfig(name="tiny_fpn", out_features=8)
    >>> model = make_model(AnchorConfig(), backbone=narrow, rngs=nnx.Rngs(0))
    >>> report = import_weights(model, checkpoint_of(model, "torchvision"))
    >>> report.missing
    ()
    """
    expected = SYSTEMS[checkpoint.system].preprocessing
    if model.preprocessing != expected:
        raise ValueError(
            f"{checkpoint.path} has weights of {checkpoint.system}, which expect "
            f"{expected}, and the network has {model.preprocessing}. Make the network "
            "with make_model and SYSTEMS[system].options(backbone)."
        )
    # All tensors are checked before any is set, so an error changes nothing.
    variables = dict(variables_of(model))
    shapes = {name: x.get_value().shape for name, x in variables.items()}
    report = match_shapes(shapes, checkpoint)
    for name in variables.keys() & checkpoint.tensors.keys():
        variables[name].set_value(jnp.asarray(checkpoint.tensors[name], jnp.float32))
    return report


def match_shapes(
    shapes: Mapping[str, tuple[int, ...]], checkpoint: Checkpoint
) -> LoadReport:
    """Compares the names and shapes of weights with those of a network.

    Args:
        shapes: shapes of the variables of the network, by name.
        checkpoint: the weights.

    Returns:
        Which tensors can be loaded, are left out, and are missing.

    Raises:
        ValueError: as in `load_weights`.
    """
    loaded = [name for name in shapes if name in checkpoint.tensors]
    missing = tuple(name for name in shapes if name not in checkpoint.tensors)
    if not loaded:
        raise ValueError(
            f"{checkpoint.path} has nothing for this network: it has weights of "
            f"{checkpoint.system}, such as {_examples(list(checkpoint.names.values()))}"
            f", and the network needs {_examples(list(shapes))}. Choose a file with "
            "weights of this backbone."
        )
    # Missing tensors are reported before wrong shapes, because they reveal a wrong
    # backbone more clearly.
    _check_parts(checkpoint, loaded, missing)
    for name in loaded:
        _check_shape(checkpoint, name, shapes[name])
    unused = [file for here, file in checkpoint.names.items() if here not in shapes]
    return LoadReport(
        system=checkpoint.system,
        loaded=tuple(checkpoint.names[name] for name in loaded),
        left_out=(*unused, *checkpoint.left_out),
        missing=missing,
        notes=checkpoint.notes,
    )


def export_weights(model: RPN, system: str) -> Tensors:
    """The weights of a network under the names and in the layout of a system.

    They contain the backbone and the RPN head, not the rest of a detector.

    Args:
        model: the network.
        system: a name in `SYSTEMS`.

    Returns:
        Arrays by name.

    Raises:
        ValueError: the system has no name for a tensor.

    >>> from flax import nnx
    >>> from rpn_jax import AnchorConfig
    >>> from rpn_jax.models import BackboneConfig, make_model
    >>> narrow = BackboneConfig(name="tiny_fpn", out_features=8)
    >>> model = make_model(AnchorConfig(), backbone=narrow, rngs=nnx.Rngs(0))
    >>> export_weights(model, "torchvision")["rpn.head.cls_logits.weight"].shape
    (3, 128, 1, 1)
    """
    return to_system(checkpoint_of(model, system), system)


def checkpoint_of(model: RPN, system: str) -> Checkpoint:
    """The weights of a network, as if they had been read from a file.

    Args:
        model: the network.
        system: name in `SYSTEMS` of the system that the weights are made for.

    >>> from flax import nnx
    >>> from rpn_jax import AnchorConfig
    >>> from rpn_jax.models import BackboneConfig, make_model
    >>> narrow = BackboneConfig(name="tiny_fpn", out_features=8)
    >>> model = make_model(AnchorConfig(), backbone=narrow, rngs=nnx.Rngs(0))
    >>> checkpoint_of(model, "torchvision").tensors["head.logits.bias"].shape
    (3,)
    """
    tensors = {name: np.asarray(x[...]) for name, x in variables_of(model)}
    names = {name: name for name in tensors}
    return Checkpoint("the network", system, tensors, names, ())


def _check_parts(
    checkpoint: Checkpoint, loaded: Sequence[str], missing: Sequence[str]
) -> None:
    """Refuses weights that have some tensors of a part of the network, but not all."""
    for part in _PARTS:
        lost = [name for name in missing if name.startswith(part)]
        if lost and any(name.startswith(part) for name in loaded):
            raise ValueError(
                f"{checkpoint.path} has only some tensors of {part[:-1]}: missing are "
                f"{_summary(lost)}. Choose the backbone and the options that it was "
                "trained with, or a complete file."
            )


def _check_shape(checkpoint: Checkpoint, name: str, shape: tuple[int, ...]) -> None:
    value = checkpoint.tensors[name]
    if value.shape != shape:
        raise ValueError(
            f"{checkpoint.path}: {checkpoint.names[name]} needs the shape "
            f"{_as_in_file(checkpoint.names[name], shape)}, got "
            f"{_as_in_file(checkpoint.names[name], value.shape)}. Choose the backbone "
            "and the options that it was trained with."
        )


def _as_in_file(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape, in the order of PyTorch and Caffe2 if the name is one of theirs."""
    is_oihw = name.endswith((".weight", "_w")) and len(shape) == 4
    return (shape[3], shape[2], *shape[:2]) if is_oihw else shape


def _summary(names: Sequence[str]) -> str:
    if len(names) > _NUM_EXAMPLES:
        return f"{len(names)} ({_examples(names)}, ...)"
    return _examples(names)


def _examples(names: Sequence[str]) -> str:
    return ", ".join(names[:_NUM_EXAMPLES]) or "none"
