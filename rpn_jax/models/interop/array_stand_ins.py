"""Stand-ins for what pickles of NumPy arrays ask for. NumPy itself is not called."""

import math
import pickle
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from .stand_ins import LazyArray, NotNumbersError, StandIn

# Dtypes that are no part of NumPy, which pickles name by their class.
_EXTENSIONS = ("bfloat16", "float8_e4m3fn", "float8_e5m2")


class _Dtype:
    """Stands for a `numpy.dtype`, and becomes one only if it is a dtype of numbers."""

    __slots__ = ("_name", "_order")

    def __init__(self, name: Any = "", *_: Any) -> None:
        self._name, self._order = name, "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._order = state[1]

    def make(self) -> np.dtype:
        """The dtype, if it is boolean, integer or floating."""
        if isinstance(self._name, _Dtype):
            return self._name.make()
        try:
            dtype = np.dtype(str(self._name))
        except TypeError:
            raise NotNumbersError(
                "an array of an unknown type has no numbers"
            ) from None
        if dtype.kind not in "biuf" and dtype.name not in _EXTENSIONS:
            raise NotNumbersError(f"an array of {dtype} has no numbers")
        return dtype.newbyteorder(">") if self._order == ">" else dtype


class _Array(LazyArray):
    """Stands for a `numpy.ndarray` until its shape, dtype and bytes are known."""

    __slots__ = ("_data", "_dtype", "_is_fortran", "nbytes", "shape")

    def __init__(self, *_: Any) -> None:
        self.__setstate__((1, (0,), _Dtype("f8"), False, b""))

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, self.shape, self._dtype, self._is_fortran, data = state
        # Arrays of objects have a list, and no bytes.
        self._data = data if isinstance(data, list) else _bytes(data)
        self.nbytes = len(self._data)

    def read(self) -> np.ndarray:
        dtype = self._dtype.make()
        if math.prod(self.shape) * dtype.itemsize != len(self._data):
            raise ValueError(f"an array of {self.shape} has {len(self._data)} bytes")
        flat = np.frombuffer(_bytes(self._data), dtype)
        return flat.reshape(self.shape, order="F" if self._is_fortran else "C")


def _from_buffer(data: Any, dtype: Any, shape: Any, order: str, *_: Any) -> _Array:
    array = _Array()
    array.__setstate__((1, shape, dtype, order == "F", data))
    return array


def _scalar(dtype: Any, data: Any = b"") -> _Array:
    # The data of a scalar that is an object is that object.
    is_bytes = isinstance(data, bytes | bytearray | str)
    return _from_buffer(data if is_bytes else [], dtype, (), "C")


def _bytes(data: Any) -> bytes:
    # Python 2 stored bytes as text, one character per byte.
    if isinstance(data, str):
        return data.encode("latin1")
    if not isinstance(data, bytes | bytearray):
        raise pickle.UnpicklingError(f"the bytes of an array are {type(data)}")
    return bytes(data)


def _encode(text: Any, *_: Any) -> bytes:
    return _bytes(text)


def _no_bytes(*_: Any) -> bytes:
    return b""


# Every function that a pickle of arrays calls, and its stand-in. NumPy 2 renamed its
# package `core` to `_core`.
NUMPY: Mapping[tuple[str, str], Any] = {
    ("_codecs", "encode"): StandIn(_encode),
    ("__builtin__", "bytes"): StandIn(_no_bytes),
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    **{("ml_dtypes", name): jnp.dtype(name).name for name in _EXTENSIONS},
    **{
        (module, name): stand_in
        for package in ("numpy.core", "numpy._core")
        for module, name, stand_in in (
            (f"{package}.multiarray", "_reconstruct", StandIn(_Array)),
            (f"{package}.multiarray", "scalar", StandIn(_scalar)),
            (f"{package}.numeric", "_frombuffer", StandIn(_from_buffer)),
        )
    },
}
