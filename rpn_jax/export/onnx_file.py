"""Models for ONNX Runtime, with a description in their metadata."""

import pathlib
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import jax
import numpy as np

from ..atomic_file import replace_file
from .description import Array, Description, from_json
from .loaded import Loaded
from .onnx_suppression import model_of_image
from .packages import first_line, require_package
from .program import Program

_KEY = "rpn_jax"  # of the description, among the model's metadata
_ONE = "one_"  # before the names of inputs and outputs of the loop's body
_PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")


def write(program: Program, path: pathlib.Path) -> None:
    """Writes a program as a model for ONNX Runtime; see `files.write`.

    Images are handled one after the other, in a loop of the model. So their number is
    open, and no loop of suppression runs until the last image is done.
    """
    onnx, converter = require_package("onnx", path), require_package("jax2onnx", path)
    described = program.description
    names = (_names_of_one(described.inputs), _names_of_one(described.outputs))
    refusals = (NotImplementedError, TypeError, ValueError)
    try:
        model = model_of_image(program, _shapes_of_one(program), names, onnx, converter)
        _loop_over_images(model, described, onnx)
        onnx.checker.check_model(model)
    except (*refusals, onnx.checker.ValidationError) as error:
        raise ValueError(
            f"{path} cannot be written: jax2onnx cannot convert this network "
            f"({first_line(error)}). Write a .stablehlo file, or "
            "export only what follows the network with --core."
        ) from error
    with replace_file(path) as draft:
        draft.write_bytes(model.SerializeToString())


def _shapes_of_one(program: Program) -> list[jax.ShapeDtypeStruct]:
    """The inputs for one image."""
    return [
        jax.ShapeDtypeStruct(array.shape[1:], np.dtype(array.dtype))
        for array in program.description.inputs
    ]


def _names_of_one(arrays: Sequence[Array]) -> list[str]:
    return [_ONE + array.name for array in arrays]


def _loop_over_images(model: Any, described: Description, onnx: ModuleType) -> None:
    """Turns the model of one image into one of a batch, with its description."""
    inputs = [array.name for array in described.inputs]
    loop = onnx.helper.make_node(
        "Scan",
        inputs,
        [array.name for array in described.outputs],
        num_scan_inputs=len(inputs),
        body=model.graph,
    )
    graph = onnx.helper.make_graph(
        [loop],
        "rpn_jax",
        _values(onnx, described.inputs),
        _values(onnx, described.outputs),
    )
    model.ClearField("graph")
    model.graph.CopyFrom(graph)
    onnx.helper.set_model_props(model, {_KEY: described.to_json()})
    model.producer_name, model.producer_version = "rpn_jax", described.rpn_jax


def _values(onnx: ModuleType, arrays: Sequence[Array]) -> list[Any]:
    """The inputs or outputs of a model."""
    return [
        onnx.helper.make_tensor_value_info(
            array.name,
            onnx.helper.np_dtype_to_tensor_dtype(np.dtype(array.dtype)),
            array.shape,
        )
        for array in arrays
    ]


def is_onnx(path: pathlib.Path) -> bool:
    """Whether a file begins as ONNX models do: with the version of their format."""
    with path.open("rb") as file:
        return file.read(1) == b"\x08"


def read(path: pathlib.Path) -> Loaded:
    """Reads what `write` has written; see `files.load`."""
    runtime = require_package("onnxruntime", path)
    available = runtime.get_available_providers()
    providers = [name for name in _PROVIDERS if name in available]
    try:
        session = runtime.InferenceSession(str(path), providers=providers)
    except Exception as error:  # its errors have no base class of their own
        raise ValueError(
            f"{path} cannot be read by onnxruntime {runtime.__version__} "
            f"({first_line(error)}). Copy or export it again."
        ) from error
    found = session.get_modelmeta().custom_metadata_map
    if _KEY not in found:
        raise ValueError(
            f"load needs a file that `rpn-jax export` has written, got {path}, an ONNX "
            "model without a description of rpn_jax. Use onnxruntime itself for it."
        )
    description = from_json(found[_KEY], str(path))
    inputs = [array.name for array in description.inputs]
    outputs = [array.name for array in description.outputs]

    def run(*arrays: Any) -> dict[str, Any]:
        feed = dict(zip(inputs, map(np.asarray, arrays), strict=True))
        return dict(zip(outputs, session.run(outputs, feed), strict=True))

    return Loaded(description, run, str(path))
