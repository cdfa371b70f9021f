"""Opens a file of weights, and lists its arrays without reading their numbers."""

import contextlib
import importlib
import math
import pathlib
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np

from .file_kinds import kind_of
from .stand_ins import LazyArray, NotNumbersError, PlainDict
from .torch_files import load_archive, load_plain_pickle, load_stream
from .unpickling import Unpickled

# A compressed file that grows more than this is no file of weights. Random numbers
# shrink by a tenth, and numbers of which nine in ten are zero to a fifth.
_GROWTH, _ALWAYS_ADMITTED = 32, 64 * 2**20


@contextlib.contextmanager
def open_content(path: pathlib.Path) -> Iterator[Unpickled]:
    """Opens a file that may be damaged or hostile.

    Args:
        path: an existing file.

    Yields:
        Its content. Arrays can be read until the file is closed.

    Raises:
        Exception: the file is damaged, or no file of weights. It may be of any type.
    """
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(path.open("rb"))
        kind = kind_of(file, path.suffix.lower())
        if kind == "safetensors":
            safetensors = importlib.import_module("safetensors")
            opened = stack.enter_context(safetensors.safe_open(path, "np"))
            arrays = {x: _SafetensorsArray(path, opened, x) for x in _names(opened)}
            yield Unpickled(arrays, ())
        elif kind in ("npz", "archive"):
            archive = stack.enter_context(zipfile.ZipFile(file))
            _check_growth(archive, path.stat().st_size)
            if kind == "archive":
                yield load_archive(archive)
            else:
                yield Unpickled(_npz_arrays(archive), ())
        elif kind == "stream":
            yield load_stream(file)
        elif kind == "pickle":
            yield load_plain_pickle(file)
        else:
            raise ValueError("it is a list of files.")


def _names(opened: Any) -> list[str]:
    """The names in a file, which can be listed but not iterated over."""
    return opened.keys()


class _SafetensorsArray(LazyArray):
    __slots__ = ("_name", "_path", "nbytes", "shape")

    def __init__(self, path: pathlib.Path, opened: Any, name: str) -> None:
        self._path, self._name = path, name
        self.shape = tuple(opened.get_slice(name).get_shape())
        self.nbytes = math.prod(self.shape)  # at least; the library compares the bytes

    def read(self) -> np.ndarray:
        safetensors = importlib.import_module("safetensors")
        # The file is opened for every array. A file that stays open would keep all of
        # its pages in memory, in addition to the arrays.
        with safetensors.safe_open(self._path, "np") as file:
            try:
                return file.get_tensor(self._name)
            # The library checked the header, so only the type can be wrong.
            except Exception as error:
                reason = str(error) or type(error).__name__
                raise NotNumbersError(f"its type is unknown ({reason})") from None


class _NpzArray(LazyArray):
    __slots__ = (
        "_archive",
        "_dtype",
        "_entry",
        "_is_fortran",
        "_start",
        "nbytes",
        "shape",
    )

    def __init__(self, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
        self._archive, self._entry = archive, entry
        with archive.open(entry) as file:
            version = np.lib.format.read_magic(file)
            is_first = version == (1, 0)
            read = (
                np.lib.format.read_array_header_1_0
                if is_first
                else np.lib.format.read_array_header_2_0
            )
            self.shape, self._is_fortran, self._dtype = read(file)
            self._start = file.tell()
        self.nbytes = math.prod(self.shape) * self._dtype.itemsize

    def read(self) -> np.ndarray:
        if self._dtype.kind not in "biuf":
            raise NotNumbersError(f"an array of {self._dtype} has no numbers")
        if self._start + self.nbytes != self._entry.file_size:
            raise ValueError(
                f"{self._entry.filename} has {self._entry.file_size} bytes, and its "
                f"shape {self.shape} needs {self._start + self.nbytes}"
            )
        flat = np.frombuffer(
            self._archive.read(self._entry), self._dtype, offset=self._start
        )
        return flat.reshape(self.shape, order="F" if self._is_fortran else "C")


def _npz_arrays(archive: zipfile.ZipFile) -> dict[str, LazyArray]:
    entries = (x for x in archive.infolist() if x.filename.endswith(".npy"))
    return PlainDict(
        (entry.filename.removesuffix(".npy"), _NpzArray(archive, entry))
        for entry in entries
    )


def _check_growth(archive: zipfile.ZipFile, size: int) -> None:
    """Refuses an archive that fills the memory when it is unpacked."""
    unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > _ALWAYS_ADMITTED + _GROWTH * size:
        raise ValueError(f"it has {size:,} bytes, and {unpacked:,} after unpacking.")
