"""Files of tensors, read without executing anything in them, and written."""

import hashlib
import importlib
import json
import pathlib
import pickle
import re
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from ...atomic_file import replace_file
from .systems import PUBLISHED
from .unpickling import load_arrays

Tensors = dict[str, np.ndarray]
SUFFIXES = (".safetensors", ".npz", ".pth", ".pt", ".pkl")
# Keys under which checkpoints keep the weights of the model.
_CONTAINERS = ("model", "state_dict", "model_state_dict", "blobs")


def read_tensors(path: str | pathlib.Path) -> Tensors:
    """Reads every tensor of a file. Nothing in it is executed.

    Args:
        path: a `.safetensors` file, an `.npz` file, a `.pth` or `.pt` file of PyTorch,
            which needs torch, or a `.pkl` file of detectron2.

    Returns:
        Arrays by name. If a checkpoint contains more than a model, only the model.

    Raises:
        ValueError: there is no such file, it is damaged, or its format is not known.
    """
    if re.match(r"\w+://", str(path)):
        raise ValueError(_how_to_download(str(path)))
    path = pathlib.Path(path)
    if path.suffix not in SUFFIXES:
        raise ValueError(f"Weights need a file {', '.join(SUFFIXES)}, got {path}.")
    if not path.is_file():
        raise ValueError(f"There is no file of weights {path}.")
    try:
        return _tensors_of(_READERS[path.suffix](path))
    except Exception as error:  # a damaged or hostile file can raise anything
        reason, *_ = (str(error).strip() or type(error).__name__).splitlines()
        raise ValueError(f"{path} cannot be read as weights: {reason}") from error


def published_system(path: str | pathlib.Path) -> str | None:
    """The system of a published file whose names of tensors do not identify it.

    Args:
        path: file of weights.

    Returns:
        A name in `SYSTEMS`; None for all other files.
    """
    path = pathlib.Path(path)
    if path.suffix not in (".pth", ".pt"):
        return None
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return PUBLISHED.get(digest[:8])


