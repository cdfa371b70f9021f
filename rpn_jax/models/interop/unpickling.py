"""Pickles of arrays, read without running anything that they ask for."""

import pickle
from collections import OrderedDict
from typing import Any, BinaryIO

import numpy as np


class _Dtype:
    """Stands for a `numpy.dtype`, and becomes one only if it is a number."""

    def __init__(self, name: str, *_: Any) -> None:
        self._name, self._order = name, "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._order = state[1]

    def make(self) -> np.dtype:
        dtype = np.dtype(self._name)
        if dtype.kind not in "biuf":
            raise pickle.UnpicklingError(f"an array of {dtype} is not one of numbers")
        return np.dtype(self._order + dtype.str[1:])


class _Array:
    """Stands for a `numpy.ndarray` until all of it is known."""

    def __init__(self, *_: Any) -> None:
        self.value = np.empty(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, is_fortran, data = state
        order = "F" if is_fortran else "C"
        kind = dtype.make()
        flat = np.frombuffer(_bytes(data), kind)
        self.value = flat.reshape(shape, order=order)


def _from_buffer(
    data: Any, dtype: _Dtype, shape: tuple[int, ...], order: str
) -> _Array:
    array = _Array()
    array.__setstate__((1, shape, dtype, order == "F", data))
    return array


def _scalar(dtype: _Dtype, data: Any) -> _Array:
    return _from_buffer(data, dtype, (), "C")


def _bytes(data: Any) -> bytes:
    # Python 2 had no other type for bytes than its text, one character each.
    if isinstance(data, str):
        return data.encode("latin1")
    if not isinstance(data, bytes | bytearray):
        raise pickle.UnpicklingError(f"an array of {type(data).__name__}")
    return bytes(data)


def _encode(text: str, _: str = "latin1") -> bytes:
    return _bytes(text)


def _no_bytes() -> bytes:
    return b""


_ADMITTED = {
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _no_bytes,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    **{
        (module, name): stand_in
        for package in ("numpy.core", "numpy._core")
        for module, name, stand_in in (
            (f"{package}.multiarray", "_reconstruct", _Array),
            (f"{package}.multiarray", "scalar", _scalar),
            (f"{package}.numeric", "_frombuffer", _from_buffer),
        )
    },
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Finds a stand-in for what arrays are made of, and nothing else."""
        if (module, name) not in _ADMITTED:
            raise pickle.UnpicklingError(
                f"it asks for {module}.{name}, and only arrays, numbers, text and "
                "containers of them are admitted"
            )
        return _ADMITTED[module, name]


def load_arrays(file: BinaryIO) -> Any:
    """Unpickles arrays of numbers, and plain containers of them.

    The pickle can build nothing else, and call nothing: in the place of NumPy's own
    functions stand those of this module, which check what they are given.

    Args:
        file: the pickle, open.

    Returns:
        What was pickled.

    Raises:
        ValueError: there is something else in it, or it is damaged.
    """
    try:
        return _plain(_Unpickler(file, encoding="latin1").load())
    except Exception as error:  # a hostile file can raise anything
        raise ValueError(str(error) or type(error).__name__) from error


def _plain(value: Any) -> Any:
    if isinstance(value, _Array):
        return value.value
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
