"""The model of one image: two converted parts, and suppression between them.

The operator `NonMaxSuppression` of ONNX Runtime has one kernel for all of it. General
operators need a loop that starts thousands of small kernels: with them, suppression
took 84 % of the time of a small network with five levels. The converter does not know
the operator, so the program is converted in two parts: the way to the candidates, and
the choice among what is kept.

The operator keeps the same boxes as `rpn_jax.nms`:

* it compares the IoU in float32, computed in the same order of operations, with the
  same largest tolerated IoU;
* it visits higher scores first. The candidates are sorted, so their scores here are
  descending whole numbers, which never tie;
* it drops scores of 0, which rows get that must not be proposed.

It has no `pixel_offset`. Rules with one are converted as a whole, with the loop.
"""

import functools
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxpr_as_fun

from ..core._typing import Array, Bool, Float
from ..core.config import ProposalConfig
from ..core.nms import TINY, NMSResult, largest_tolerated
from ..core.platforms import portable_forms
from ..core.proposals import Proposals, best_of_all_levels
from ..core.suppression import Candidates, combine, thresholds
from .program import Program

# What the first part gives. No name is that of an input or an output of the file.
_CANDIDATES = (
    *("candidate_boxes", "candidate_logits", "candidate_valid"),
    *("ranked_boxes", "ranks"),
)
_Shapes = Sequence[jax.ShapeDtypeStruct]


def model_of_image(
    program: Program,
    shapes: _Shapes,
    names: tuple[Sequence[str], Sequence[str]],
    onnx: ModuleType,
    converter: ModuleType,
) -> Any:
    """The ONNX model of a program for one image.

    Args:
        program: the program.
        shapes: its inputs for one image.
        names: the names of the inputs and of the outputs.
        onnx: the package.
        converter: the package jax2onnx.
    """
    inputs, outputs = names
    if program.config.pixel_offset:
        return _convert(program.of_image, shapes, inputs, outputs, converter)

    first = functools.partial(_to_candidates, program)
    found = jax.eval_shape(first, *shapes)
    levels, width = found[1].shape
    kept = [f"kept_{i}" for i in range(len(thresholds(program.config)))]
    masks = [jax.ShapeDtypeStruct((levels, width), np.bool_)] * len(kept)
    second = functools.partial(_from_kept, program.config)
    before = [*_CANDIDATES[:3], *kept]
    return _join(
        _convert(first, shapes, inputs, _CANDIDATES, converter),
        _suppression((levels, width), kept, program.config, onnx),
        _convert(second, [*found[:3], *masks], before, outputs, converter),
        onnx,
    )


def _to_candidates(program: Program, *arrays: jax.Array) -> tuple[Array, ...]:
    """The candidates of an image, and what the operator suppresses.

    Returns:
        The `Candidates`. Boxes `[l k 4]` for the operator, and scores `[l 1 k]`: whole
        numbers from `k` down, and 0 for rows that must not be kept.
    """
    boxes, logits, valid = program.candidates_of_image(*arrays)
    ranks = jnp.arange(logits.shape[1], 0, -1, dtype=jnp.float32)
    exists = valid & jnp.isfinite(boxes).all(axis=-1)
    # Boxes without area overlap nothing. The operator decides so for areas of 0.
    sides = boxes[..., 2:] - boxes[..., :2]
    has_area = sides[..., :1] * sides[..., 1:] >= TINY
    ranked = jnp.where(has_area & exists[..., None], boxes, 0.0)
    return boxes, logits, valid, ranked, jnp.where(exists, ranks, 0.0)[:, None]


def _from_kept(
    config: ProposalConfig,
    boxes: Float[jax.Array, "l k 4"],
    logits: Float[jax.Array, "l k"],
    valid: Bool[jax.Array, "l k"],
    *masks: Bool[jax.Array, "l k"],
) -> Proposals:
    rows = jnp.broadcast_to(jnp.arange(logits.shape[1], dtype=jnp.int32), logits.shape)
    kept = [NMSResult(rows, mask) for mask in masks]
    candidates = Candidates(boxes, logits, valid)
    survivors = combine(candidates, kept, config)
    return best_of_all_levels(candidates, survivors, config)


