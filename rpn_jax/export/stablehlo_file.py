"""Artifacts of `jax.export`, with a description behind them.

A file has four parts: the artifact as `jax.export` serialises it, the description in
JSON, the hash of both, and an end that tells the length of the description. JAX ignores
what follows an artifact. So `jax.export.deserialize(bytearray(content))` reads the
file without rpn_jax.
"""

import hashlib
import pathlib
import struct
from typing import NamedTuple

import jax
import jax.export
import numpy as np

from ..atomic_file import replace_file
from .description import from_json
from .loaded import Loaded
from .packages import first_line, require_package
from .program import Program

PLATFORMS = ("cpu", "cuda", "tpu")
_MARK = b"rpn_jax.export.1"
_END = struct.Struct("<Q16s")  # length of the description, mark
_HASH = 32  # bytes of SHA-256


def write(program: Program, path: pathlib.Path) -> None:
    """Writes a program as one artifact for all platforms; see `files.write`."""

    def by_name(*arrays: jax.Array) -> dict[str, jax.Array]:
        # A dictionary, because readers would have to register a NamedTuple.
        return program.of_batch(*arrays)._asdict()

    require_package("flatbuffers", path)
    (images,) = jax.export.symbolic_shape("b")
    inputs = [
        jax.ShapeDtypeStruct((images, *array.shape[1:]), np.dtype(array.dtype))
        for array in program.description.inputs
    ]
    exported = jax.export.export(jax.jit(by_name), platforms=PLATFORMS)(*inputs)
    description = program.description.to_json().encode()
    content = bytes(exported.serialize()) + description
    end = hashlib.sha256(content).digest() + _END.pack(len(description), _MARK)
    with replace_file(path) as draft:
        draft.write_bytes(content + end)


def is_ours(path: pathlib.Path) -> bool:
    """Whether a file ends as `write` ends it."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(size - len(_MARK), 0))
        return file.read() == _MARK


class _Parts(NamedTuple):
    artifact: bytearray
    description: str


def read(path: pathlib.Path) -> Loaded:
    """Reads what `write` has written; see `files.load`."""
    require_package("flatbuffers", path)
    parts = _split(path)
    description = from_json(parts.description, str(path))
    try:
        exported = jax.export.deserialize(parts.artifact)
    except ValueError as error:
        raise ValueError(
            f"{path} was written with JAX {description.jax}, and JAX {jax.__version__} "
            f"cannot read it ({first_line(error)}). Export it with a JAX of about "
            "the same age."
        ) from error
    return Loaded(description, jax.jit(exported.call), str(path))


def _split(path: pathlib.Path) -> _Parts:
    content = path.read_bytes()
    body, end = content[: -_END.size], content[-_END.size :]
    body, found = body[:-_HASH], body[-_HASH:]
    if hashlib.sha256(body).digest() != found:
        raise ValueError(
            f"{path} is damaged: its content does not have the hash that it names. "
            "Copy or export it again."
        )
    length, _ = _END.unpack(end)
    start = len(body) - length
    return _Parts(bytearray(body[:start]), body[start:].decode())
