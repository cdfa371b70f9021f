"""Files of PyTorch of any version, as people have them, read without PyTorch."""

import collections
import json
import pickle
import zipfile

import numpy as np
import pytest
from support.foreign_files import (
    Call,
    Changed,
    Named,
    Stored,
    tensor,
    write_archive,
    write_stream,
)

from rpn_jax.models.interop import read_tensors, write_tensors
from rpn_jax.models.interop.weight_files import read_weight_file

FORMATS = pytest.mark.parametrize("write", [write_archive, write_stream])
NUMBERS = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
WEIGHTS = {
    "a.weight": NUMBERS,
    "b.bias": np.array([1.0, -2.0]),
    "c.weight": np.arange(6, dtype=np.float16).reshape(3, 2),
    "d.number": np.array(7),
    "e.flags": np.array([True, False]),
    "f.empty": np.zeros((0, 4), np.float32),
}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)
        assert found[name].shape == value.shape
        assert found[name].dtype == value.dtype


def view(storage, shape, strides=(1,)):
    arguments = (storage, 0, shape, strides, False, None)
    return Call("torch._utils", "_rebuild_tensor_v2", arguments)


@FORMATS
@pytest.mark.parametrize("ending", [".pth", ".pt", ".ckpt", ".bin", ".pth.tar", ""])
def test_the_content_of_a_file_decides_and_not_its_name(tmp_path, write, ending):
    assert_same(read_tensors(write(tmp_path / f"model{ending}", WEIGHTS)), WEIGHTS)


@pytest.mark.parametrize("ending", [".ckpt", ".bin", ".weights"])
@pytest.mark.parametrize("kind", [".safetensors", ".npz", ".pth", ".pkl"])
def test_every_format_is_read_under_another_name(tmp_path, kind, ending):
    write_tensors(tmp_path / f"model{kind}", WEIGHTS)
    renamed = (tmp_path / f"model{kind}").rename(tmp_path / f"other{ending}")
    assert_same(read_tensors(renamed), WEIGHTS)


@FORMATS
def test_views_of_one_storage_have_their_own_numbers(tmp_path, write):
    flat = NUMBERS.reshape(-1)
    content = {
        "turned": tensor(flat, shape=(4, 3, 2), strides=(1, 4, 12)),
        "slice": tensor(flat, shape=(2, 2), strides=(12, 2), offset=5),
        "repeated": tensor(flat, shape=(3, 2), strides=(0, 1), offset=2),
    }
    found = read_tensors(write(tmp_path / "views.pth", content))
    np.testing.assert_array_equal(found["turned"], NUMBERS.T)
    np.testing.assert_array_equal(found["slice"], [[5, 7], [17, 19]])
    np.testing.assert_array_equal(found["repeated"], [[2, 3]] * 3)


@FORMATS
@pytest.mark.parametrize("shape", [(2**31,), (2**20, 2**20), (100, 3, 2**17)])
def test_a_view_that_is_far_larger_than_its_file_is_refused(tmp_path, write, shape):
    """Nothing is read yet, but whoever copies the view would fill the memory."""
    huge = tensor(np.ones(3, np.float32), shape=shape, strides=[0] * len(shape))
    with pytest.raises(ValueError, match=r"huge.pth .* its tensors need .* bytes"):
        read_tensors(write(tmp_path / "huge.pth", WEIGHTS | {"huge": huge}))


def test_numbers_of_a_big_endian_machine_are_turned(tmp_path):
    stored = Stored("FloatStorage", NUMBERS.astype(">f4").tobytes(), 24)
    content = {"a": view(stored, (24,))}
    path = write_archive(tmp_path / "big.pth", content, byteorder="big")
    np.testing.assert_array_equal(read_tensors(path)["a"], NUMBERS.reshape(-1))


@FORMATS
def test_bfloat16_and_eight_bit_floats_become_float32(tmp_path, write):
    brain = np.array([1.5, -2.0], "<f4").view("<u2")[1::2].tobytes()
    # 1.5 and -2.0 with four bits of exponent and three of fraction.
    eight = Stored("UntypedStorage", b"\x3c\xc0", 2)
    kind = Named("torch", "float8_e4m3fn")
    arguments = (eight, 0, (2,), (1,), False, None, kind)
    content = {
        "brain": view(Stored("BFloat16Storage", brain, 2), (2,)),
        "eight": Call("torch._utils", "_rebuild_tensor_v3", arguments),
    }
    for value in read_tensors(write(tmp_path / "brain.pth", content)).values():
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value, [1.5, -2.0])