def _convert(
    function: Callable[..., tuple],
    shapes: _Shapes,
    inputs: Sequence[str],
    outputs: Sequence[str],
    converter: ModuleType,
) -> Any:
    with portable_forms(True):
        traced = jax.make_jaxpr(lambda *x: tuple(function(*x)))(*shapes)
    # A jaxpr has operations of `lax` alone, which all have a converter. The converter
    # would replace functions of `jax.numpy` while it traces.
    model = converter.to_onnx(
        jaxpr_as_fun(traced),
        list(shapes),
        input_names=list(inputs),
        output_names=list(outputs),
    )
    _drop_unused(model.graph)
    return model


def _drop_unused(graph: Any) -> set[str]:
    """Drops the constants that nothing reads, of which the converter leaves many.

    Returns:
        The names that the graph and the graphs inside of it read.
    """
    read = {value.name for value in graph.output}
    for node in graph.node:
        read.update(node.input)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                read |= _drop_unused(attribute.g)
    kept = [constant for constant in graph.initializer if constant.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return read


def _suppression(
    shape: tuple[int, int],
    kept: Sequence[str],
    config: ProposalConfig,
    onnx: ModuleType,
) -> Any:
    """The graph from ranked boxes to the rows that each threshold keeps.

    Args:
        shape: number of levels, and of boxes in each.
        kept: names of the results, `[l k]` booleans, one for each threshold.
        config: the thresholds.
        onnx: the package.
    """
    constants = {
        "number": np.array([config.post_nms_top_k], np.int64),
        "zero": np.zeros(1, np.float32),
        "level_and_row": np.array([0, 2], np.int64),
        "none": np.zeros(shape, bool),
        "true": np.ones(1, bool),
    }
    for name, threshold in zip(kept, thresholds(config), strict=True):
        limit = largest_tolerated(threshold, config.inclusive_threshold)
        constants[f"{name}_limit"] = np.array([limit], np.float32)
    values = onnx.helper.make_tensor_value_info
    levels, width = shape
    return onnx.helper.make_graph(
        [node for name in kept for node in _kept_at(name, onnx.helper.make_node)],
        "suppression",
        [
            values(_CANDIDATES[3], onnx.TensorProto.FLOAT, (levels, width, 4)),
            values(_CANDIDATES[4], onnx.TensorProto.FLOAT, (levels, 1, width)),
        ],
        [values(name, onnx.TensorProto.BOOL, shape) for name in kept],
        [onnx.numpy_helper.from_array(x, name) for name, x in constants.items()],
    )


def _kept_at(name: str, node: Callable[..., Any]) -> list[Any]:
    """The operators from ranked boxes to the rows that are kept at one threshold."""
    selected, places, count, ones = (f"{name}_{i}" for i in range(4))
    suppressed = [*_CANDIDATES[3:], "number", f"{name}_limit", "zero"]
    return [
        node("NonMaxSuppression", suppressed, [selected]),  # level, class, row
        node("Gather", [selected, "level_and_row"], [places], axis=1),
        node("Shape", [places], [count], start=0, end=1),
        node("Expand", ["true", count], [ones]),
        node("ScatterND", ["none", places, ones], [name]),
    ]


def _join(first: Any, between: Any, second: Any, onnx: ModuleType) -> Any:
    """The first model with the graph and the second model behind it."""
    # The converter gives the same names to the values of both models.
    options = {"rename_inputs": False, "rename_outputs": False}
    first = onnx.compose.add_prefix(first, "first_", **options)
    second = onnx.compose.add_prefix(second, "second_", **options)
    nodes, constants = [], []
    for graph in (first.graph, between, second.graph):
        nodes += graph.node
        constants += graph.initializer
    graph = onnx.helper.make_graph(
        nodes, "image", first.graph.input, second.graph.output, constants
    )
    first.graph.CopyFrom(graph)
    return first
