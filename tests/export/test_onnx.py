"""Models for ONNX Runtime: what they compute, and files that are refused."""

import dataclasses
import sys

import jax
import numpy as np
import pytest
from support import export_cases as cases
from support import small_resnet

from rpn_jax import RPNOutput, export, propose

onnx = pytest.importorskip("onnx")
pytest.importorskip("jax2onnx")
runtime = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def path(program, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "core.onnx"
    export.write(program, path)
    return path


def holds_operator(path, name):
    """Whether the model of one image has an operator."""
    (scan,) = onnx.load(path).graph.node
    return name in [node.op_type for node in scan.attribute[0].g.node]


READER = """
import sys
sys.modules["rpn_jax"] = sys.modules["jax"] = None
import numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
names = [output.name for output in session.get_outputs()]
found = session.run(names, dict(numpy.load(sys.argv[2])))
numpy.savez(sys.argv[3], **dict(zip(names, found)))
print(session.get_modelmeta().custom_metadata_map["rpn_jax"][:20])
"""


def test_a_process_without_jax_gets_the_same_in_1000_cases(path, expected, tmp_path):
    actual, said = cases.read_elsewhere(READER, path, tmp_path)
    cases.check_same(actual, expected)
    assert said.startswith('{"content": "core"')
    assert holds_operator(path, "NonMaxSuppression")


def test_the_batch_is_open_and_the_shapes_are_checked(path, expected):
    loaded = export.load(path)
    given = cases.make_cases()
    few = loaded(*(x[6:11] for x in given))
    cases.check_same(few, jax.tree.map(lambda x: x[6:11], expected))
    with pytest.raises(ValueError, match=r"needs logits \[b 141\].*got \[2, 140\]"):
        loaded(given[0][:2, 1:], *given[1:])


@pytest.mark.parametrize("rules", [small_resnet.PLAIN, small_resnet.CASCADE])
def test_a_network_takes_bytes(rules, tmp_path):
    program = export.network_program(
        small_resnet.make_rpn(rules), (32, 40), config=rules
    )
    export.write(program, tmp_path / "network.onnx")
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 40, 3), np.uint8)
    sizes = np.array([[32, 40], [27, 40], [32, 31]], np.float32)
    expected = jax.jit(program.of_batch)(images, sizes)
    # Scores that differ by rounding alone may be in another order in ONNX Runtime.
    scores = [row[valid] for row, valid in zip(*expected[1:], strict=True)]
    assert min(-np.diff(x).max() for x in scores) > 1e-6
    actual = export.load(tmp_path / "network.onnx")(images, sizes)
    cases.check_same(actual, expected)


@pytest.mark.parametrize(
    ("rules", "has_operator"),
    [
        ({"pixel_offset": 1.0}, False),  # the operator has no such convention
        ({"soft_iou_threshold": 0.8, "vote_iou_threshold": 0.7}, True),
    ],
)
def test_other_rules_keep_the_same_boxes_too(rules, has_operator, tmp_path):
    config = dataclasses.replace(cases.RULES, **rules)
    program = export.core_program(
        cases.ANCHORS, cases.SHAPES, cases.IMAGE, config=config
    )
    given = cases.make_cases(12)
    expected = propose(RPNOutput(*given[:2]), cases.GRID, given[2], config=config)
    export.write(program, tmp_path / "core.onnx")
    assert holds_operator(tmp_path / "core.onnx", "NonMaxSuppression") == has_operator
    cases.check_same(export.load(tmp_path / "core.onnx")(*given), expected)


def test_a_model_of_another_program_is_one_line(path, tmp_path):
    model = onnx.load(path)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(ValueError, match="other.onnx, an ONNX model without a desc"):
        export.load(tmp_path / "other.onnx")
    (tmp_path / "half.onnx").write_bytes(path.read_bytes()[:9000])
    with pytest.raises(ValueError, match="half.onnx cannot be read by onnxruntime"):
        export.load(tmp_path / "half.onnx")


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("jax2onnx", r"pip install rpn-jax\[export\].* --no-deps jax2onnx"),
        ("onnxruntime", "pip install onnxruntime"),
    ],
)
def test_a_missing_package_is_named(name, advice, program, path, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ValueError, match=f"needs the package {name}.*{advice}"):
        export.load(path) if name == "onnxruntime" else export.write(program, path)


def test_an_operation_without_a_converter_is_one_line(program, tmp_path):
    def predict(logits, deltas, sizes):
        scaled = jax.lax.bitcast_convert_type(logits, np.int32)
        return RPNOutput(scaled.astype(np.float32), deltas)

    with pytest.raises(ValueError, match="jax2onnx cannot convert this network"):
        export.write(program._replace(predict=predict), tmp_path / "odd.onnx")
    assert not list(tmp_path.iterdir())