UNUSABLE = {
    "sparse": Call("torch._utils", "_rebuild_sparse_tensor", ("coo", ())),
    "rows": Call("torch._utils", "_rebuild_sparse_csr_tensor", ("csr", ())),
    "quantised": Call(
        "torch._utils", "_rebuild_qtensor", (Stored("QInt8Storage", b"abc", 3),)
    ),
    "nested": Call("torch._utils", "_rebuild_nested_tensor", ()),
    "meta": Call("torch._utils", "_rebuild_meta_tensor_no_storage", ("f", (9,))),
    "on meta": view(Stored("FloatStorage", b"", 0, "meta"), (9,)),
    "complex": view(Stored("ComplexFloatStorage", bytes(16), 2), (2,)),
}


@FORMATS
def test_a_tensor_that_is_not_needed_is_left_out_and_counted(tmp_path, write):
    file = read_weight_file(write(tmp_path / "odd.pth", UNUSABLE | WEIGHTS))
    assert_same(file.tensors, WEIGHTS)
    assert file.unusable.keys() == UNUSABLE.keys()
    assert file.unusable["sparse"] == "it is sparse"
    assert file.unusable["complex"] == "its numbers are complex"


def test_arrays_of_objects_and_text_do_not_spoil_a_pickle(tmp_path):
    odd = {"o": np.array([{}], object), "t": np.array(["a"]), "c": np.ones(2, "c8")}
    (tmp_path / "odd.pkl").write_bytes(pickle.dumps({"model": WEIGHTS | odd}))
    file = read_weight_file(tmp_path / "odd.pkl")
    assert_same(file.tensors, WEIGHTS)
    assert file.unusable.keys() == odd.keys()


# What published training scripts store: torchvision's references, mmdetection 2 and 3,
# Lightning and plain scripts.
HISTORY = Call(
    "mmengine.logging.history_buffer",
    "HistoryBuffer",
    (),
    {"_log_history": np.ones(3), "_count_history": np.ones(3, np.int64)},
)
BESIDE = {
    "optimizer": {"state": {0: {"momentum_buffer": NUMBERS}}, "param_groups": [{}]},
    "lr_scheduler": {"base_lrs": [0.02], "_step_count": 3},
    "scaler": {"scale": np.array(65536.0)},
    "epoch": 25,
    "args": Call("argparse", "Namespace", (), {"lr": 0.02, "device": "cuda"}),
    "message_hub": {
        "log_scalars": Call("collections", "OrderedDict", ([("loss", HISTORY)],)),
        "resumed_keys": Call("collections", "OrderedDict"),
    },
    "config": Call("mmengine.config.config", "ConfigDict", ({"lr": 0.02},)),
    "best": Call(
        "numpy._core.multiarray",
        "scalar",
        (Call("numpy", "dtype", ("f8", False, True)), b"\0" * 8),
    ),
    "path": Call("pathlib", "PosixPath", ("work_dirs", "run")),
    "phase": Call("pytorch_lightning.trainer.states", "RunningStage", ("train",)),
    "device": Call("torch", "device", ("cuda", 0)),
    "size": Call("torch", "Size", ((800, 1333),)),
    "dtype": Named("torch", "float32"),
    "counts": Call("collections", "Counter", ({"a": 1},)),
    "lists": Call("collections", "defaultdict", (Named("builtins", "list"),)),
    "unknown": Call("some.module", "Class", (1,), {"x": NUMBERS}),
    "random": Call("random", "Random", ()),
}


@FORMATS
def test_a_checkpoint_of_a_training_script_gives_its_model(tmp_path, write):
    metadata = Call("collections", "OrderedDict", ([("", {"version": 1})],))
    state = Call(
        "collections",
        "OrderedDict",
        (list(WEIGHTS.items()),),
        {"_metadata": metadata},
    )
    for key in ("model", "state_dict", "model_state_dict"):
        path = write(tmp_path / f"{key}.pth", {**BESIDE, key: state})
        file = read_weight_file(path)
        assert_same(file.tensors, WEIGHTS)
        assert file.part == key
        assert file.other_parts == ()


@FORMATS
@pytest.mark.parametrize("key", [None, "model"])
def test_a_whole_pickled_module_says_what_to_do_and_runs_nothing(tmp_path, write, key):
    module = Call("ultralytics.nn.tasks", "DetectionModel", (), {"yaml": {}})
    path = write(tmp_path / "best.pt", module if key is None else {key: module})
    with pytest.raises(ValueError, match=r"asks for ultralytics") as info:
        read_tensors(path)
    assert "torch.save(model.state_dict(), 'weights.pth')" in str(info.value)
    assert "\n" not in str(info.value)


@FORMATS
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (NUMBERS, "one tensor without a name"),
        ({}, "it holds no tensors"),
        ({"epoch": 3}, "it holds no tensors"),
        ([NUMBERS], "it holds a list, not tensors by name"),
    ],
)
def test_a_file_without_tensors_by_name_says_what_it_holds(
    tmp_path, write, content, message
):
    with pytest.raises(ValueError, match=message):
        read_tensors(write(tmp_path / "odd.pth", content))