def write_tensors(path: str | pathlib.Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes tensors to a file, which is replaced in one step or not at all.

    Args:
        path: file to write. Its suffix selects the format, as in `read_tensors`.
        tensors: arrays by name; bfloat16 becomes float32.

    Raises:
        ValueError: the suffix is not known, or the format needs torch, which is not
            installed.
    """
    path = pathlib.Path(path)
    if path.suffix not in SUFFIXES:
        raise ValueError(f"Weights need a file {', '.join(SUFFIXES)}, got {path}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    known = {name: _known_to_numpy(x) for name, x in tensors.items()}
    with replace_file(path) as draft:
        _WRITERS[path.suffix](draft, known)


def _known_to_numpy(x: np.ndarray) -> np.ndarray:
    """The array; float32 if it is bfloat16, which few formats and readers know."""
    return x.astype(np.float32) if x.dtype == jnp.bfloat16 else x


def _how_to_download(name: str) -> str:
    repository, _, file = name.removeprefix("hf://").rpartition("/")
    how = (
        f"hf download {repository} {file} --local-dir ."
        if name.startswith("hf://")
        else f"curl -LO {name}"
    )
    return f"Weights need a file on this machine, got {name}. Download it: {how}"


def _tensors_of(content: Any) -> Tensors:
    """The arrays of a model, without the prefix that PyTorch's parallel models add."""
    # Every key is tried in turn, so that containers inside of others are opened too.
    for container in _CONTAINERS:
        if isinstance(content, Mapping) and isinstance(content.get(container), Mapping):
            content = content[container]
    if not isinstance(content, Mapping):
        raise ValueError(f"it holds a {type(content).__name__}, not tensors by name.")
    return {
        str(name).removeprefix("module."): value
        for name, value in content.items()
        if isinstance(value, np.ndarray)
    }


def _read_safetensors(path: pathlib.Path) -> Tensors:
    safetensors = importlib.import_module("safetensors")
    with safetensors.safe_open(path, "np") as file:
        names = list(file.keys())
    tensors = {}
    for name in names:
        # The file is opened for every array. A file that stays open would keep all of
        # its pages in memory, in addition to the arrays.
        with safetensors.safe_open(path, "np") as file:
            tensors[name] = _known_to_numpy(file.get_tensor(name))
    return tensors


def _read_pickle(path: pathlib.Path) -> Any:
    with path.open("rb") as file:
        return load_arrays(file)


def _read_npz(path: pathlib.Path) -> Tensors:
    # The file is opened here, because NumPy leaves a damaged file open.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)


def _read_torch(path: pathlib.Path) -> Any:
    torch = _torch(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            "it holds more than tensors, which is not executed, or it is damaged. If "
            f"you trust it, save its state dict alone. torch says: {reason}"
        ) from None
    return _numpy(content, torch)


def _numpy(value: Any, torch: Any) -> Any:
    if isinstance(value, torch.Tensor):
        value = value.detach()
        return (value.float() if value.is_floating_point() else value).numpy()
    if isinstance(value, Mapping):
        return {key: _numpy(item, torch) for key, item in value.items()}
    return value


def _write_safetensors(path: pathlib.Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes the format directly, array by array.

    The library of safetensors needs contiguous copies of all arrays at once.
    """
    # The file starts with the length of the header. The header, in JSON, has the dtype,
    # the shape, and the first byte and the end of every array.
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    # Arrays with the widest numbers come first, so that each array begins at a multiple
    # of its width.
    arrays = sorted(tensors.items(), key=lambda item: -item[1].itemsize)
    start = 0
    for name, x in arrays:
        kind = "BOOL" if x.dtype == bool else f"{x.dtype.kind.upper()}{8 * x.itemsize}"
        offsets = (start, start := start + x.nbytes)
        header[name] = {"dtype": kind, "shape": x.shape, "data_offsets": offsets}
    # Spaces pad the header to a multiple of eight bytes, which aligns the arrays.
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        # Each array is converted only when it is written, so at most one copy exists.
        for _, x in arrays:
            file.write(x.astype(x.dtype.newbyteorder("<"), order="C", copy=False).data)


def _write_npz(path: pathlib.Path, tensors: Mapping[str, np.ndarray]) -> None:
    arrays: dict[str, Any] = dict(tensors)
    np.savez(path, **arrays)


def _write_torch(path: pathlib.Path, tensors: Mapping[str, np.ndarray]) -> None:
    torch = _torch(path)
    # Torch keeps the strides of arrays, so transposed arrays need no copy. Arrays that
    # are read-only, such as those of JAX, are copied, because torch warns about them.
    state = {
        name: torch.from_numpy(x if x.flags.writeable else x.copy())
        for name, x in tensors.items()
    }
    torch.save(state, path)


def _write_pickle(path: pathlib.Path, tensors: Mapping[str, np.ndarray]) -> None:
    with path.open("wb") as file:
        pickler = pickle.Pickler(file)
        pickler.fast = True  # without a memo, which would hold copies of all arrays
        pickler.dump({"model": dict(tensors), "__author__": "rpn_jax"})


def _torch(path: pathlib.Path) -> Any:
    try:
        return importlib.import_module("torch")
    except ModuleNotFoundError:
        raise ValueError(
            f"{path} needs torch, which is not installed. Run pip install torch, or "
            "choose a .safetensors file."
        ) from None


_READERS = {
    ".safetensors": _read_safetensors,
    ".npz": _read_npz,
    ".pth": _read_torch,
    ".pt": _read_torch,
    ".pkl": _read_pickle,
}
_WRITERS = {
    ".safetensors": _write_safetensors,
    ".npz": _write_npz,
    ".pth": _write_torch,
    ".pt": _write_torch,
    ".pkl": _write_pickle,
}
