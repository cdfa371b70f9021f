"""Files of weights, damaged and hostile ones included."""

import collections
import hashlib
import json
import os
import pickle
import sys

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from rpn_jax.models.interop import SYSTEMS, published, read_tensors, write_tensors


def write(path, content, protocol=2):
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_of_arrays_is_read_as_pickle_itself_reads_it(tmp_path, protocol):
    arrays = {
        "a.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
        "b.weight": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "c.bias": np.array([1, -2], ">i4"),
        "d.bias": np.float32(3.5),
        "e.bias": np.zeros((0, 4), np.float16),
    }
    content = {"model": collections.OrderedDict(arrays), "__author__": "someone"}
    found = read_tensors(write(tmp_path / "model.pkl", content, protocol))
    assert found.keys() == arrays.keys()
    for name, value in arrays.items():
        np.testing.assert_array_equal(found[name], value)
        assert found[name].dtype == value.dtype


class Calls:
    """A pickle that calls a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class Sets:
    """A pickle that sets the state of an object."""

    def __init__(self, state):
        self.state = state

    def __reduce__(self):
        return np.dtype, ("f8", False, True), self.state


def test_a_pickle_that_runs_a_command_is_refused_and_not_run(tmp_path):
    ran = tmp_path / "ran"
    for i, evil in enumerate(
        (
            Calls(os.system, f"touch {ran}"),
            Calls(open, str(ran), "w"),
            Calls(eval, f"open({str(ran)!r}, 'w')"),
            Calls(np.load, str(ran)),
        )
    ):
        path = write(tmp_path / f"evil{i}.pkl", {"model": {"a.weight": evil}})
        with pytest.raises(ValueError, match=r"evil\d.pkl cannot be read.* asks for"):
            read_tensors(path)
        assert not ran.exists()


def test_arrays_of_objects_and_forged_dtypes_are_refused(tmp_path):
    objects = np.array([{}], dtype=object)
    with pytest.raises(ValueError, match="array of object has no numbers"):
        read_tensors(write(tmp_path / "a.pkl", {"model": {"a.weight": objects}}))
    forged = Sets((3, "<", None, None, None, -1, -1, 63))  # flags: holds references
    content = {"model": {"a.weight": np.ones(2)}, "dtype": forged}
    found = read_tensors(write(tmp_path / "b.pkl", content))
    np.testing.assert_array_equal(found["a.weight"], np.ones(2))
    assert np.dtype("f8").flags == 0


@pytest.mark.parametrize("length", [0, 1, 40, 400, 1500])
def test_a_truncated_pickle_gives_one_clear_line(tmp_path, length):
    path = write(tmp_path / "short.pkl", {"model": {"a.weight": np.ones((20, 20))}})
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match="short.pkl cannot be read as weights") as info:
        read_tensors(path)
    assert "\n" not in str(info.value)


ODD_ARRAYS = {
    "double": np.array([[1.5, -2.0]]),
    "half": np.arange(6, dtype=np.float16).reshape(2, 3),
    "transposed": np.arange(24, dtype=np.float32).reshape(4, 3, 2).T,
    "strided": np.arange(9, dtype=np.int64)[::2],
    "bytes": np.arange(3, dtype=np.uint8),
    "flags": np.array([True, False, True]),
    "empty": np.zeros((0, 4), np.float32),
    "scalar": np.array(7),
    "big-endian": np.arange(4, dtype=">i2"),
}


@pytest.mark.parametrize("ending", [".safetensors", ".npz", ".pkl"])
def test_arrays_of_any_kind_and_layout_are_read_as_they_were_written(tmp_path, ending):
    write_tensors(tmp_path / f"odd{ending}", ODD_ARRAYS)
    found = read_tensors(tmp_path / f"odd{ending}")
    assert found.keys() == ODD_ARRAYS.keys()
    for name, value in ODD_ARRAYS.items():
        np.testing.assert_array_equal(found[name], value)
        assert found[name].shape == value.shape
        # Only the order of bytes may be another one.
        assert found[name].dtype.name == value.dtype.name


@pytest.mark.parametrize("ending", [".safetensors", ".npz", ".pkl"])
def test_bfloat16_is_written_as_float32(tmp_path, ending):
    value = np.array([1.5, -2.0, 3e38]).astype(jnp.bfloat16)
    write_tensors(tmp_path / f"brain{ending}", {"a.weight": value})
    found = read_tensors(tmp_path / f"brain{ending}")["a.weight"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, value.astype(np.float32))


def test_bfloat16_is_read_as_float32(tmp_path):
    value = np.array([1.5, -2.0, 3e38]).astype(jnp.bfloat16)
    content = safetensors.numpy.save({"a.weight": value})
    (tmp_path / "brain.safetensors").write_bytes(content)
    found = read_tensors(tmp_path / "brain.safetensors")["a.weight"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, value.astype(np.float32))


def test_the_library_of_safetensors_reads_what_is_written(tmp_path):
    write_tensors(tmp_path / "odd.safetensors", ODD_ARRAYS)
    found = safetensors.numpy.load((tmp_path / "odd.safetensors").read_bytes())
    assert found.keys() == ODD_ARRAYS.keys()
    for name, value in ODD_ARRAYS.items():
        np.testing.assert_array_equal(found[name], value)
    content = (tmp_path / "odd.safetensors").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    for name, value in ODD_ARRAYS.items():  # for those who read without a copy
        assert header[name]["data_offsets"][0] % value.itemsize == 0
    with safetensors.safe_open(tmp_path / "odd.safetensors", "np") as file:
        assert file.metadata() == {"format": "pt"}  # which Hugging Face's readers need


@pytest.mark.parametrize("length", [0, 5, 100, 2000])
def test_a_truncated_safetensors_file_gives_one_clear_line(tmp_path, length):
    path = tmp_path / "short.safetensors"
    write_tensors(path, {"a.weight": np.ones((30, 30), np.float32)})
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match="short.safetensors cannot be read") as info:
        read_tensors(path)
    assert "\n" not in str(info.value)


@pytest.mark.parametrize("ending", [".safetensors", ".npz", ".pkl", ".pth"])
def test_damage_anywhere_in_a_file_gives_at_most_one_clear_line(tmp_path, ending):
    path, rng = tmp_path / f"damaged{ending}", np.random.default_rng(0)
    write_tensors(path, {"a.weight": np.ones((3, 3)), "b.bias": np.ones(5, np.float32)})
    whole, messages = path.read_bytes(), []
    for _ in range(150):
        content = bytearray(whole)
        for place in rng.integers(0, len(content), 6):
            content[place] = rng.integers(256)
        path.write_bytes(content)
        try:
            read_tensors(path)
        except ValueError as error:
            messages.append(str(error))
    assert len(messages) > 50
    for message in messages:
        assert message.startswith(f"{path} cannot be read as weights: ")
        assert "\n" not in message


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("hf://facebook/detr/model.safetensors", "hf download facebook/detr model"),
        ("https://example.org/model.pth", "curl -LO https://example.org/model.pth"),
    ],
)
def test_a_name_on_the_network_says_how_to_download_it(name, advice):
    with pytest.raises(ValueError, match=f"Download it: {advice}"):
        read_tensors(name)


@pytest.mark.parametrize("ending", [".pth", ".pt"])
def test_without_torch_a_pth_is_written_and_read(tmp_path, monkeypatch, ending):
    monkeypatch.setitem(sys.modules, "torch", None)
    write_tensors(tmp_path / f"odd{ending}", ODD_ARRAYS)
    found = read_tensors(tmp_path / f"odd{ending}")
    assert found.keys() == ODD_ARRAYS.keys()
    for name, value in ODD_ARRAYS.items():
        np.testing.assert_array_equal(found[name], value)
        assert found[name].shape == value.shape


def test_a_published_file_is_known_by_its_hash(tmp_path, monkeypatch):
    path = tmp_path / "renamed.pth"
    path.write_bytes(b"as published")
    digest = hashlib.sha256(b"as published").hexdigest()
    monkeypatch.setattr(published, "PUBLISHED", {digest[:8]: "torchvision_coco_v1"})
    assert published.published_system(path) == "torchvision_coco_v1"
    assert SYSTEMS["torchvision_coco_v1"].epsilon == 0.0
