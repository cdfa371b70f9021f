"""Weights from files, under torchvision's names, into a network and out of it."""

import pathlib
import zipfile
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from .model import RPN

Tensors = dict[str, np.ndarray]
Rules = tuple[tuple[str, str], ...]  # how names begin here, and there

# How the name of a variable ends here, and there. Kernels are HWIO here, OIHW there.
LEAVES = {
    "kernel": "weight",
    "bias": "bias",
    "scale": "weight",
    "mean": "running_mean",
    "var": "running_var",
}
DETECTOR: Rules = (
    ("backbone.", "backbone."),
    ("head.convs.0.", "rpn.head.conv.0.0."),
    ("head.convs.1.", "rpn.head.conv.1.0."),
    ("head.logits.", "rpn.head.cls_logits."),
    ("head.deltas.", "rpn.head.bbox_pred."),
)
LAYOUTS: Mapping[str, Rules] = {
    "a detector": DETECTOR,
    "a classifier with features": (("backbone.body.", "features."),),
    "a residual classifier": (("backbone.body.", ""),),
}
# Where the layers of VGG-16 by name are in torchvision's `features`.
VGG16_LAYERS = {
    f"conv{stage}_{i + 1}": first + 2 * i
    for stage, first, number in (
        (1, 0, 2),
        (2, 5, 2),
        (3, 10, 3),
        (4, 17, 3),
        (5, 24, 3),
    )
    for i in range(number)
}


class LoadReport(NamedTuple):
    """What became of the tensors of a file.

    Attributes:
        loaded: names in the file of what the network now has.
        left_out: names in the file that the network has no place for.
        missing: names in the network that keep their values, dots between the parts.
    """

    loaded: tuple[str, ...]
    left_out: tuple[str, ...]
    missing: tuple[str, ...]


def load_weights(model: RPN, path: str | pathlib.Path) -> LoadReport:
    """Puts the weights of a file into a network.

    The names are those of torchvision's detectors (`backbone.body.`, `rpn.head.`) or of
    its classifiers (`features.`, `layer1.`); or `conv1_1/kernel` to `conv5_3/bias` with
    HWIO kernels for VGG-16. Any dtype becomes float32. The network is left as it was if
    anything is wrong.

    Args:
        model: changed in place.
        path: a `.npz` or `.safetensors` file.

    Returns:
        What was loaded, left out, and missing.

    Raises:
        ValueError: the file cannot be read, holds nothing for this network, or holds a
            tensor of another shape.
    """
    tensors = _torchvision_names(read_tensors(path))
    variables = dict(_variables(model))
    layouts = [_named(variables, rules) for rules in LAYOUTS.values()]
    names = max(layouts, key=lambda names: len(names.keys() & tensors.keys()))
    loaded = {name: tensors[name] for name in names if name in tensors}
    if not loaded:
        raise ValueError(
            f"{path} has nothing for this network. It needs torchvision's names, such "
            f"as {_examples(names)}, and has {_examples(tensors)}."
        )
    values = {
        name: _fit(path, name, loaded[name], variables[names[name]]) for name in loaded
    }
    for name, value in values.items():
        variables[names[name]][...] = value
    found = {names[name] for name in loaded}
    return LoadReport(
        loaded=tuple(loaded),
        left_out=tuple(name for name in tensors if name not in loaded),
        missing=tuple(name for name in variables if name not in found),
    )


def to_torchvision(model: RPN) -> Tensors:
    """The network as the state dict of a torchvision detector.

    Args:
        model: the network.

    Returns:
        Arrays by name, kernels as OIHW.
    """
    variables = dict(_variables(model))
    names = _named(variables, DETECTOR)
    return {name: _to_oihw(variables[ours][...]) for name, ours in names.items()}


def read_tensors(path: str | pathlib.Path) -> Tensors:
    """Reads every tensor of a file. Nothing in it is executed.

    Args:
        path: a `.npz` or `.safetensors` file.

    Returns:
        Arrays by name.

    Raises:
        ValueError: there is no such file, or it is damaged or of another kind.
    """
    path = pathlib.Path(path)
    if path.suffix not in (".npz", ".safetensors"):
        raise ValueError(f"Weights need a .npz or .safetensors file, got {path}.")
    try:
        if path.suffix == ".npz":
            # NumPy would leave a damaged file open that it opened itself.
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                return dict(arrays)
        return _read_safetensors(path)
    except FileNotFoundError:
        raise ValueError(f"There is no file of weights {path}.") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} cannot be read as weights: {error}") from error


def _read_safetensors(path: pathlib.Path) -> Tensors:
    # Only who has such files needs the package.
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def _torchvision_names(tensors: Tensors) -> Tensors:
    """VGG-16 by the names of layers becomes torchvision's; all else stays."""
    named = {}
    for name, value in tensors.items():
        layer, _, leaf = name.partition("/")
        if layer not in VGG16_LAYERS or leaf not in ("kernel", "bias"):
            return tensors
        named[f"features.{VGG16_LAYERS[layer]}.{LEAVES[leaf]}"] = _to_oihw(value)
    return named


def _variables(model: RPN) -> Iterator[tuple[str, nnx.Variable]]:
    for path, node in nnx.iter_graph(model):
        if isinstance(node, nnx.Variable):
            yield ".".join(map(str, path)), node


def _named(variables: Mapping[str, nnx.Variable], rules: Rules) -> dict[str, str]:
    """Our name for each of theirs."""
    names = {}
    for ours in variables:
        for here, there in rules:
            if ours.startswith(here):
                stem, leaf = ours.rsplit(".", 1)
                stem = f"{stem}.".removeprefix(here)
                names[f"{there}{stem}{LEAVES[leaf]}"] = ours
    return names


def _fit(
    path: str | pathlib.Path, name: str, tensor: np.ndarray, variable: nnx.Variable
) -> jax.Array:
    value = tensor.transpose(2, 3, 1, 0) if tensor.ndim == 4 else tensor
    if value.shape != variable[...].shape:
        raise ValueError(
            f"{path}: {name} needs the shape {_to_oihw(variable[...]).shape}, got "
            f"{tensor.shape}. Choose the backbone and options it was trained with."
        )
    return jnp.asarray(value, jnp.float32)


def _to_oihw(value: np.ndarray) -> np.ndarray:
    value = np.asarray(value)
    return value.transpose(3, 2, 0, 1) if value.ndim == 4 else value


def _examples(names: Mapping[str, object]) -> str:
    return ", ".join(list(names)[:3]) or "none"
