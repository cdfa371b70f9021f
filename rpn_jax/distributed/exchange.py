"""What the processes of a run tell each other beside the arrays.

They use the key-value store of JAX's coordination service, which process 0 hosts. A run
of one process needs none: each function then does what it says for one process.

Every process must call these functions in the same order.
"""

import itertools
import json
from collections.abc import Callable
from typing import Any

import jax

# JAX has no public name for its key-value store. orbax takes this one as well.
from jax._src.distributed import global_state

_SECONDS = 3600  # a process may read its data for longer than the others
_ERRORS = {kind.__name__: kind for kind in (ValueError, OSError, FloatingPointError)}
_numbers = itertools.count()  # of the calls so far, which keep their keys apart


def is_first() -> bool:
    """Whether this process is the one that writes files, logs and pictures.

    >>> is_first()
    True
    """
    return jax.process_index() == 0


def store() -> Any:
    """The client of the key-value store."""
    return global_state.client


def coordinator() -> str:
    """`HOST:PORT` of the coordination service."""
    return str(global_state.coordinator_address)


def unique_name(purpose: str) -> str:
    """A prefix of keys that this call has in common with that of other processes."""
    return f"rpn_jax/{purpose}/{next(_numbers)}"


def gather(value: Any) -> list[Any]:
    """Waits for all processes, and gives each of them the values of all.

    Args:
        value: what this process tells, as JSON has it.

    Returns:
        A value for each process, by its number.

    >>> gather({"images": 7})
    [{'images': 7}]
    """
    if jax.process_count() == 1:
        return [value]
    name, client = unique_name("gather"), store()
    client.key_value_set(f"{name}/{jax.process_index()}", json.dumps(value))
    keys = [f"{name}/{number}" for number in range(jax.process_count())]
    return [
        json.loads(client.blocking_key_value_get(key, 1000 * _SECONDS)) for key in keys
    ]


def meet() -> None:
    """Waits for all processes.

    >>> meet()
    """
    gather(None)


def by_first(action: Callable[[], Any]) -> Any:
    """Lets process 0 do something, and gives its result or its error to all.

    Args:
        action: what process 0 does; it returns what JSON has.

    Returns:
        What `action` returned.

    Raises:
        ValueError, OSError, FloatingPointError: `action` raised it in process 0.

    >>> by_first(lambda: {"folder": "runs/photos"})
    {'folder': 'runs/photos'}
    """
    if jax.process_count() == 1:
        return action()
    outcome = None
    if is_first():
        try:
            outcome = {"value": action()}
        except tuple(_ERRORS.values()) as error:
            outcome = {"error": str(error), "kind": _kind_of(error)}
    # Only the outcome of process 0 counts, but all wait until it is there.
    told = gather(outcome)[0]
    if "error" in told:
        raise _ERRORS[told["kind"]](told["error"])
    return told["value"]


def _kind_of(error: Exception) -> str:
    return next(name for name, kind in _ERRORS.items() if isinstance(error, kind))
