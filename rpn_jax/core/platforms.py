"""Chooses between the forms of an algorithm by the platform that a program runs on."""

from collections.abc import Callable
from typing import TypeVar

import jax

_Result = TypeVar("_Result")

# Programs that are traced inside of `with portable_forms(True)` hold the forms that
# other runtimes can execute too. JAX traces a function anew when the value changes.
portable_forms = jax.make_user_context(False)


def by_platform(
    *arguments: jax.Array | tuple,
    cpu: Callable[..., _Result],
    default: Callable[..., _Result],
) -> _Result:
    """`cpu(*arguments)` in a program for CPUs, and `default(*arguments)` elsewhere.

    The forms compute the same numbers. A program that is exported for several platforms
    holds both. Inside of `with portable_forms(True)` it holds the default alone: the
    converter to ONNX knows neither the question for the platform, nor loops whose
    length depends on data.

    Args:
        arguments: pytrees of arrays.
        cpu: the form for CPUs.
        default: the form for all other platforms.
    """
    if portable_forms.value:
        return default(*arguments)
    return jax.lax.platform_dependent(*arguments, cpu=cpu, default=default)
