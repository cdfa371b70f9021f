"""Writes files of PyTorch as PyTorch does, with anything in them, and without PyTorch.

See `save` and `_legacy_save` in `torch/serialization.py`.
"""

import io
import pickle
import struct
import zipfile
from typing import Any, NamedTuple

import numpy as np

STORAGES = {
    "float64": "DoubleStorage",
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "int64": "LongStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
}


class Named(NamedTuple):
    """A class or function, named but not called."""

    module: str
    name: str


class Call(NamedTuple):
    """The result of a call, with a state that is set afterwards if it is not None."""

    module: str
    name: str
    arguments: tuple = ()
    state: Any = None


class Changed(NamedTuple):
    """An object after its state was set, be it a class or a function."""

    value: Any
    state: Any


class Stored(NamedTuple):
    """Numbers beside the pickle: a class of storages, and bytes."""

    storage: str
    data: bytes
    length: int
    device: str = "cpu"


def tensor(x, *, shape=None, strides=None, offset=0):
    """A tensor, which may be a view of the array."""
    x = np.array(x, order="C")
    usual = tuple(step // x.itemsize for step in x.strides)
    stored = Stored(STORAGES[x.dtype.name], x.tobytes(), x.size)
    arguments = (
        stored,
        offset,
        x.shape if shape is None else shape,
        usual if strides is None else strides,
        False,
        Call("collections", "OrderedDict"),
    )
    return Call("torch._utils", "_rebuild_tensor_v2", arguments)


class Program:
    """The pickle of an object, and the storages that lie beside it."""

    def __init__(self, value, *, is_stream=False):
        self.storages, self.is_stream = {}, is_stream
        self.code = pickle.PROTO + b"\x02" + self.encode(value) + pickle.STOP

    def encode(self, value):
        if isinstance(value, np.ndarray):
            return self.encode(tensor(value))
        if isinstance(value, Stored):
            return self.store(value)
        if isinstance(value, Named):
            return pickle.GLOBAL + f"{value.module}\n{value.name}\n".encode()
        if isinstance(value, Call):
            code = self.encode(Named(value.module, value.name))
            code += self.encode(tuple(value.arguments)) + pickle.REDUCE
            if value.state is not None:
                code += self.encode(value.state) + pickle.BUILD
            return code
        if isinstance(value, Changed):
            return self.encode(value.value) + self.encode(value.state) + pickle.BUILD
        if isinstance(value, dict):
            items = b"".join(self.encode(x) for item in value.items() for x in item)
            return pickle.EMPTY_DICT + pickle.MARK + items + pickle.SETITEMS
        if isinstance(value, list):
            items = b"".join(map(self.encode, value))
            return pickle.EMPTY_LIST + pickle.MARK + items + pickle.APPENDS
        if isinstance(value, tuple):
            return pickle.MARK + b"".join(map(self.encode, value)) + pickle.TUPLE
        # Python's own pickler has no protocol and no end here.
        return pickle.dumps(value, protocol=2)[2:-1]

    def store(self, stored):
        key = str(len(self.storages))
        self.storages[key] = stored
        pid = ("storage", Named("torch", stored.storage), key, stored.device)
        pid += (stored.length, None) if self.is_stream else (stored.length,)
        return self.encode(pid) + pickle.BINPERSID


def write_archive(path, content, **entries):
    """Writes the format since PyTorch 1.6, with additional entries."""
    program = Program(content)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", program.code)
        for key, stored in program.storages.items():
            if stored.device != "meta":
                archive.writestr(f"archive/data/{key}", stored.data)
        for name, data in ({"version": "3\n", "byteorder": "little"} | entries).items():
            archive.writestr(f"archive/{name}", data)
    return path


def write_stream(path, content):
    """Writes the format before PyTorch 1.6."""
    program, out = Program(content, is_stream=True), io.BytesIO()
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    for header in (0x1950A86A20F9469CFC6C, 1001, system):
        out.write(pickle.dumps(header, protocol=2))
    out.write(program.code)
    out.write(pickle.dumps(list(program.storages), protocol=2))
    for stored in program.storages.values():
        out.write(struct.pack("<q", stored.length) + stored.data)
    path.write_bytes(out.getvalue())
    return path
