"""Damaged and hostile files of weights: a clear line, or what is left of the file."""

import json
import os
import pathlib
import pickle
import re
import resource
import time
import zipfile

import numpy as np
import pytest
from support.foreign_files import Call, tensor, write_archive, write_stream
from support.foreign_tiny import tiny_weights

from rpn_jax.models.interop import (
    make_foreign_model,
    read_checkpoint,
    read_tensors,
    write_tensors,
)

SEED, NUMBER = 0, 400
RNG = np.random.default_rng(SEED)
WEIGHTS = {
    "conv1.weight": RNG.standard_normal((4, 3, 3, 3)).astype(np.float32),
    "bn1.weight": np.ones(4, np.float32),
    "bn1.bias": np.zeros(4),
    "bn1.num_batches_tracked": np.array(3),
    "fc.weight": RNG.standard_normal((5, 4)).astype(np.float16),
}
# What a training script stores beside the weights.
CHECKPOINT = {
    "model": Call("collections", "OrderedDict", (list(WEIGHTS.items()),)),
    "optimizer": {"state": {0: {"step": 3, "m": np.ones(4, np.float32)}}},
    "args": Call("argparse", "Namespace", (), {"lr": 0.02, "device": "cpu"}),
}


def write_npz(path, arrays=WEIGHTS):
    with path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def write_plain(path):
    content = {"model": WEIGHTS, "__author__": "someone"}
    path.write_bytes(pickle.dumps(content, protocol=2))


WRITERS = {
    "zip.npz": write_npz,
    "header.safetensors": lambda path: write_tensors(path, WEIGHTS),
    "archive.pth": lambda path: write_archive(path, CHECKPOINT),
    "stream.pth": lambda path: write_stream(path, CHECKPOINT),
    "plain.pkl": write_plain,
}


def mutated(data, rng):
    """The bytes with one to four flips, cuts, copies or insertions."""
    data = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        place, length = (int(x) for x in rng.integers(0, [len(data) + 1, 40]))
        part = slice(place, place + length)
        match rng.integers(6):
            case 0 | 1:  # flip
                if place < len(data):
                    data[place] = rng.integers(256)
            case 2:  # cut out
                del data[part]
            case 3:  # truncate
                del data[place:]
            case 4:  # copy
                data[place:place] = data[part]
            case _:  # insert
                data[place:place] = rng.bytes(length)
    return bytes(data)


def check(path, read=read_tensors):
    """Reads a file: the tensors, or None with an error of the library's own voice."""
    start, found, message = time.monotonic(), None, str(path)
    try:
        found = read(path)
    except ValueError as error:
        message = str(error)
    assert time.monotonic() - start < 10
    assert str(path) in message
    assert "\n" not in message
    # What is too large is refused before memory is asked for.
    assert not re.search("MemoryError|allocate", message), message
    return found


@pytest.fixture(autouse=True)
def no_code_runs(monkeypatch):
    """Nothing in a file is executed."""

    def refuse(*arguments, **options):
        raise AssertionError(f"a file ran a program: {arguments}")

    for name in ("system", "popen", "execv", "fork"):
        monkeypatch.setattr(os, name, refuse)


@pytest.fixture
def two_gibibytes():
    """More memory than 2 GiB above what is used already raises an error."""
    used = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    limit = used * resource.getpagesize() + 2 * 2**30
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.usefixtures("two_gibibytes")
@pytest.mark.parametrize("name", WRITERS)
def test_a_file_with_damaged_bytes_is_read_or_refused_in_one_line(tmp_path, name):
    path, rng = tmp_path / name, np.random.default_rng(SEED)
    WRITERS[name](path)
    whole, refused = path.read_bytes(), 0
    intact = check(path)
    assert intact is not None
    assert intact.keys() == WEIGHTS.keys()
    for _ in range(NUMBER):
        path.write_bytes(mutated(whole, rng))
        refused += check(path) is None
    assert NUMBER // 2 < refused < NUMBER


ONES = np.ones(3, np.float32)
STRANGE = [
    Call("torch._utils", "_rebuild_sparse_tensor", ("layout", ())),
    Call("torch._utils", "_rebuild_meta_tensor_no_storage", ("f", (2,), (1,), False)),
    Call("posix", "system", ("true",)),
    Call("builtins", "eval", ("1",)),
    Call("numpy", "dtype", ("f8", False, True)),
    Call("torch.nn.modules.linear", "Linear", ()),
    tensor(ONES, shape=(2**40,), strides=(0,)),
    tensor(ONES, shape=(2**20, 2**20), strides=(0, 0)),
    tensor(ONES, shape=(-1,)),
    tensor(ONES, offset=2**40),
    tensor(ONES, shape=(3, 3), strides=(1,)),
    tensor(ONES, shape="abc"),
    [1, 2.5, None],
    {},
    "text",
    None,
    np.zeros((0, 2**40), np.float32),
]
NAMES = ["", ".", "model.", "module.conv1.weight", "conv1.weight", "a" * 500, "ü"]


