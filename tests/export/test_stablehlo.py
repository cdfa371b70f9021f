"""Artifacts of `jax.export`: what they compute, and files that are refused."""

import hashlib
import importlib.util
import json
import pathlib
import struct
import subprocess
import sys
from typing import Any

import jax
import numpy as np
import pytest
from support import export_cases as cases
from support import small_rpn

from rpn_jax import RPNOutput, export, make_anchors, propose
from rpn_jax.core.anchor_config import AnchorConfig
from rpn_jax.core.config import ProposalConfig

pytest.importorskip("flatbuffers")
FOLDER = pathlib.Path(__file__).parent


@pytest.fixture(scope="module")
def artifact(program, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "core.stablehlo"
    export.write(program, path)
    return path


def test_the_cases_cover_empty_suppressed_and_full_images(expected):
    number = expected.valid.sum(axis=1)
    assert set(number[4::6].tolist()) == {0}  # all NaN
    assert set(number[5::6].tolist()) == {2}  # one box, on both levels
    assert (number == cases.RULES.post_nms_top_k).any()


def test_an_artifact_proposes_what_the_library_proposes(artifact, expected):
    loaded = export.load(artifact)
    cases.check_same(loaded(*cases.make_cases()), expected)
    assert loaded.description.content == "core"


# What a reader without this library types.
READER = """
import sys
sys.modules["rpn_jax"] = None
import jax.export, numpy
exported = jax.export.deserialize(bytearray(open(sys.argv[1], "rb").read()))
arrays = numpy.load(sys.argv[2])
numpy.savez(sys.argv[3], **exported.call(*(arrays[name] for name in arrays)))
print(exported.platforms)
"""


def test_a_process_without_the_library_gets_the_same(artifact, expected, tmp_path):
    actual, said = cases.read_elsewhere(READER, artifact, tmp_path)
    cases.check_same(actual, expected)
    assert said.strip() == "('cpu', 'cuda', 'tpu')"


# Compiles for one chip of TPU v5e, which need not be there.
FOR_TPU = """
import os, sys
os.environ |= {"TPU_WORKER_HOSTNAMES": "localhost", "TPU_SKIP_MDS_QUERY": "1"}
os.environ |= {"ALLOW_MULTIPLE_LIBTPU_LOAD": "1", "JAX_PLATFORMS": "cpu"}
os.environ.pop("XLA_FLAGS", None)  # those of the tests are for CPUs
import jax, jax.export
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding
topology = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2")
sharding = SingleDeviceSharding(topology.devices[0])
exported = jax.export.deserialize(bytearray(open(sys.argv[1], "rb").read()))
inputs = [
    jax.ShapeDtypeStruct((4, *x.shape[1:]), x.dtype, sharding=sharding)
    for x in exported.in_avals
]
program = jax.jit(exported.call).lower(*inputs).compile().as_text()
print("tpu" in program.lower(), program.count(" while("))
"""


def test_an_artifact_compiles_for_a_tpu():
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("libtpu is not installed: pip install libtpu")
    command = [sys.executable, "-c", FOR_TPU, str(FOLDER / "core_1.stablehlo")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    is_tpu, loops = done.stdout.split()
    assert is_tpu == "True"
    assert int(loops) <= 1  # the masking form: one loop of a fixed length


def test_two_logits_and_legacy_anchors_are_exported(tmp_path):
    anchors = AnchorConfig(sizes=((16, 32),), strides=(16,), rounding="legacy")
    rules = ProposalConfig(
        pre_nms_top_k=20, post_nms_top_k=9, per_level=False, pixel_offset=1.0
    )
    program = export.core_program(
        anchors, [(3, 4)], (40, 56), num_logits=2, config=rules
    )
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 72, 2)).astype(np.float32)
    deltas = rng.normal(0, 0.3, (2, 72, 4)).astype(np.float32)
    sizes = np.array([[40, 56], [33, 50]])
    export.write(program, tmp_path / "legacy.stablehlo")
    actual = export.load(tmp_path / "legacy.stablehlo")(logits, deltas, sizes)
    grid = make_anchors(anchors, [(3, 4)])
    expected = propose(RPNOutput(logits, deltas), grid, sizes, config=rules)
    cases.check_same(actual, expected)


def test_a_network_takes_bytes_and_any_number_of_images(tmp_path):
    model, rules = small_rpn.make_rpn(), small_rpn.RULES
    program = export.network_program(model, (32, 40), config=rules, source="a test")
    export.write(program, tmp_path / "network.stablehlo")
    loaded = export.load(tmp_path / "network.stablehlo")
    batch = small_rpn.make_batch(3)
    sizes = batch.image_sizes - np.array([[0, 0], [5, 0], [0, 9]], np.float32)
    expected = jax.jit(program.of_batch)(batch.images, sizes)
    assert expected.valid.any()
    cases.check_same(loaded(batch.images, sizes), expected)
    one = loaded(batch.images[1:2], sizes[1:2])
    cases.check_same(one, jax.tree.map(lambda x: x[1:2], expected))
    said = loaded.description
    assert said.inputs[0].shape == ("b", 32, 40, 3)
    assert said.settings["preprocessing"]["order"] == "RGB"
    assert (said.source, said.content) == ("a test", "network")


