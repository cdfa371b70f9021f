"""Public functions and settings take what a user would call a number, a list or a box.

`lenient` converts the arguments first. Signatures are checked afterwards, on every
call, which under `jit` means once; what they refuse becomes one sentence.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax

from ._argument_faults import find_fault, refusal
from ._argument_values import Unfit, converter, static_value

P = ParamSpec("P")
T = TypeVar("T")


def lenient(function: Callable[P, T]) -> Callable[P, T]:
    """Makes a function take lists, integers and NumPy scalars where they have a sense.

    Lists become arrays, integers become float32 where the signature wants floats, and
    NumPy scalars become numbers of Python where it wants those. Arrays that fit, and
    everything that is traced, pass as they are.

    Args:
        function: a function whose parameters are annotated.

    Returns:
        The function, which raises one sentence for an argument that does not fit: a
        `ValueError` for a wrong shape, otherwise a `TypeError`.
    """
    signature = inspect.signature(function)
    who = function.__qualname__.replace(".__init__", "").replace(".__call__", "")
    made = [(x.name, _converter(x)) for x in signature.parameters.values()]
    by_name = dict(made)

    def fit(name: str, convert: Callable[[Any], Any] | None, value: Any) -> Any:
        try:
            return value if convert is None else convert(value)
        except Unfit as unfit:
            raise refusal(who, name, value, unfit) from None

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        fitted = [fit(*x, value) for x, value in zip(made, args, strict=False)]
        args = (*fitted, *args[len(made) :])
        kwargs = {name: fit(name, by_name.get(name), x) for name, x in kwargs.items()}
        try:
            return function(*args, **kwargs)
        except TypeError:
            fault = find_fault(who, signature, args, kwargs)
            if fault is None:
                raise
            raise fault from None

    return call


def lenient_jit(
    *, static_argnames: tuple[str, ...]
) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """`jax.jit` of a function, made `lenient`, with the types of its signature."""

    def wrap(function: Callable[P, T]) -> Callable[P, T]:
        jitted = jax.jit(function, static_argnames=static_argnames)
        call = lenient(jitted)
        for name in ("lower", "trace", "eval_shape", "clear_cache"):
            setattr(call, name, getattr(jitted, name))  # as users of jit expect
        return call

    return wrap


def _converter(parameter: inspect.Parameter) -> Callable[[Any], Any] | None:
    has_hint = parameter.annotation is not inspect.Parameter.empty
    return converter(parameter.annotation) if has_hint else None


def lenient_settings(kind: type[Any]) -> None:
    """Makes a dataclass take lists and NumPy scalars, and keep tuples and numbers.

    So it stays hashable. This is a call after the class and no decorator, because the
    check of its signature encloses its decorators.

    Args:
        kind: a dataclass of settings. Its constructor raises a `TypeError` with one
            sentence for a value of another kind than the field's.
    """
    hints = {field.name: field.type for field in dataclasses.fields(kind)}
    init = kind.__init__

    @functools.wraps(init)
    def __init__(self: Any, **values: Any) -> None:
        for name, value in values.items():
            if name in hints:
                try:
                    values[name] = static_value(value, hints[name])
                except Unfit as unfit:
                    raise refusal(kind.__name__, name, value, unfit) from None
        init(self, **values)

    type.__setattr__(kind, "__init__", __init__)