@pytest.mark.parametrize("name", ["constants.pkl", "code/__torch__.py"])
def test_a_torchscript_archive_says_what_to_do(tmp_path, name):
    path = write_archive(tmp_path / "script.pt", {}, **{name: "x"})
    with pytest.raises(ValueError, match=r"TorchScript.*torch.jit.load.*state_dict"):
        read_tensors(path)


@FORMATS
def test_functions_that_a_file_asks_for_are_not_called(tmp_path, write):
    ran = tmp_path / "ran"
    content = {
        "evil": Call("builtins", "open", (str(ran), "w")),
        "more": Call("os", "system", (f"touch {ran}",)),
        "applied": Call("builtins", "map", (Named("os", "system"), [f"touch {ran}"])),
        "a.weight": NUMBERS,
    }
    found = read_tensors(write(tmp_path / "evil.pth", content))
    assert_same(found, {"a.weight": NUMBERS})
    assert not ran.exists()


@pytest.mark.parametrize(
    "program",
    [
        b"}" + b")" + 300_000 * b"\x85" + b"Ns.",  # a tuple in a tuple, as a key
        b"(" * 300_000 + b"\x91" * 300_000 + b".",  # a frozenset in a frozenset
        b"]q\x00r\xff\xff\xff\x7f.",  # the last of 2**31 stored objects
        b"\x8e" + (2**40).to_bytes(8, "little") + b".",  # a terabyte of bytes
        b"]q\x00h\x00a.",  # a list that holds itself
    ],
)
def test_a_program_that_would_crash_python_or_fill_its_memory_is_refused(
    tmp_path, program
):
    (tmp_path / "model.pkl").write_bytes(b"\x80\x04" + program)
    with pytest.raises(ValueError, match=r"model.pkl cannot be read") as info:
        read_tensors(tmp_path / "model.pkl")
    assert "MemoryError" not in str(info.value)


@FORMATS
@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("torch._utils", "_rebuild_tensor_v2"),
        ("torch", "FloatStorage"),
        ("numpy", "dtype"),
        ("numpy", "ndarray"),
        ("collections", "OrderedDict"),
        ("some.module", "Class"),
    ],
)
def test_a_file_cannot_change_how_the_next_one_is_read(tmp_path, write, module, name):
    for state in (({}, {"__defaults__": (1,), "read": 1, "dtype": 1}), {"read": 1}):
        changed = Changed(Named(module, name), state)
        with pytest.raises(ValueError, match="cannot be read"):
            read_tensors(write(tmp_path / "changed.pth", WEIGHTS | {"z": changed}))
    assert_same(read_tensors(write(tmp_path / "good.pth", WEIGHTS)), WEIGHTS)


@pytest.mark.parametrize(
    ("start", "advice"),
    [
        (b"", "it is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"\n<!DOCTYPE html><html>", "it is a web page"),
        (b"\x1f\x8b\x08\0", "it is compressed"),
        (b"model" + bytes(252) + b"ustar", "it is a tar archive"),
        (b"\x89HDF\r\n\x1a\n", "HDF5 file"),
        (b"\x93NUMPY\x01\0", "one array without a name"),
        (b"\x08\x07\x12\x07pytorch", "no file of safetensors, NumPy"),
    ],
)
@pytest.mark.parametrize("name", ["model.pth", "model.ckpt", "model.safetensors"])
def test_what_is_often_taken_for_weights_says_what_to_do(tmp_path, name, start, advice):
    (tmp_path / name).write_bytes(start)
    with pytest.raises(ValueError, match=rf"{name} cannot be read.*{advice}") as info:
        read_tensors(tmp_path / name)
    assert "\n" not in str(info.value)


def test_a_zip_of_other_things_and_a_folder_say_what_to_do(tmp_path):
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive:
        archive.writestr("model/weights.pth", b"")
    with pytest.raises(ValueError, match="Unpack it, and choose a file in it"):
        read_tensors(tmp_path / "model.zip")
    with pytest.raises(ValueError, match=r"got the folder .*Choose a file in it"):
        read_tensors(tmp_path)


@pytest.mark.parametrize(
    ("ending", "name"),
    [(".safetensors", "model"), (".bin", "pytorch_model"), (".pth", "model")],
)
def test_the_shards_of_an_index_are_read_as_one_file(tmp_path, ending, name):
    names, shards = list(WEIGHTS), {}
    for i, part in enumerate((names[:2], names[2:]), start=1):
        file = f"{name}-{i:05d}-of-00002{ending}"
        written = tmp_path / f"{i}{ending.replace('bin', 'pth')}"
        write_tensors(written, {x: WEIGHTS[x] for x in part})
        written.rename(tmp_path / file)
        shards |= dict.fromkeys(part, file)
    index = tmp_path / f"{name}{ending}.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": shards}))
    assert_same(read_tensors(index), WEIGHTS)
    with pytest.raises(ValueError, match=r"one of 2 files .* ends in .index.json"):
        read_tensors(tmp_path / f"{name}-00001-of-00002{ending}")
    with pytest.raises(ValueError, match=r"Choose its list of files, .*index.json"):
        read_tensors(tmp_path)
    (tmp_path / f"{name}-00002-of-00002{ending}").unlink()
    with pytest.raises(ValueError, match=r"needs .*-00002-of-00002.* beside it"):
        read_tensors(index)