def test_an_artifact_of_the_first_format_loads(expected):
    """The file in the repository must load in every later version."""
    loaded = export.load(FOLDER / "core_1.stablehlo")
    said = loaded.description
    anchors, rules = (
        kind(**{name: as_tuple(x) for name, x in said.settings[part].items()})
        for part, kind in (("anchors", AnchorConfig), ("proposals", ProposalConfig))
    )
    assert (said.format, anchors, rules) == (1, cases.ANCHORS, cases.RULES)
    cases.check_same(loaded(*cases.make_cases()), expected)


def as_tuple(value) -> Any:
    return tuple(map(as_tuple, value)) if isinstance(value, list) else value


def changed(path, tmp_path, **values):
    """A copy of an artifact whose description says something else."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[-24:-16])
    start = len(content) - 24 - 32 - length
    said = json.loads(content[start : start + length]) | values
    body = content[:start] + json.dumps(said).encode()
    size = struct.pack("<Q", len(body) - start)
    copy = tmp_path / "changed.stablehlo"
    copy.write_bytes(body + hashlib.sha256(body).digest() + size + content[-16:])
    return copy


def test_the_description_follows_the_artifact(artifact, tmp_path):
    copy = changed(artifact, tmp_path, source="elsewhere", unknown=1)
    assert export.load(copy).description.source == "elsewhere"


def test_a_file_of_a_later_format_asks_for_an_update(artifact, tmp_path):
    copy = changed(artifact, tmp_path, format=2, rpn_jax="9.0.0")
    with pytest.raises(ValueError, match="format 2 of rpn_jax 9.0.0.*Update") as error:
        export.load(copy)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("values", [{"format": None}, {"inputs": 3}])
def test_a_description_without_its_facts_is_damaged(values, artifact, tmp_path):
    with pytest.raises(ValueError, match="cannot be read.*damaged"):
        export.load(changed(artifact, tmp_path, **values))


@pytest.mark.parametrize("content", [b"", b"PK a zip", b"{}", b"\x80\x04"])
def test_a_file_of_another_kind_is_one_line(content, tmp_path):
    path = tmp_path / "other.stablehlo"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="whole file that `rpn-jax export`.*other"):
        export.load(path)


def test_damage_is_one_line(artifact, tmp_path):
    content, path = artifact.read_bytes(), tmp_path / "damaged.stablehlo"
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="something else, or a part of one"):
        export.load(path)
    flipped = content[:1000] + bytes([content[1000] ^ 1]) + content[1001:]
    for damaged in (flipped, content[-100:], content[-20:], content[-16:]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="is damaged: .* hash .*again"):
            export.load(path)


def test_an_artifact_that_jax_refuses_is_one_line(monkeypatch):
    def refuse(content):
        raise ValueError("unsupported calling convention 99\nmore lines")

    monkeypatch.setattr(jax.export, "deserialize", refuse)
    with pytest.raises(ValueError, match=r"JAX 0.10.2, .* 99\)") as error:
        export.load(FOLDER / "core_1.stablehlo")
    assert "\n" not in str(error.value)


def test_a_missing_package_is_named(artifact, monkeypatch):
    monkeypatch.setitem(sys.modules, "flatbuffers", None)
    with pytest.raises(ValueError, match=r"flatbuffers.*pip install rpn-jax\[export\]"):
        export.load(artifact)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(OSError, match=r"nothing.onnx"):
        export.load(tmp_path / "nothing.onnx")


def test_only_two_suffixes_are_formats(program, tmp_path):
    with pytest.raises(ValueError, match=r"ends in .stablehlo or .onnx, got .*\.pb"):
        export.write(program, tmp_path / "core.pb")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: (x[0][:, 1:], *x[1:]), r"needs logits \[b 141\].*got \[2, 140\]"),
        (lambda x: (x[0].astype(int), *x[1:]), "needs logits.*got .* of int64"),
        (lambda x: (x[0][0], *x[1:]), r"needs logits \[b 141\].*got \[141\]"),
        (lambda x: (x[0], x[1], x[2][:1]), "one number of images.* got 2, 2, 1"),
        (lambda x: tuple(y[:0] for y in x), "at least one, got 0, 0, 0"),
        (lambda x: x[:2], "needs 3 inputs: .*image_sizes.* It got 2"),
    ],
)
def test_arrays_that_do_not_fit_are_one_line(change, message, artifact):
    with pytest.raises(ValueError, match=message) as error:
        export.load(artifact)(*change(cases.make_cases(2)))
    assert "\n" not in str(error.value)
