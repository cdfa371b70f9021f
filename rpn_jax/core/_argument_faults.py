"""What is wrong with the arguments of a call that its signature refuses.

The check of a signature prints a page. This finds the first argument at fault, and says
in one sentence who needs what, what it got, and what to do.
"""

import inspect
import typing
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from jaxtyping import jaxtyped

from ._argument_values import (
    Unfit,
    holds_arrays,
    is_array_hint,
    is_named_tuple,
    members,
)
from ._argument_words import bracketed, describe, describe_arrays, listed, shown


class _Fault(NamedTuple):
    """An argument that does not fit: what it needs to be, what it is, what to do."""

    name: str
    needed: str
    got: str
    advice: str = ""
    is_shape: bool = False


class _Size(NamedTuple):
    """How large a dimension is, and the argument that had it first.

    Attributes:
        size: the number of entries.
        owner: the argument.
        is_rows: whether it is the first dimension of the owner.
    """

    size: int
    owner: str
    is_rows: bool


_Sizes = dict[str, _Size]


def refusal(who: str, name: str, value: Any, unfit: Unfit) -> TypeError:
    """The error for a value that `_argument_values` could make nothing of."""
    return TypeError(
        _sentence(who, _Fault(name, unfit.needed, shown(value), unfit.advice))
    )


def find_fault(
    who: str,
    signature: inspect.Signature,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> TypeError | ValueError | None:
    """The error for the first argument that does not fit the signature.

    Args:
        who: the name of the function.
        signature: its signature.
        args: the positional arguments.
        kwargs: the others.

    Returns:
        A `ValueError` for a shape, a `TypeError` for anything else, or None if every
        argument fits, so that the fault lies elsewhere.
    """
    try:
        given = signature.bind(*args, **kwargs).arguments
    except TypeError:  # arguments are missing, and Python has said which
        return None
    sizes: _Sizes = {}
    with jaxtyped("context"):  # dimensions of one name must agree among the arguments
        for name, value in given.items():
            hint = signature.parameters[name].annotation
            has_hint = hint is not inspect.Parameter.empty
            fault = _check(value, hint, name, sizes) if has_hint else None
            if fault is not None:
                kind = ValueError if fault.is_shape else TypeError
                return kind(_sentence(who, fault))
    return None


def _sentence(who: str, fault: _Fault) -> str:
    advice = f" {fault.advice}" if fault.advice else ""
    return f"{who} needs {fault.name} {fault.needed}, got {fault.got}.{advice}"


def _check(value: Any, hint: Any, name: str, sizes: _Sizes) -> _Fault | None:
    if any(map(is_array_hint, members(hint))):
        return _check_array(value, hint, name, sizes)
    if holds_arrays(hint):
        return _check_each(value, typing.get_args(hint)[0], name, sizes)
    if not any(_may_be(value, kind) for kind in members(hint)):
        return _Fault(name, f"as {describe(hint)}", shown(value))
    fields = hint.__annotations__ if is_named_tuple(hint) else {}
    faults = (
        _check(getattr(value, field), kind, f"{name}.{field}", sizes)
        for field, kind in fields.items()
    )
    return next(filter(None, faults), None)


def _may_be(value: Any, kind: Any) -> bool:
    """Whether a value is an instance; an annotation that is no class takes anything."""
    if typing.get_origin(kind) is Callable:
        return callable(value)
    return not isinstance(kind, type) or isinstance(value, kind)


def _check_each(value: Any, hint: Any, name: str, sizes: _Sizes) -> _Fault | None:
    if not isinstance(value, (list, tuple)):
        wanted = describe_arrays(members(hint))
        return _Fault(name, f"as a list of {wanted}, one for each level", shown(value))
    faults = (_check(x, hint, f"{name}[{i}]", sizes) for i, x in enumerate(value))
    return next(filter(None, faults), None)


def _check_array(value: Any, hint: Any, name: str, sizes: _Sizes) -> _Fault | None:
    arrays = [kind for kind in members(hint) if is_array_hint(kind)]
    others = [kind for kind in members(hint) if kind not in arrays]
    if any(_is_other(value, kind) for kind in others):
        return None
    # The dtype comes first, then the shape, among the forms with this dtype.
    forms = [x for x in arrays if isinstance(value, x.dtype[x.array_type, "..."])]
    if not forms:
        classes = [x for x in others if isinstance(x, type) and x is not type(None)]
        words = [describe(x) for x in classes]
        wanted = listed([*words, describe_arrays(arrays)], "or")
        return _Fault(name, f"as {wanted}", shown(value), _advice(value, arrays, name))
    for form in forms:
        if isinstance(value, form):
            _remember(value.shape, form.dim_str.split(), name, sizes)
            return None
    return _shape_fault(value.shape, forms, name, sizes)


def _is_other(value: Any, kind: Any) -> bool:
    """Whether a value is what an annotation allows in place of an array."""
    if typing.get_origin(kind) is Sequence:
        return isinstance(value, Sequence) and not isinstance(value, str)
    return isinstance(kind, type) and isinstance(value, kind)


def _advice(value: Any, arrays: list[Any], name: str) -> str:
    kinds = {kind.dtype.__name__ for kind in arrays}
    if "Key" in kinds:
        return "jax.random.key(seed) makes one."
    cast = {("Bool",): "bool", ("Int",): "int"}.get(tuple(kinds))
    has_dtype = cast is not None and hasattr(value, "dtype")
    return f"jnp.asarray({name}, {cast}) converts it." if has_dtype else ""


def _remember(
    shape: tuple[int, ...], dims: list[str], name: str, sizes: _Sizes
) -> None:
    if dims[:1] and dims[0].startswith("*"):
        sizes.setdefault(dims[0], _Size(0, f"{name} of shape {shape}", True))
    elif len(dims) == len(shape):
        for i, (dim, size) in enumerate(zip(dims, shape, strict=True)):
            if dim.isidentifier() and dim != "_":
                sizes.setdefault(dim, _Size(size, name, i == 0))


def _shape_fault(
    shape: tuple[int, ...], forms: list[Any], name: str, sizes: _Sizes
) -> _Fault:
    """The fault of an array that has the right dtype."""
    dims = list(dict.fromkeys(form.dim_str for form in forms))
    needed = f"as {listed([bracketed(x) for x in dims], 'or')}"
    if len(dims) == 1:
        needed += _agreement(dims[0].split(), shape, sizes)
    is_batch = {len(shape) - 1} == {len(x.split()) for x in dims}
    advice = "jax.vmap makes a batch." if is_batch else ""
    return _Fault(name, needed, f"shape {tuple(shape)}", advice, is_shape=True)


def _agreement(dims: list[str], shape: tuple[int, ...], sizes: _Sizes) -> str:
    """Which dimension has to have another size, and why."""
    if dims and dims[0] in sizes and dims[0].startswith("*"):
        return f", to go with {sizes[dims[0]].owner}"
    if len(dims) != len(shape):
        return ""
    for i, (dim, size) in enumerate(zip(dims, shape, strict=True)):
        known = sizes.get(dim)
        if known is not None and known.size != size:
            if i == 0 and known.is_rows and "[" not in known.owner:
                return f", one for each of the {known.size} {known.owner}"
            return f" with {dim} = {known.size}, as in {known.owner}"
    return ""
