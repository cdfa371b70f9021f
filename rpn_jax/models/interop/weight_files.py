"""Files of tensors, read without executing anything in them."""

import json
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from .file_contents import open_content
from .file_facts import config_text
from .model_part import Part, find_parts
from .stand_ins import LazyArray, NotNumbersError
from .unpickling import Unpickled

Tensors = dict[str, np.ndarray]
SUFFIXES = (".safetensors", ".npz", ".pth", ".pt", ".pkl")
# Suffixes of files that are read, but not written.
_READ_ONLY = (".ckpt", ".bin", ".pickle", ".tar", ".json", ".index")
# Tensors may share numbers, so they may be larger than their file, but not by more than
# a damaged header would make them.
_GROWTH, _ALWAYS_ADMITTED = 32, 64 * 2**20


class WeightFile(NamedTuple):
    """The tensors of a file.

    Attributes:
        tensors: arrays by name, without what wrappers put in front of names.
        unusable: why a tensor was left out, by its name.
        part: keys that lead to the tensors in the file, with dots between them.
        other_parts: other parts of the file that can be read instead.
        is_average: whether the tensors are the average of a model over its training.
        config: text of the configuration of a training with mmdetection.
    """

    tensors: Tensors
    unusable: dict[str, str]
    part: str
    other_parts: tuple[str, ...]
    is_average: bool = False
    config: str = ""


def read_tensors(path: str | pathlib.Path, part: str | None = None) -> Tensors:
    """Reads every tensor of a file. Nothing in it is executed.

    Args:
        path: a file as in `read_weight_file`.
        part: part of the file to read, as in `read_weight_file`.

    Returns:
        Arrays by name. If a checkpoint contains more than a model, only the model.

    Raises:
        ValueError: there is no such file, it is damaged, or its format is not known.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "weights.npz"
    ...     np.savez(path, bias=np.zeros(3))
    ...     list(read_tensors(path))
    ['bias']
    """
    return read_weight_file(path, part).tensors


def read_weight_file(path: str | pathlib.Path, part: str | None = None) -> WeightFile:
    """Reads every tensor of a file, and what else is known about them.

    Args:
        path: a file of safetensors, NumPy (`.npz`), PyTorch of any version, or a pickle
            of detectron2. Its content decides, not its name. A `.index.json` file
            stands for all files that it lists.
        part: keys that lead to the weights in a checkpoint that holds several, with
            dots between them, such as `"model_ema"`. None takes the model.

    Returns:
        The tensors. bfloat16 and the 8-bit types become float32.

    Raises:
        ValueError: there is no such file, it is damaged, its format is not known, or it
            has no such part.
    """
    path = _checked(path)
    try:
        if shards := _shards(path):
            return _joined([_read(shard, part) for shard in shards])
        return _read(path, part)
    except Exception as error:  # a damaged or hostile file can raise anything
        reason, *_ = (str(error).strip() or type(error).__name__).splitlines()
        raise ValueError(f"{path} cannot be read as weights: {reason}") from error


def _checked(path: str | pathlib.Path) -> pathlib.Path:
    if re.match(r"\w+://", str(path)):
        raise ValueError(_how_to_download(str(path)))
    path = pathlib.Path(path)
    if path.is_dir():
        lists = sorted(path.glob("*.index.json"))
        advice = f"its list of files, {lists[0]}" if lists else "a file in it"
        raise ValueError(
            f"Weights need a file, got the folder {path}. Choose {advice}."
        )
    if not path.is_file():
        if path.suffix not in SUFFIXES + _READ_ONLY:
            raise ValueError(f"Weights need a file {', '.join(SUFFIXES)}, got {path}.")
        raise ValueError(f"There is no file of weights {path}.")
    return path


def _how_to_download(name: str) -> str:
    repository, _, file = name.removeprefix("hf://").rpartition("/")
    how = (
        f"hf download {repository} {file} --local-dir ."
        if name.startswith("hf://")
        else f"curl -LO {name}"
    )
    return f"Weights need a file on this machine, got {name}. Download it: {how}"