def restructured(content, rng):
    """The content with one to three tensors dropped, renamed or replaced."""
    content = dict(content)
    for _ in range(rng.integers(1, 4)):
        name = str(rng.choice(list(content) or ["a"]))
        value = content.pop(name, None)
        match rng.integers(4):
            case 0:  # rename
                content[NAMES[rng.integers(len(NAMES))]] = value
            case 1:  # another type or value
                content[name] = STRANGE[rng.integers(len(STRANGE))]
            case 2:  # deeper
                content[NAMES[rng.integers(len(NAMES))]] = {name: value}
            case _:  # drop
                pass
    return content


@pytest.mark.usefixtures("two_gibibytes")
@pytest.mark.parametrize("write", [write_archive, write_stream])
def test_dropped_renamed_and_retyped_tensors_are_read_or_refused_in_one_line(
    tmp_path, write
):
    rng, path, found = np.random.default_rng(SEED), tmp_path / "odd.pth", 0
    for _ in range(NUMBER):
        content = {"model": restructured(WEIGHTS, rng)}
        write(path, content if rng.random() < 0.5 else restructured(content, rng))
        found += check(path) is not None
    assert NUMBER // 4 < found < NUMBER


@pytest.mark.parametrize("write", [write_archive, write_npz])
def test_a_detector_with_other_tensors_is_made_or_refused_in_one_line(tmp_path, write):
    rng, path = np.random.default_rng(SEED), tmp_path / "tiny.pth"
    whole = tiny_weights()

    def read(path):
        return make_foreign_model(read_checkpoint(path))

    for _ in range(8):
        content = restructured(whole, rng)
        arrays = {k: x for k, x in content.items() if isinstance(x, np.ndarray)}
        write(path, content if write is write_archive else arrays)
        check(path, read)


def header_of(data):
    """The header of a safetensors file, and what lies behind it."""
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), data[end:]


HUGE = [0, 1, -1, 3, 2**31, 2**40, 2**63, 2**64, 10**30, 1.5, "9", None, [1], {}]


@pytest.mark.usefixtures("two_gibibytes")
def test_a_safetensors_header_with_any_numbers_is_refused_in_one_line(tmp_path):
    rng, path = np.random.default_rng(SEED), tmp_path / "odd.safetensors"
    write_tensors(path, WEIGHTS)
    whole, refused = path.read_bytes(), 0
    for _ in range(NUMBER):
        header, rest = header_of(whole)
        entry = header[str(rng.choice([name for name in header if name[0] != "_"]))]
        field, value = str(rng.choice(list(entry))), HUGE[rng.integers(len(HUGE))]
        if field == "dtype":
            entry["dtype"] = ["F8_E4M3", "C64", "F4", "", value][rng.integers(5)]
        else:
            entry[field] = [*entry[field][:-1], value]
        text = json.dumps(header).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + rest)
        refused += check(path) is None
    assert refused > NUMBER // 2


@pytest.mark.usefixtures("two_gibibytes")
def test_an_npy_header_with_any_shape_and_type_is_refused_in_one_line(tmp_path):
    rng, path, refused = np.random.default_rng(SEED), tmp_path / "odd.npz", 0
    for _ in range(NUMBER):
        shape = tuple(HUGE[i] for i in rng.integers(0, len(HUGE), rng.integers(4)))
        kind = ["<f4", "|O", "<V8", "f4,f4", "<U9", "<c8", ">i2"][rng.integers(7)]
        header = {"descr": kind, "fortran_order": False, "shape": shape}
        text = f"{header}\n".encode()
        head = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.npy", head + rng.bytes(12))
        refused += check(path) is None
    assert refused > NUMBER // 2


@pytest.mark.usefixtures("two_gibibytes")
@pytest.mark.parametrize("name", ["a.npy", "archive/data.pkl"])
def test_an_archive_that_grows_beyond_the_memory_is_refused(tmp_path, name):
    path = tmp_path / "bomb.bin"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry in (name, "other"):
            archive.writestr(entry, bytes(2**26))
    with pytest.raises(ValueError, match=r"bomb.bin cannot be read.* after unpacking"):
        read_tensors(path)
