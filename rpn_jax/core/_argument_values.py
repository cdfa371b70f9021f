"""Makes what a signature names of what a user has: numbers, tuples and arrays.

Annotations say which. A list becomes an array or a tuple, integers become floats, and
scalars of NumPy become numbers of Python, so that settings stay hashable.
"""

import dataclasses
import numbers
import os
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import AbstractArray, Float, Key

from ._argument_words import describe


class Unfit(Exception):
    """A value of which nothing can be made that its annotation accepts.

    Attributes:
        needed: what the annotation accepts, such as "as a number".
        advice: a sentence that says what to do, if there is one.
    """

    def __init__(self, needed: str, advice: str = "") -> None:
        super().__init__(needed)
        self.needed = needed
        self.advice = advice


def members(hint: Any) -> tuple[Any, ...]:
    """The alternatives of a union, or the annotation itself."""
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return typing.get_args(hint) if is_union else (hint,)


def is_array_hint(hint: Any) -> bool:
    """Whether an annotation gives the shape and the dtype of an array."""
    return isinstance(hint, type) and issubclass(hint, AbstractArray)


def is_named_tuple(hint: Any) -> bool:
    """Whether an annotation is a `NamedTuple`, such as `RPNOutput`."""
    return isinstance(hint, type) and issubclass(hint, tuple) and hint is not tuple


def holds_arrays(hint: Any) -> bool:
    """Whether an annotation is a sequence of arrays, such as feature maps."""
    return typing.get_origin(hint) is Sequence and all(
        map(is_array_hint, members(typing.get_args(hint)[0]))
    )


def converter(hint: Any) -> Callable[[Any], Any] | None:
    """A function that makes a value fit an annotation; None if nothing is to be done.

    It raises `Unfit` for a number, text or tuple that does not fit. An array of a wrong
    shape or dtype passes, since the call itself checks that.
    """
    kinds = members(hint)
    arrays = [kind for kind in kinds if is_array_hint(kind)]
    if any(kind.dtype is Key for kind in arrays):
        return _checked_key
    if arrays:
        target = _target(arrays, kinds)
        return lambda value: _to_array(value, target)
    if is_named_tuple(hint):
        fields = [converter(field) for field in hint.__annotations__.values()]
        return lambda value: _convert_fields(value, hint, fields)
    if holds_arrays(hint):
        each = converter(typing.get_args(hint)[0])
        return lambda value: _convert_each(value, each)
    if all(map(_is_static, kinds)):
        usual = {*kinds, int} if float in kinds else set(kinds)  # what passes as it is
        return lambda x: x if type(x) in usual else static_value(x, hint)
    return None


# --- numbers, texts and tuples


def static_value(value: Any, hint: Any) -> Any:
    """The number, text, tuple or object that an annotation names.

    Args:
        value: numbers of Python or NumPy, and any sequence of them.
        hint: a class, a `Literal`, a `tuple[...]`, a `Sequence[...]`, or a union.

    Raises:
        Unfit: `value` is none of them.
    """
    if isinstance(value, Tracer):
        raise Unfit(
            f"as {describe(hint)} that is known while tracing",
            "Pass a number of Python, and name it in static_argnames of your own jit.",
        )
    for kind in members(hint):
        try:
            return _as(value, kind)
        except (TypeError, ValueError, OverflowError):
            continue
    raise Unfit(f"as {describe(hint)}", _part_that_fits(value, hint))


def _part_that_fits(value: Any, hint: Any) -> str:
    """Advice if settings of one stage are wanted, and those of all stages are there."""
    if dataclasses.is_dataclass(value) and dataclasses.is_dataclass(hint):
        for field in dataclasses.fields(value):
            if field.type is hint:
                return f"Pass its {field.name}."
    return ""


def _is_static(kind: Any) -> bool:
    if isinstance(kind, type) and not typing.get_args(kind):
        return True
    if typing.get_origin(kind) in (tuple, Sequence):
        inner = (x for x in typing.get_args(kind) if x is not ...)
        return all(_is_static(x) for each in inner for x in members(each))
    return kind is None or typing.get_origin(kind) is Literal


def _as(value: Any, kind: Any) -> Any:
    """`value` as one member of a union, or a `TypeError` or a `ValueError`."""
    if typing.get_origin(kind) in (tuple, Sequence):
        return _as_tuple(value, typing.get_args(kind))
    value = _out_of_array(value)
    if typing.get_origin(kind) is Literal:
        return _the_same(value, typing.get_args(kind))
    if kind is float:
        return _number(value)
    if kind is int:
        number = _number(value)
        _checked(number, number == int(number))
        return int(number) if isinstance(number, (bool, float)) else number
    if kind is bool:
        return bool(_checked(value, isinstance(value, (bool, np.bool_))))
    if kind is str and isinstance(value, os.PathLike):
        return os.fspath(value)
    return _checked(value, isinstance(value, kind or type(None)))


def _checked(value: Any, fits: bool) -> Any:
    if not fits:
        raise TypeError
    return value