def _read(path: pathlib.Path, wanted: str | None) -> WeightFile:
    """The tensors of one file."""
    with open_content(path) as unpickled:
        parts = find_parts(unpickled.content)
        if not parts:
            raise ValueError(_no_tensors(unpickled))
        part = _chosen(parts, wanted)
        _check_size(part, path.stat().st_size)
        tensors, unusable = {}, {}
        for name, array in part.arrays.items():
            try:
                tensors[name] = _known_to_numpy(array.read())
            except NotNumbersError as error:
                unusable[name] = str(error)
    if not tensors:
        name, reason = next(iter(unusable.items()))
        raise ValueError(f"none of its tensors can be used; {name}: {reason}.")
    return WeightFile(
        tensors,
        unusable,
        part.name,
        tuple(x.name for x in parts if x is not part and _is_model(x, part)),
        part.is_average,
        config_text(unpickled.content),
    )


def _chosen(parts: Sequence[Part], wanted: str | None) -> Part:
    if wanted is None:
        return parts[0]
    named = {part.name: part for part in parts}
    if wanted not in named:
        raise ValueError(
            f"it has no part {wanted!r}. Choose from {', '.join(map(repr, named))}."
        )
    return named[wanted]


def _is_model(part: Part, chosen: Part) -> bool:
    """Whether a part is about as large as the chosen one, and so may replace it."""
    return 2 * len(part.arrays) > len(chosen.arrays)


def _no_tensors(unpickled: Unpickled) -> str:
    if unpickled.asked:
        return (
            f"it holds more than tensors: it asks for {unpickled.asked[0]}, which is "
            "not executed, and it has no tensors by name. Where its code is installed, "
            "save the weights alone: torch.save(model.state_dict(), 'weights.pth')."
        )
    content = unpickled.content
    if isinstance(content, LazyArray):
        return "it holds one tensor without a name. Save a dict of tensors by name."
    if isinstance(content, Mapping):
        return "it holds no tensors."
    return f"it holds a {type(content).__name__}, not tensors by name."


def _check_size(part: Part, size: int) -> None:
    """Refuses tensors that are far larger than their file."""
    needed = sum(array.nbytes for array in part.arrays.values())
    if needed > _ALWAYS_ADMITTED + _GROWTH * size:
        raise ValueError(f"its tensors need {needed:,} bytes, and it has {size:,}.")


def _known_to_numpy(x: np.ndarray) -> np.ndarray:
    """The array; float32 if it is bfloat16 or an 8-bit float."""
    is_known = x.dtype.kind in "biu" or x.dtype in (np.float16, np.float32, np.float64)
    return x if is_known else x.astype(np.float32)


def _joined(files: Sequence[WeightFile]) -> WeightFile:
    """The tensors of all files of a list."""
    tensors, unusable = {}, {}
    for file in files:
        tensors |= file.tensors
        unusable |= file.unusable
    return files[0]._replace(tensors=tensors, unusable=unusable)


def _shards(path: pathlib.Path) -> list[pathlib.Path]:
    """The files that a list in JSON names; none if the file is no such list."""
    if path.suffix != ".json":
        # One of several files has only some of the tensors.
        found = re.search(r"-\d+-of-(\d+)\.\w+$", path.name)
        if found and int(found[1]) > 1:
            raise ValueError(
                f"it is one of {int(found[1])} files that belong together. Choose the "
                "list of them, whose name ends in .index.json."
            )
        return []
    content = json.loads(path.read_text(encoding="utf-8"))
    names = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(names, dict) or not names:
        raise ValueError(
            "it is JSON without a weight_map, which lists files of weights."
        )
    shards = [path.parent / str(name) for name in sorted(set(names.values()))]
    for shard in shards:
        # A list may only name its neighbours.
        is_neighbour = shard.parent == path.parent and shard.suffix != ".json"
        if not is_neighbour or not shard.is_file():
            raise ValueError(f"it needs {shard.name} beside it, got no such file.")
    return shards
