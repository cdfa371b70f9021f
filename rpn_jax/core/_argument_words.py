"""The words in which errors speak of annotations and of values."""

import dataclasses
import reprlib
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import AbstractArray

_NAMES = {  # one, and many
    bool: ("True or False", "truth values"),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("a text", "texts"),
    type(None): ("None", "None"),
}
_DTYPES = {
    "Float": "numbers",
    "Int": "integers",
    "Bool": "bools",
    "UInt8": "uint8",
    "UInt32": "uint32",
}


def describe(hint: Any, plural: bool = False) -> str:
    """What an annotation of a number, a text, a tuple or an object accepts.

    >>> describe(tuple[float, ...] | None), describe(Literal["none", "corners"])
    ('a sequence of numbers or None', "'none' or 'corners'")
    """
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        kinds = [x for x in inner if not _is_an_array(x)]
        return " or ".join(dict.fromkeys(describe(x, plural) for x in kinds))
    if origin is Literal:
        return listed([repr(x) for x in inner], "or")
    if origin is Sequence or (origin is tuple and inner[-1] is ...):
        many = describe(inner[0], plural=True)
        return f"sequences of {many}" if plural else f"a sequence of {many}"
    if origin is tuple:
        many = f"{len(inner)} {describe(inner[0], plural=True)}"
        return f"tuples of {many}" if plural else many
    if origin is Callable:
        return "a function"
    if hint in _NAMES:
        return _NAMES[hint][plural]
    name = getattr(hint, "__name__", str(hint))
    has_vowel = name.startswith((*"AEIO", "RPN"))
    return name if plural else f"{'an' if has_vowel else 'a'} {name}"


def describe_arrays(hints: Iterable[Any]) -> str:
    """The dtypes and the shapes of arrays: "integers of shape [n]"."""
    found: dict[str, str] = {}
    for hint in hints:
        found.setdefault(hint.dim_str, hint.dtype.__name__)
    if "Key" in found.values():
        return "a key of jax.random"
    return listed([_array(dtype, dims) for dims, dtype in found.items()], "or")


def _array(dtype: str, dims: str) -> str:
    what = _DTYPES.get(dtype, dtype)
    return f"{what} of shape {bracketed(dims)}" if dims else what


def bracketed(dims: str) -> str:
    """The dimensions as the documents write them: `*b_n 4` becomes `[b n 4]`."""
    if not dims:
        return "a single one"
    return f"[{dims.replace('*b_', 'b ').replace('_ _', 'h w')}]"


def shown(value: Any) -> str:
    """A value in few words: the shape of an array, or the start of what it prints."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{value.dtype} of shape {tuple(value.shape)}"
    if dataclasses.is_dataclass(value) or isinstance(value, Callable):
        return getattr(value, "__name__", type(value).__name__)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value).__name__
    return _short.repr(value)


def listed(words: list[str], last: str) -> str:
    """A list of words in a sentence: "a, b or c"."""
    return f" {last} ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _is_an_array(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, (np.generic, AbstractArray))


_short = reprlib.Repr()
_short.maxlist = _short.maxtuple = 8
_short.maxstring = _short.maxother = 60