def _out_of_array(value: Any) -> Any:
    """The one number in an array without axes, or in a scalar of NumPy."""
    is_scalar = isinstance(value, (np.generic, np.ndarray, jax.Array))
    return value.item() if is_scalar and value.ndim == 0 else value


def _number(value: Any) -> int | float:
    if isinstance(value, (int, float)):
        return value
    return float(_checked(value, isinstance(value, numbers.Real)))


def _the_same(value: Any, choices: Iterable[Any]) -> Any:
    for choice in choices:
        if type(choice) is type(value) and choice == value:
            return choice
    raise TypeError


def _as_tuple(value: Any, hints: tuple[Any, ...]) -> tuple[Any, ...]:
    is_array = hasattr(value, "__array__") and not isinstance(value, np.generic)
    values: Any = np.asarray(value).tolist() if is_array else value
    is_sequence = isinstance(values, Sequence) and not isinstance(values, (str, bytes))
    _checked(values, is_sequence)
    each = hints[:1] * len(values) if len(hints) == 1 or hints[1] is ... else hints
    _checked(values, len(each) == len(values))
    return tuple(_any_of(x, hint) for x, hint in zip(values, each, strict=True))


def _any_of(value: Any, hint: Any) -> Any:
    try:
        return static_value(value, hint)
    except Unfit as unfit:
        raise TypeError from unfit


# --- arrays


class _Target(NamedTuple):
    """What an annotation wants of an array.

    Attributes:
        is_float: whether integers have to become floats.
        takes_numpy: whether arrays of NumPy may pass.
        takes_pair: whether two numbers may pass as they are, as for an image size.
        others: classes that may pass as they are, such as `AnchorGrid`.
        empty: the shape and the dtype of an array that is made of an empty list.
    """

    is_float: bool
    takes_numpy: bool
    takes_pair: bool
    others: tuple[type, ...]
    empty: tuple[tuple[int, ...], type]


_DTYPES = {"Float": np.float32, "Int": np.int32, "Bool": np.bool_}


def _target(arrays: list[Any], kinds: tuple[Any, ...]) -> _Target:
    first = arrays[0]
    sides = first.dim_str.split()[1:]
    return _Target(
        is_float=all(kind.dtype is Float for kind in arrays),
        takes_numpy=any(issubclass(np.ndarray, kind.array_type) for kind in arrays),
        takes_pair=any(typing.get_origin(kind) is Sequence for kind in kinds),
        others=tuple(
            kind for kind in kinds if isinstance(kind, type) and kind not in arrays
        ),
        empty=(
            (0, *(int(side) if side.isdigit() else 0 for side in sides)),
            _DTYPES.get(first.dtype.__name__, np.float32),
        ),
    )


def _to_array(value: Any, target: _Target) -> Any:
    if not isinstance(value, (jax.Array, np.ndarray)):
        if isinstance(value, target.others):
            return value
        if target.takes_pair and not _is_nested(value):
            return value
        value = _made_array(value, target)
    if target.is_float and _is_integer(value):
        value = value.astype(np.float32)
    if not target.takes_numpy and isinstance(value, np.ndarray):
        value = jnp.asarray(value)
    return value


def _is_integer(value: Any) -> bool:
    return getattr(getattr(value, "dtype", None), "kind", None) in ("i", "u")


def _is_nested(value: Any) -> bool:
    """Whether a sequence holds sequences or arrays with axes, such as `[b 2]` sizes."""
    if not isinstance(value, (list, tuple)):
        return hasattr(value, "__array__")
    return any(getattr(x, "ndim", isinstance(x, (list, tuple))) for x in value)


def _made_array(value: Any, target: _Target) -> Any:
    """An array of a list or of an array of another library; anything else as it is."""
    if hasattr(value, "__jax_array__"):
        return jnp.asarray(value)
    if not isinstance(value, (list, tuple, range)) and not hasattr(value, "__array__"):
        return value
    if any(isinstance(x, jax.Array) for x in jax.tree.leaves(value)):
        return jnp.asarray(value)
    try:
        made = np.asarray(value)
    except (TypeError, ValueError, RuntimeError):  # rows of different lengths, say
        return value
    if made.shape == (0,):
        return np.zeros(*target.empty)
    return made if made.dtype.kind in "biuf" else value


def _checked_key(value: Any) -> Any:
    """A raw key has two or four words; everything else is checked with its shape."""
    is_raw = getattr(value, "dtype", None) == np.uint32 and value.ndim == 1
    if is_raw and value.size not in (2, 4):
        raise Unfit("as a key of jax.random, or as its 2 or 4 raw words")
    return value


def _convert_fields(value: Any, kind: Any, fields: list[Any]) -> Any:
    if not isinstance(value, kind):
        return value
    found: Any = value
    made = [
        convert(x) if convert else x for x, convert in zip(found, fields, strict=True)
    ]
    is_same = all(x is y for x, y in zip(found, made, strict=True))
    return value if is_same else kind(*made)


def _convert_each(value: Any, convert: Any) -> Any:
    return [convert(x) for x in value] if isinstance(value, (list, tuple)) else value
