"""Writes programs to files, and reads them."""

import os
import pathlib

from . import onnx_file, stablehlo_file
from .loaded import Loaded
from .program import Program

_WRITERS = {".stablehlo": stablehlo_file.write, ".onnx": onnx_file.write}


def write(program: Program, path: str | os.PathLike[str]) -> None:
    """Writes a program to a file, whole or not at all.

    Args:
        program: what `network_program` or `core_program` returns.
        path: file to write. With the suffix `.stablehlo` it becomes an artifact of
            `jax.export` for CPU, CUDA and TPU, and with `.onnx` a model for ONNX
            Runtime.

    Raises:
        ValueError: the suffix is another one, the packages for ONNX are missing, or
            ONNX cannot express an operation of the network.

    >>> from rpn_jax import AnchorConfig
    >>> from rpn_jax.export import core_program
    >>> anchors = AnchorConfig(sizes=(32,), strides=(16,))
    >>> program = core_program(anchors, [(2, 3)], (32, 48))
    >>> write(program, "core.pt")
    Traceback (most recent call last):
        ...
    ValueError: export needs a file that ends in .stablehlo or .onnx, got core.pt.
    """
    path = pathlib.Path(path)
    check_suffix(path)
    _WRITERS[path.suffix](program, path)


def check_suffix(path: pathlib.Path) -> None:
    """Raises a `ValueError` unless the suffix names a format."""
    if path.suffix not in _WRITERS:
        raise ValueError(
            f"export needs a file that ends in {' or '.join(_WRITERS)}, got {path}."
        )


def load(path: str | os.PathLike[str]) -> Loaded:
    """Reads a program that `write` has written.

    Args:
        path: the file; its content tells the format. A model for ONNX Runtime needs the
            package `onnxruntime`.

    Returns:
        The program as a function from arrays to `Proposals`.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is none of `rpn_jax.export`, is damaged, or was written by
            a later version.

    >>> import tempfile
    >>> from rpn_jax import AnchorConfig
    >>> from rpn_jax.export import core_program
    >>> anchors = AnchorConfig(sizes=(32,), strides=(16,))
    >>> program = core_program(anchors, [(2, 3)], (32, 48))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(program, f"{folder}/core.stablehlo")
    ...     propose = load(f"{folder}/core.stablehlo")
    >>> [array.name for array in propose.description.inputs]
    ['logits', 'deltas', 'image_sizes']
    """
    path = pathlib.Path(path)
    if stablehlo_file.is_ours(path):
        return stablehlo_file.read(path)
    if onnx_file.is_onnx(path):
        return onnx_file.read(path)
    raise ValueError(
        f"load needs a whole file that `rpn-jax export` has written, got {path}, which "
        "is something else, or a part of one. Export it again."
    )
