"""Reads a file into a `Checkpoint`: which system it is of, and what it says itself."""

import pathlib
from collections import Counter

import numpy as np

from .file_facts import AnchorShapes, facts_of, system_with_facts
from .foreign_checkpoint import (
    ANCHOR_RATIOS,
    ANCHOR_SIZES,
    COUNTER,
    ORIGIN,
    Checkpoint,
    checked_system,
    translate,
)
from .published import published_system
from .system_guess import guess_system
from .systems import SYSTEMS
from .weight_files import Tensors, WeightFile, read_weight_file

_NUM_EXAMPLES = 3


def read_checkpoint(
    path: str | pathlib.Path, system: str | None = None, part: str | None = None
) -> Checkpoint:
    """Reads weights of any system.

    Args:
        path: a file as in `read_weight_file`.
        system: name in `SYSTEMS` of the system that the file comes from; None guesses
            it from the names of the tensors, and from what the file says beside them.
        part: part of the file to read, as in `read_weight_file`.

    Returns:
        The weights.

    Raises:
        ValueError: the file cannot be read, or comes from no known system, or has no
            such part.

    >>> import tempfile
    >>> import numpy as np
    >>> from rpn_jax.models.interop import write_tensors
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = f"{folder}/weights.npz"
    ...     write_tensors(path, {"rpn.head.cls_logits.bias": np.zeros(3)})
    ...     list(read_checkpoint(path, "torchvision").tensors)
    ['head.logits.bias']
    """
    file = read_weight_file(path, part)
    tensors = dict(file.tensors)
    origin, own_anchors = tensors.pop(ORIGIN, None), _own_anchors(tensors)
    try:
        name = system or published_system(path) or guess_system(tensors)
        facts = facts_of(tensors, file.config)
        if system is None and origin is None:
            name = system_with_facts(name, facts)
        checkpoint = translate(tensors, name)
        # Files of this library have its own names, so a tensor tells the original
        # system, which determines the preprocessing.
        if origin is not None and system is None:
            name = checked_system(bytes(origin).decode())
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    anchors = _unusual(own_anchors or facts.anchors, name)
    return checkpoint._replace(
        path=str(path),
        system=name,
        left_out=(*checkpoint.left_out, *file.unusable),
        anchors=anchors,
        notes=tuple(_notes(file, anchors)),
    )


def _own_anchors(tensors: Tensors) -> AnchorShapes | None:
    """The anchors that a file of this library states, which are taken out of it."""
    sizes, ratios = tensors.pop(ANCHOR_SIZES, None), tensors.pop(ANCHOR_RATIOS, None)
    if sizes is None or ratios is None:
        return None
    levels = np.atleast_2d(sizes).tolist()
    return AnchorShapes(tuple(map(tuple, levels)), tuple(np.ravel(ratios).tolist()))


def _unusual(anchors: AnchorShapes | None, system: str) -> AnchorShapes | None:
    """The anchors, unless they are those of the system's rules."""
    rules = SYSTEMS[system]
    makers = () if rules.preset is None else (rules.preset, *rules.variants)
    for make in makers:
        usual = make().anchors
        shapes = AnchorShapes(usual.level_sizes, usual.aspect_ratios)
        if anchors is not None and _are_close(anchors, shapes):
            return None
    return anchors if makers else None


def _are_close(a: AnchorShapes, b: AnchorShapes) -> bool:
    pairs = [(np.array(x), np.array(y)) for x, y in zip(a, b, strict=True)]
    return all(x.shape == y.shape and np.allclose(x, y, rtol=1e-3) for x, y in pairs)


def _notes(file: WeightFile, anchors: AnchorShapes | None) -> list[str]:
    """Sentences about what was chosen and what was left out."""
    notes = []
    if file.other_parts:
        others = " and ".join(file.other_parts)
        notes.append(
            f"The file has weights under {file.part or 'its top'} and under {others}; "
            f"{file.part or 'its top'} was taken. `rpn-jax convert --from-part "
            f"{file.other_parts[0]}` takes the other."
        )
    elif file.is_average:
        notes.append(
            f"The file has only the average of a model: {file.part} was taken."
        )
    for reason, number in Counter(file.unusable.values()).items():
        names = [name for name, why in file.unusable.items() if why == reason]
        examples = ", ".join(names[:_NUM_EXAMPLES])
        tensors = "1 tensor" if number == 1 else f"{number} tensors"
        notes.append(f"Left out {tensors} because {reason}: {examples}.")
    if counters := sum(name.endswith(COUNTER) for name in file.tensors):
        notes.append(f"Counters of batch norms, which nothing uses: {counters}.")
    if anchors is not None:
        notes.append(
            f"The file has anchors of its own: sizes {anchors.sizes} and aspect ratios "
            f"{anchors.ratios}."
        )
    return notes
