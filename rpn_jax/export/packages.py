"""Imports packages that a format needs and the library does not; words of errors."""

import importlib
import pathlib
from types import ModuleType

_EXTRA = "rpn-jax[export]"
# The release of jax2onnx asks for an orbax that is older than that of training, and
# does not use it.
_ADVICE = {
    "onnxruntime": "onnxruntime",
    "jax2onnx": f"{_EXTRA} && pip install --no-deps jax2onnx",
}


def require_package(name: str, path: pathlib.Path) -> ModuleType:
    """Imports a package, or says how to install it.

    Args:
        name: name of the package.
        path: the file that needs it, for the message.

    Raises:
        ValueError: the package is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{path} needs the package {name}, which is not installed: "
            f"pip install {_ADVICE.get(name, _EXTRA)}"
        ) from error


def first_line(error: Exception) -> str:
    r"""The first line of what an error says, or else its class.

    >>> first_line(ValueError("no such file\n\nCheck it.")), first_line(TypeError())
    ('no such file', 'TypeError()')
    """
    said = str(error).strip()
    return said.splitlines()[0] if said else repr(error)
