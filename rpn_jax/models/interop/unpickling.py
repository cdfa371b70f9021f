"""Reads pickles of arrays, without running any code that they ask for.

A pickle is a program that may call any function. Here nothing outside of this package
is ever imported or called. The few functions that build arrays and dictionaries have
stand-ins, and everything else becomes an `Opaque` object, which does nothing.
"""

import pickle
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, NamedTuple

from . import array_stand_ins
from .pickle_check import check_pickle
from .stand_ins import Opaque, PlainDict, StandIn


class Unpickled(NamedTuple):
    """What a pickle contains.

    Attributes:
        content: the pickled object. Arrays are `LazyArray`, dictionaries are dicts, and
            objects of unknown classes are `Opaque`.
        asked: names of the unknown classes and functions, each once.
    """

    content: Any
    asked: tuple[str, ...]


def load_pickle(
    file: BinaryIO,
    stand_ins: Mapping[tuple[str, str], Any] | None = None,
    find_persistent: Callable[[Any], Any] | None = None,
) -> Unpickled:
    """Unpickles without executing anything of the file.

    Args:
        file: the pickle, opened for reading bytes at its start. It is left behind the
            end of the pickle.
        stand_ins: replacements by module and name, in addition to those of NumPy.
        find_persistent: returns the object for a persistent id; None refuses such ids.

    Returns:
        The content.

    Raises:
        Exception: the pickle is damaged. It may be of any type.
    """
    check_pickle(file)
    unpickler = _Unpickler(file, stand_ins or {}, find_persistent)
    return Unpickled(unpickler.load(), tuple(unpickler.asked))


class _Unpickler(pickle.Unpickler):
    """Finds stand-ins, and never a class or function that exists."""

    def __init__(
        self,
        file: BinaryIO,
        stand_ins: Mapping[tuple[str, str], Any],
        find_persistent: Callable[[Any], Any] | None,
    ) -> None:
        # Latin-1 maps each byte to one character, so the bytes of Python 2 survive.
        super().__init__(file, encoding="latin1")
        self._stand_ins = {**_COMMON, **stand_ins}
        self._find_persistent = find_persistent
        self.asked: dict[str, None] = {}

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a class or function; `Opaque` if there is none."""
        found = self._stand_ins.get((module, name))
        if found is None:
            self.asked[f"{module}.{name}"] = None
            return Opaque
        return found

    def persistent_load(self, pid: Any) -> Any:
        """The object that is stored outside of the pickle."""
        if self._find_persistent is None:
            raise pickle.UnpicklingError("it has parts that lie outside of the pickle")
        return self._find_persistent(pid)


def _ordered(pairs: Any = ()) -> PlainDict:
    """A `collections.OrderedDict`. Python 2 passed its pairs."""
    return PlainDict(pairs)


def _default(*_: Any) -> PlainDict:
    """A `collections.defaultdict`, whose argument makes missing values."""
    return PlainDict()


def _reconstructed(_: Any, base: Any, state: Any = None) -> Any:
    """An object of the protocols 0 and 1; a kind of `dict` keeps its items."""
    return PlainDict(state) if isinstance(state, dict) else Opaque(base)


_COMMON: Mapping[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): StandIn(_ordered),
    ("collections", "defaultdict"): StandIn(_default),
    ("copy_reg", "_reconstructor"): StandIn(_reconstructed),
    ("copyreg", "_reconstructor"): StandIn(_reconstructed),
    **array_stand_ins.NUMPY,
}
