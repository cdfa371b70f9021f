"""What a file says about its network beside the weights, and which system that means.

detectron2 stored the mean of its pixels and the anchors of a cell among the weights.
mmdetection stores the whole configuration of the training as text. Such facts decide,
because names of tensors cannot tell them.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .systems import SYSTEMS

# What is left of the prefixes that detectron2 gives to its facts.
_CELL_ANCHORS = re.compile(r"(?:.*\.)?cell_anchors\.(\d+)")
_NUMBERS = r"\s*=\s*[\[(]([-\d.,\s]+)[\])]"


class AnchorShapes(NamedTuple):
    """The shapes of the anchors of a cell.

    Attributes:
        sizes: sides of the square anchors on every level.
        ratios: heights over widths.
    """

    sizes: tuple[tuple[float, ...], ...]
    ratios: tuple[float, ...]


class Facts(NamedTuple):
    """What a file says beside its weights; None where it says nothing.

    Attributes:
        mean: mean of the pixels, in the order of the channels.
        std: their standard deviation.
        is_caffe: whether bottlenecks stride in their first 1x1 convolution.
        anchors: shapes of the anchors.
    """

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    is_caffe: bool | None = None
    anchors: AnchorShapes | None = None


def facts_of(tensors: Mapping[str, np.ndarray], config: str) -> Facts:
    """What a file says beside its weights.

    Args:
        tensors: all tensors of the file.
        config: text of the configuration of mmdetection; may be empty.

    Raises:
        ValueError: the anchors of its cells are no sizes times aspect ratios.
    """
    if config:
        return _facts_of_config(config)
    cells = {
        int(found[1]): np.asarray(x, np.float64)
        for name, x in tensors.items()
        if (found := _CELL_ANCHORS.fullmatch(name)) and _are_boxes(x)
    }
    return Facts(
        mean=_numbers(tensors.get("pixel_mean")),
        std=_numbers(tensors.get("pixel_std")),
        anchors=_shapes_of_cells([cells[i] for i in sorted(cells)]) if cells else None,
    )


def system_with_facts(system: str, facts: Facts) -> str:
    """The system with the names of another one whose settings are those of a file.

    Args:
        system: name in `SYSTEMS` of the system that was guessed from names.
        facts: what the file says.

    Returns:
        The system itself if nothing contradicts it, or one with the same names.

    Raises:
        ValueError: no system with these names has such settings.
    """
    same_names = [x for x in SYSTEMS if SYSTEMS[x].rules == SYSTEMS[system].rules]
    for name in sorted(same_names, key=lambda x: x != system):
        if not _contradictions(name, facts):
            return name
    raise ValueError(
        f"it says {', '.join(_contradictions(system, facts))} than {system} has, and "
        "no known system has these names and settings. Name the system with the "
        "nearest settings to read it nevertheless."
    )


def _contradictions(system: str, facts: Facts) -> list[str]:
    """The facts of a file that a system contradicts, in words."""
    rules = SYSTEMS[system]
    scale = rules.preprocessing.scale
    found = []
    for what, said, ours in (
        ("pixel mean", facts.mean, rules.preprocessing.mean),
        ("standard deviation of pixels", facts.std, rules.preprocessing.std),
    ):
        if said and not np.allclose(said, np.multiply(scale, ours), atol=0.01):
            found.append(f"another {what} {said}")
    if facts.is_caffe is not None and facts.is_caffe != rules.stride_in_1x1:
        found.append("another stride of the 1x1 convolutions")
    return found


def _numbers(value: np.ndarray | None) -> tuple[float, ...] | None:
    """Three numbers, rounded so that they read well."""
    if value is None or value.size != 3:
        return None
    return tuple(round(float(x), 4) for x in value.reshape(-1))


def _shapes_of_cells(cells: Sequence[np.ndarray]) -> AnchorShapes:
    """The sizes and ratios of detectron2's cells, which list size by size."""
    sides = [np.stack([x[:, 2] - x[:, 0], x[:, 3] - x[:, 1]], axis=1) for x in cells]
    sizes, ratios = np.sqrt([x.prod(axis=1) for x in sides]), _ratios(sides[0])
    number = next(
        (i for i in range(1, len(ratios)) if np.isclose(ratios[i], ratios[0])),
        len(ratios),
    )
    shapes = AnchorShapes(
        tuple(tuple(round(float(x), 3) for x in row[::number]) for row in sizes),
        tuple(round(float(x), 4) for x in ratios[:number]),
    )
    # The cells are made again from what was found, which shows whether it is all.
    for cell, row in zip(cells, shapes.sizes, strict=True):
        made = [(s / r**0.5, s * r**0.5) for s in row for r in shapes.ratios]
        halves = np.array(made) / 2
        if not np.allclose(cell, np.concatenate([-halves, halves], 1), atol=0.05):
            raise ValueError(
                f"its cell_anchors {cell.round(1).tolist()} are no sizes times aspect "
                "ratios around the corner of a cell, so no AnchorConfig has them."
            )
    return shapes


def _are_boxes(value: np.ndarray) -> bool:
    return len(value.shape) == 2 and value.shape[1] == 4 and len(value) > 0


def _ratios(sides: np.ndarray) -> np.ndarray:
    return sides[:, 1] / sides[:, 0]


def config_text(content: Any) -> str:
    """The configuration of mmdetection in a checkpoint; empty if there is none."""
    meta = content.get("meta") if isinstance(content, Mapping) else None
    if not isinstance(meta, Mapping):
        return ""
    texts = (meta.get(key) for key in ("cfg", "config"))
    return next((text for text in texts if isinstance(text, str)), "")


def _facts_of_config(text: str) -> Facts:
    style = re.search(r"\bstyle\s*=\s*['\"](caffe|pytorch)['\"]", text)
    head = text[text.find("rpn_head") :]
    generator = head[head.find("anchor_generator") :] if "rpn_head" in text else ""
    return Facts(
        mean=_listed(text, "mean"),
        std=_listed(text, "std"),
        is_caffe=style[1] == "caffe" if style else None,
        anchors=_shapes_of_config(generator),
    )


def _listed(text: str, name: str) -> tuple[float, ...] | None:
    """The numbers of the first list that a configuration gives a name to."""
    found = re.search(rf"\b{name}{_NUMBERS}", text)
    try:
        numbers = [float(x) for x in found[1].split(",") if x.strip()] if found else []
    except ValueError:  # no list of numbers
        return None
    return tuple(numbers) or None


def _shapes_of_config(generator: str) -> AnchorShapes | None:
    """The anchors of mmdetection: scales times strides."""
    scales, ratios = _listed(generator, "scales"), _listed(generator, "ratios")
    strides = _listed(generator, "strides")
    if not (scales and ratios and strides):
        return None
    sizes = tuple(tuple(scale * stride for scale in scales) for stride in strides)
    return AnchorShapes(sizes, ratios)
