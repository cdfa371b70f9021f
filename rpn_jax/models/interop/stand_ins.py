"""What takes the place of the classes and functions that a pickle asks for."""

import pickle
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np


class NotNumbersError(ValueError):
    """An array cannot be used, but the rest of its file can. The text says why."""


class LazyArray:
    """An array whose numbers are read when they are needed.

    Attributes:
        shape: shape of the array.
        nbytes: number of bytes that the array takes in memory.
    """

    __slots__ = ()
    shape: tuple[int, ...]
    nbytes: int

    def read(self) -> np.ndarray:
        """The array.

        Raises:
            NotNumbersError: it holds something that NumPy cannot compute with.
            Exception: the file is damaged.
        """
        raise NotImplementedError


class StandIn:
    """A function that a pickle may call, and that it cannot change."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        """Makes a stand-in that calls `function`."""
        self._function = function

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """The result of the function."""
        return self._function(*arguments, **options)

    def __setstate__(self, _: Any) -> None:
        """Refuses to be changed: the next file needs it as it is."""
        raise pickle.UnpicklingError("it changes a function")


class PlainDict(dict[Any, Any]):
    """Stands for dictionaries with attributes, of which it keeps none."""

    __slots__ = ()

    def __setstate__(self, _: Any) -> None:
        """Ignores attributes, such as PyTorch's `_metadata`."""


class Opaque:
    """Stands for an object of an unknown class, and does nothing.

    Attributes:
        content: the items that the object got, if it is like a dictionary.
    """

    __slots__ = ("content",)

    def __new__(cls, *_: Any, **__: Any) -> "Opaque":
        """Makes an empty object from any arguments."""
        opaque = super().__new__(cls)
        opaque.content = {}
        return opaque

    def __setstate__(self, _: Any) -> None:
        """Ignores attributes."""

    def __setitem__(self, key: Any, value: Any) -> None:
        """Keeps an item."""
        self.content[key] = value

    def append(self, _: Any) -> None:
        """Ignores an element of a list."""

    def extend(self, _: Iterable[Any]) -> None:
        """Ignores elements of a list."""

    def add(self, _: Any) -> None:
        """Ignores an element of a set."""

    def __call__(self, *_: Any, **__: Any) -> "Opaque":
        """Another object that does nothing, where a pickle calls an object."""
        return Opaque()
