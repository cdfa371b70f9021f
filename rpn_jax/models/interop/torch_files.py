"""The two formats of PyTorch's files: a zip archive since 1.6, and a stream before.

Both hold a pickle whose tensors are views of storages, which lie beside the pickle.
See `torch/serialization.py` in https://github.com/pytorch/pytorch.
"""

import io
import re
import zipfile
from collections.abc import Callable
from typing import Any, BinaryIO

from .stand_ins import NotNumbersError, Opaque, StandIn
from .torch_stand_ins import TORCH, Kind, Storage
from .unpickling import Unpickled, load_pickle

# The first object of a stream, and the version of the format, which is the second.
_MAGIC, _VERSION = 0x1950A86A20F9469CFC6C, 1001


def load_archive(archive: zipfile.ZipFile) -> Unpickled:
    """Reads a file of PyTorch since version 1.6.

    Args:
        archive: the file, which must stay open until all tensors were read.

    Returns:
        The content. Its tensors are read when they are needed.

    Raises:
        Exception: the file is damaged. It may be of any type.
    """
    names = archive.namelist()
    root = next(
        name.removesuffix("data.pkl")
        for name in names
        if re.fullmatch(r"([^/]+/)?data\.pkl", name)
    )
    order = f"{root}byteorder"
    is_little = order not in names or archive.read(order).strip() != b"big"

    def make(kind: Kind, key: str) -> Storage:
        return Storage(kind, lambda: archive.read(f"{root}data/{key}"), is_little)

    program = io.BytesIO(archive.read(f"{root}data.pkl"))
    return load_pickle(program, _STAND_INS, _Finder(make))


def load_stream(file: BinaryIO) -> Unpickled:
    """Reads a file of PyTorch before version 1.6.

    Args:
        file: the file, which must stay open until all tensors were read.

    Returns:
        The content. Its tensors are read when they are needed.

    Raises:
        Exception: the file is damaged. It may be of any type.
    """
    header = [load_pickle(file).content for _ in range(3)]
    if header[:2] != [_MAGIC, _VERSION]:
        raise ValueError(f"its header is {header[:2]}")
    # The places of the storages are known only behind the pickle that refers to them.
    places: dict[str, tuple[int, int]] = {}

    def make(kind: Kind, key: str) -> Storage:
        def read() -> bytes:
            start, count = places[key]
            file.seek(start)
            return _read_exactly(file, count * kind.width)

        return Storage(kind, read, header[2].get("little_endian", True))

    finder = _Finder(make)
    unpickled = load_pickle(file, _STAND_INS, finder)
    for key in load_pickle(file).content:
        count = int.from_bytes(_read_exactly(file, 8), "little")
        places[key] = file.tell(), count
        file.seek(count * finder.storages[key].kind.width, io.SEEK_CUR)
    return unpickled


class _Finder:
    """Finds storages by their persistent ids, one for each key."""

    def __init__(self, make: Callable[[Kind, str], Storage]) -> None:
        self._make = make
        self.storages: dict[str, Storage] = {}

    def __call__(self, pid: Any) -> Any:
        # A stream stores the source code of modules, which has no use here.
        if pid[0] == "module":
            return Opaque
        _, kind, key, device, _, *view = pid
        if not isinstance(kind, Kind):
            kind = Kind(None, 0, "of an unknown type")
        if key not in self.storages:
            storage = Storage(kind, _no_numbers)
            self.storages[key] = storage if device == "meta" else self._make(kind, key)
        found = self.storages[key]
        # Before PyTorch 0.4 a storage could be a part of another one.
        return found.part(*view[0][1:]) if view and view[0] else found


def _no_numbers() -> bytes:
    raise NotNumbersError("it has no numbers")


def _read_exactly(file: BinaryIO, count: int) -> bytes:
    """The next bytes of a file, which is refused if it has fewer."""
    start, end = file.tell(), file.seek(0, io.SEEK_END)
    file.seek(start)
    if not 0 <= count <= end - start:
        raise ValueError(f"it ends {count - (end - start)} bytes too early")
    return file.read(count)


def _from_bytes(data: bytes, *_: Any) -> Any:
    """A storage that was pickled without `torch.save`: a stream inside of a pickle."""
    return load_stream(io.BytesIO(data)).content


_STAND_INS = {**TORCH, ("torch.storage", "_load_from_bytes"): StandIn(_from_bytes)}


def load_plain_pickle(file: BinaryIO) -> Unpickled:
    """Reads a pickle of arrays, or of tensors that were pickled without `torch.save`.

    Args:
        file: the pickle, opened for reading bytes.

    Returns:
        The content.

    Raises:
        Exception: the pickle is damaged. It may be of any type.
    """
    return load_pickle(file, _STAND_INS)
