"""Stand-ins for what files of PyTorch ask for: tensors are views of raw storages."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from .stand_ins import LazyArray, NotNumbersError, Opaque, StandIn


class Kind:
    """A type of numbers of PyTorch.

    Attributes:
        dtype: dtype that reads the numbers; None if they cannot be used.
        width: number of bytes of a number.
        name: description of numbers that cannot be used.
    """

    __slots__ = ("dtype", "name", "width")

    def __init__(self, dtype: Any, width: int = 0, name: str = "") -> None:
        """Makes a type; `width` is that of the dtype if there is one."""
        self.dtype = None if dtype is None else np.dtype(dtype)
        self.width = width if self.dtype is None else self.dtype.itemsize
        self.name = name

    def __setstate__(self, _: Any) -> None:
        """Refuses to be changed: the next file needs it as it is."""
        raise ValueError("it changes a type of numbers")


class Storage:
    """The numbers of one or more tensors, in a row.

    Attributes:
        kind: type of the numbers, unless a tensor has one of its own.
    """

    __slots__ = ("_data", "_is_little", "_read", "kind")

    def __init__(
        self, kind: Kind, read: Callable[[], bytes], is_little: bool = True
    ) -> None:
        """Makes a storage.

        Args:
            kind: type of the numbers.
            read: returns the bytes. It is called once, when they are needed.
            is_little: whether the lowest byte of a number comes first.
        """
        self.kind, self._read, self._is_little = kind, read, is_little
        self._data: bytes | None = None

    def numbers(self, kind: Kind) -> np.ndarray:
        """The numbers as an array of one axis, which cannot be written to."""
        if kind.dtype is None:
            raise NotNumbersError(f"its numbers are {kind.name}")
        if self._data is None:
            self._data = self._read()
        dtype = kind.dtype if self._is_little else kind.dtype.newbyteorder(">")
        return np.frombuffer(self._data, dtype, len(self._data) // dtype.itemsize)

    def part(self, start: int, count: int) -> "Storage":
        """A storage of `count` numbers of this one, from number `start` on."""
        places = slice(start, start + count)
        return Storage(
            self.kind,
            lambda: self.numbers(self.kind)[places].tobytes(),
            self._is_little,
        )


class TorchTensor(LazyArray):
    """A view of a storage."""

    __slots__ = ("_kind", "_offset", "_storage", "_strides", "nbytes", "shape")

    def __init__(
        self, storage: Storage, kind: Kind, offset: int, shape: Any, strides: Any
    ) -> None:
        """Makes a view; `offset` and `strides` count numbers, not bytes."""
        self._storage, self._kind, self._offset = storage, kind, int(offset)
        self.shape = tuple(map(int, shape))
        self._strides = tuple(map(int, strides))
        self.nbytes = math.prod(self.shape) * kind.width

    def read(self) -> np.ndarray:
        """The array, which shares its numbers with the storage."""
        numbers = self._storage.numbers(self._kind)
        if min((self._offset, *self.shape, *self._strides)) < 0:
            raise ValueError("a tensor has a negative size or stride")
        width = numbers.itemsize
        # NumPy refuses a view that reaches beyond the numbers.
        return np.ndarray(
            self.shape,
            numbers.dtype,
            numbers,
            self._offset * width,
            [stride * width for stride in self._strides],
        )


class Unusable(LazyArray):
    """A tensor that is no array of numbers: sparse, quantised, without data."""

    __slots__ = ("_reason",)
    shape, nbytes = (), 0

    def __init__(self, reason: str) -> None:
        """Makes a tensor that cannot be used because of `reason`."""
        self._reason = reason

    def read(self) -> np.ndarray:
        """Raises the reason."""
        raise NotNumbersError(self._reason)


def _unusable(reason: str) -> StandIn:
    return StandIn(lambda *_, **__: Unusable(reason))


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> LazyArray:
    if not isinstance(storage, Storage):
        return Unusable("it has no storage")
    return TorchTensor(storage, storage.kind, offset, shape, strides)


def _typed_tensor(
    storage: Any,
    offset: Any,
    shape: Any,
    strides: Any,
    _: Any,
    __: Any,
    kind: Any,
    *___: Any,
) -> LazyArray:
    if not (isinstance(storage, Storage) and isinstance(kind, Kind)):
        return Unusable("its type is unknown")
    return TorchTensor(storage, kind, offset, shape, strides)


def _itself(value: Any, *_: Any) -> Any:
    return value


def _subclass(function: Any, _: Any, arguments: Any, *__: Any) -> Any:
    """A tensor with attributes or of a subclass; its numbers are those of a tensor."""
    is_known = isinstance(function, StandIn)
    return function(*arguments) if is_known else Opaque()


_NUMBERS = {
    "float64": ("Double", np.float64),
    "float32": ("Float", np.float32),
    "float16": ("Half", np.float16),
    "bfloat16": ("BFloat16", jnp.bfloat16),
    "int64": ("Long", np.int64),
    "int32": ("Int", np.int32),
    "int16": ("Short", np.int16),
    "int8": ("Char", np.int8),
    "uint8": ("Byte", np.uint8),
    "bool": ("Bool", np.bool_),
}
# These have no storages of their own, but an untyped one.
_NUMBERS_ONLY = {
    "uint16": np.uint16,
    "uint32": np.uint32,
    "uint64": np.uint64,
    "float8_e4m3fn": jnp.float8_e4m3fn,
    "float8_e4m3fnuz": jnp.float8_e4m3fnuz,
    "float8_e5m2": jnp.float8_e5m2,
    "float8_e5m2fnuz": jnp.float8_e5m2fnuz,
    "float8_e8m0fnu": jnp.float8_e8m0fnu,
}
_ALIASES = {"float": "float32", "double": "float64", "half": "float16"}
# Storages of numbers that cannot be used, with their widths.
_STRANGE = {
    "ComplexFloat": (8, "complex"),
    "ComplexDouble": (16, "complex"),
    "QInt8": (1, "quantised"),
    "QUInt8": (1, "quantised"),
    "QInt32": (4, "quantised"),
    "QUInt4x2": (1, "quantised"),
    "QUInt2x4": (1, "quantised"),
}


def _kinds() -> dict[tuple[str, str], Kind]:
    """Every type by the module and the name under which files ask for it."""
    kinds = {}
    for name, (storage, dtype) in _NUMBERS.items():
        kinds["torch", name] = kinds["torch", f"{storage}Storage"] = Kind(dtype)
        kinds["torch.cuda", f"{storage}Storage"] = Kind(dtype)
    for name, dtype in _NUMBERS_ONLY.items():
        kinds["torch", name] = Kind(dtype)
    for name, known in _ALIASES.items():
        kinds["torch", name] = kinds["torch", known]
    for storage, (width, name) in _STRANGE.items():
        kinds["torch", f"{storage}Storage"] = Kind(None, width, name)
    for module in ("torch", "torch.storage"):
        for name in ("UntypedStorage", "_UntypedStorage"):
            kinds[module, name] = Kind(np.uint8)
    return kinds


TORCH: Mapping[tuple[str, str], Any] = {
    **_kinds(),
    ("torch._utils", "_rebuild_tensor"): StandIn(_tensor),
    ("torch._utils", "_rebuild_tensor_v2"): StandIn(_tensor),
    ("torch._utils", "_rebuild_tensor_v3"): StandIn(_typed_tensor),
    ("torch._utils", "_rebuild_parameter"): StandIn(_itself),
    ("torch._utils", "_rebuild_parameter_with_state"): StandIn(_itself),
    ("torch._utils", "_rebuild_device_tensor_from_numpy"): StandIn(_itself),
    ("torch._utils", "_rebuild_device_tensor_from_cpu_tensor"): StandIn(_itself),
    ("torch._utils", "_rebuild_qtensor"): _unusable("it is quantised"),
    ("torch._utils", "_rebuild_sparse_tensor"): _unusable("it is sparse"),
    ("torch._utils", "_rebuild_sparse_csr_tensor"): _unusable("it is sparse"),
    ("torch._utils", "_rebuild_nested_tensor"): _unusable("it is nested"),
    ("torch._utils", "_rebuild_meta_tensor_no_storage"): _unusable("it has no numbers"),
    ("torch._utils", "_rebuild_wrapper_subclass"): _unusable("its class is unknown"),
    ("torch._tensor", "_rebuild_from_type"): StandIn(_subclass),
    ("torch._tensor", "_rebuild_from_type_v2"): StandIn(_subclass),
    ("torch.tensor", "_rebuild_from_type"): StandIn(_subclass),
    ("torch.nn.parameter", "Parameter"): StandIn(_itself),
}
