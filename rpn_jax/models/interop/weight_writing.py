"""Writes tensors in the formats of safetensors, NumPy, PyTorch and detectron2."""

import json
import pathlib
import pickle
import struct
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from ...atomic_file import replace_file
from .weight_files import SUFFIXES


def write_tensors(path: str | pathlib.Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes tensors to a file, which is replaced in one step or not at all.

    Args:
        path: file to write. Its suffix selects the format: `.safetensors`, `.npz`,
            `.pth` or `.pt` of PyTorch, or `.pkl` of detectron2.
        tensors: arrays by name; bfloat16 becomes float32.

    Raises:
        ValueError: the suffix is not known, or the format has no type for an array.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "weights.safetensors"
    ...     write_tensors(path, {"bias": np.zeros(3)})
    ...     path.exists()
    True
    """
    path = pathlib.Path(path)
    if path.suffix not in SUFFIXES:
        raise ValueError(f"Weights need a file {', '.join(SUFFIXES)}, got {path}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    known = {name: _known_to_all(x) for name, x in tensors.items()}
    with replace_file(path) as draft:
        _WRITERS[path.suffix](draft, known)


def _known_to_all(x: np.ndarray) -> np.ndarray:
    """The array; float32 if its floats are of a type that few formats know."""
    is_known = x.dtype.kind in "biuc" or x.dtype in (np.float16, np.float32, np.float64)
    return x if is_known else x.astype(np.float32)


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
            file.write(_little(x).data)


def _write_npz(path: pathlib.Path, tensors: Mapping[str, np.ndarray]) -> None:
    arrays: dict[str, Any] = dict(tensors)
    np.savez(path, **arrays)


def _write_pickle(path: pathlib.Path, tensors: Mapping[str, np.ndarray]) -> None:
    with path.open("wb") as file:
        pickler = pickle.Pickler(file)
        pickler.fast = True  # without a memo, which would hold copies of all arrays
        pickler.dump({"model": dict(tensors), "__author__": "rpn_jax"})


_STORAGES = {
    "float64": "DoubleStorage",
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "int64": "LongStorage",
    "int32": "IntStorage",
    "int16": "ShortStorage",
    "int8": "CharStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
}


def _write_torch(path: pathlib.Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes PyTorch's zip archive: a pickle, and a storage for each tensor."""
    for name, x in tensors.items():
        if x.dtype.name not in _STORAGES:
            raise ValueError(
                f"A file of PyTorch needs an array of {', '.join(_STORAGES)}, got "
                f"{x.dtype} for {name}. Convert it, or choose a .safetensors file."
            )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", _torch_program(tensors))
        archive.writestr("archive/byteorder", "little")
        for i, x in enumerate(tensors.values()):
            # Each array is converted when it is written, so at most one copy exists.
            archive.writestr(f"archive/data/{i}", _little(x).data)
        archive.writestr("archive/version", "3\n")


def _torch_program(tensors: Mapping[str, np.ndarray]) -> bytes:
    """The pickle of a state dict. Python can only pickle functions that it can import.

    See `_rebuild_tensor_v2` in `torch/_utils.py`, which the pickle calls per tensor.
    """
    ordered_dict = _name("collections", "OrderedDict") + pickle.EMPTY_TUPLE
    ordered_dict += pickle.REDUCE
    program = pickle.PROTO + b"\x02" + ordered_dict + pickle.MARK
    for i, (name, x) in enumerate(tensors.items()):
        strides = np.cumprod((1, *x.shape[:0:-1]))[::-1] if x.ndim else ()
        storage = _tuple(
            _text("storage"),
            _name("torch", _STORAGES[x.dtype.name]),
            _text(str(i)),
            _text("cpu"),
            _number(x.size),
        )
        arguments = _tuple(
            storage + pickle.BINPERSID,
            _number(0),
            _tuple(*map(_number, x.shape)),
            _tuple(*map(_number, strides)),
            pickle.NEWFALSE,  # requires no gradient
            ordered_dict,  # has no hooks
        )
        rebuild = _name("torch._utils", "_rebuild_tensor_v2")
        program += _text(name) + rebuild + arguments + pickle.REDUCE
    return program + pickle.SETITEMS + pickle.STOP


def _name(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def _tuple(*items: bytes) -> bytes:
    return pickle.MARK + b"".join(items) + pickle.TUPLE


def _text(text: str) -> bytes:
    data = text.encode()
    return pickle.BINUNICODE + struct.pack("<I", len(data)) + data


def _number(number: int) -> bytes:
    data = int(number).to_bytes(9, "little", signed=True)
    return pickle.LONG1 + bytes([len(data)]) + data


def _little(x: np.ndarray) -> np.ndarray:
    """The array in rows, with the lowest byte of each number first."""
    return x.astype(x.dtype.newbyteorder("<"), order="C", copy=False)


_WRITERS = {
    ".safetensors": _write_safetensors,
    ".npz": _write_npz,
    ".pth": _write_torch,
    ".pt": _write_torch,
    ".pkl": _write_pickle,
}