@pytest.mark.parametrize("file", ["../model.npz", "/etc/passwd", "list.index.json"])
def test_an_index_names_only_its_neighbours(tmp_path, file):
    (tmp_path / "in").mkdir()
    np.savez(tmp_path / "model.npz", a=np.ones(2))
    index = tmp_path / "in" / "list.index.json"
    index.write_text(json.dumps({"weight_map": {"a": file}}))
    with pytest.raises(ValueError, match="beside it, got no such file"):
        read_tensors(index)


def test_tensors_that_were_pickled_without_torch_save_are_read(tmp_path):
    write_stream(tmp_path / "inner", Stored("FloatStorage", NUMBERS.tobytes(), 24))
    inner = (tmp_path / "inner").read_bytes()
    storage = Call("torch.storage", "_load_from_bytes", (inner,))
    write_archive(tmp_path / "outer", {"a": view(storage, (2, 3, 4), (12, 4, 1))})
    with zipfile.ZipFile(tmp_path / "outer") as archive:
        (tmp_path / "plain.pkl").write_bytes(archive.read("archive/data.pkl"))
    assert_same(read_tensors(tmp_path / "plain.pkl"), {"a": NUMBERS})


@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_torch_reads_the_same_numbers(tmp_path, is_zip, protocol):
    torch = pytest.importorskip("torch")
    big = torch.arange(60.0).reshape(3, 4, 5)
    state = collections.OrderedDict(
        turned=big.permute(2, 1, 0),
        strided=big[1:, ::2],
        scalar=torch.tensor(3.0),
        empty=torch.zeros(0, 4),
        half=torch.randn(3).half(),
        double=torch.randn(2).double(),
        brain=torch.randn(3, 3).bfloat16(),
        eight=torch.randn(5).to(torch.float8_e4m3fn),
        five=torch.randn(5).to(torch.float8_e5m2),
        sixteen=torch.arange(4).to(torch.uint16),
        repeated=torch.ones(1).expand(3, 4),
        parameter=torch.nn.Parameter(torch.ones(2)),
        marked=torch.ones(2),
    )
    state["marked"].origin = "somewhere"
    torch.save(
        {"model": state, "epoch": 3},
        tmp_path / "model.pth",
        _use_new_zipfile_serialization=is_zip,
        pickle_protocol=protocol,
    )
    found = read_tensors(tmp_path / "model.pth")
    assert found.keys() == state.keys()
    for name, value in state.items():
        expected = value.detach()
        if name in ("brain", "eight", "five"):
            expected = expected.float()
        np.testing.assert_array_equal(found[name], expected.numpy())
        assert found[name].dtype == expected.numpy().dtype


@pytest.mark.parametrize("mmap", [False, True])
def test_torch_reads_what_is_written_without_it(tmp_path, mmap):
    torch = pytest.importorskip("torch")
    write_tensors(tmp_path / "model.pth", WEIGHTS)
    found = torch.load(tmp_path / "model.pth", weights_only=True, mmap=mmap)
    assert_same({name: x.numpy() for name, x in found.items()}, WEIGHTS)


@FORMATS
def test_the_files_of_these_tests_are_genuine(tmp_path, write):
    torch = pytest.importorskip("torch")
    found = torch.load(write(tmp_path / "x.pth", WEIGHTS), weights_only=True)
    assert_same({name: x.numpy() for name, x in found.items()}, WEIGHTS)


def test_torch_agrees_on_what_cannot_be_used(tmp_path):
    torch = pytest.importorskip("torch")
    odd = {
        "sparse": torch.eye(2).to_sparse(),
        "meta": torch.empty(3, device="meta"),
        "complex": torch.zeros(2, dtype=torch.complex64),
    }
    torch.save(odd | {"a": torch.ones(2)}, tmp_path / "odd.pth")
    file = read_weight_file(tmp_path / "odd.pth")
    assert file.tensors.keys() == {"a"}
    assert file.unusable.keys() == odd.keys()
