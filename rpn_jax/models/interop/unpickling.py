"""Reads pickles of arrays, without running any code that they ask for.

A pickle is a program that may call any function. Here it can call only the harmless
stand-ins of this module, which build arrays of numbers. Any other call is refused.
"""

import pickle
from collections import OrderedDict
from typing import Any, BinaryIO

import numpy as np


class _Dtype:
    """Stands for a `numpy.dtype`, and becomes one only if it is a dtype of numbers."""

    def __init__(self, name: str, *_: Any) -> None:
        self._name, self._order = name, "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._order = state[1]

    def make(self) -> np.dtype:
        """The dtype, if it is boolean, integer or floating."""
        dtype = np.dtype(self._name)
        if dtype.kind not in "biuf":
            raise pickle.UnpicklingError(f"an array of {dtype} has no numbers")
        return np.dtype(self._order + dtype.str[1:])


class _Array:
    """Stands for a `numpy.ndarray` until its shape, dtype and bytes are known."""

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
    # Python 2 stored bytes as text, one character per byte.
    if isinstance(data, str):
        return data.encode("latin1")
    if not isinstance(data, bytes | bytearray):
        raise pickle.UnpicklingError(f"the bytes of an array are {type(data)}")
    return bytes(data)


def _encode(text: str, _: str = "latin1") -> bytes:
    return _bytes(text)


def _no_bytes() -> bytes:
    return b""


# Every function that a pickle of arrays calls, and its stand-in. NumPy 2 renamed its
# package `core` to `_core`.
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
        """Finds the stand-in for a function of `_ADMITTED`, and refuses all others."""
        if (module, name) not in _ADMITTED:
            raise pickle.UnpicklingError(
                f"it asks for {module}.{name}, but only arrays, numbers, text and "
                "containers of them are admitted"
            )
        return _ADMITTED[module, name]


def load_arrays(file: BinaryIO) -> Any:
    """Unpickles arrays of numbers, and plain containers of them.

    Nothing else can be built, and none of NumPy's functions is called. The stand-ins of
    this module replace them and check their arguments.

    Args:
        file: the pickle, opened for reading bytes.

    Returns:
        The pickled object, with plain lists and dictionaries.

    Raises:
        ValueError: the pickle contains anything else, or is damaged.
    """
    try:
        # Latin-1 maps each byte to one character, so the bytes of Python 2 survive.
        return _plain(_Unpickler(file, encoding="latin1").load())
    except Exception as error:  # a hostile file can raise anything
        raise ValueError(str(error) or type(error).__name__) from error


def _plain(value: Any) -> Any:
    """The object with arrays in the place of their stand-ins."""
    if isinstance(value, _Array):
        return value.value
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
