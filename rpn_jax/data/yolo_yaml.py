"""Reads the `data.yaml` of a YOLO data set, in the form that Ultralytics defines.

Every scalar stays text, so a class may be named `no` or `1e3`, and the file cannot make
any object. Aliases of lists and mappings are refused, so it cannot grow in memory.
"""

import pathlib
import re
import reprlib
from typing import Any, NamedTuple

import yaml

from .lfs import is_lfs_pointer
from .problems import Problem, Problems

# The names of splits, in lists, folders and `data.yaml`.
SPLIT_NAMES = (
    *("train", "training", "trainval", "val", "valid", "validation", "minival"),
    "test",
)
_LARGEST_FILE = 2**20  # bytes; the names of 1,203 classes need 30 thousand
_NOTHING = ("", "~", "null", "none")  # in lower case
_NUMBER = re.compile(r"\d{1,9}")


class DataYaml(NamedTuple):
    """What a file says about a data set.

    Attributes:
        path: the folder that the other paths are relative to; it may be empty.
        splits: the folders and lists of images of each split, as they are written.
        names: the names of classes by their numbers.
        num_classes: number of classes; 0 if it is not known.
        keypoint_columns: number of columns that keypoints take behind a box.
    """

    path: str = ""
    splits: dict[str, tuple[str, ...]] = {}
    names: dict[int, str] = {}
    num_classes: int = 0
    keypoint_columns: int = 0


class _Loader(yaml.BaseLoader):
    """Makes text, lists and dictionaries alone."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Refuses an alias that stands for more than a text."""
        is_alias = self.check_event(yaml.AliasEvent)
        node = super().compose_node(parent, index)
        if is_alias and not isinstance(node, yaml.ScalarNode):
            raise yaml.YAMLError("an alias of a list or a mapping is not read")
        return node


def read_data_yaml(path: pathlib.Path, problems: Problems) -> DataYaml:
    """Reads a file.

    Args:
        path: the file.
        problems: counts what is ignored in the file.

    Raises:
        ValueError: the file is not YAML, or describes no data set.
    """
    content = _load(path)
    if not _describes(content):
        raise ValueError(
            "read_yolo needs a mapping with `train`, `val` or `names`, got "
            f"{reprlib.repr(content)} in {path}. Pass the `data.yaml` of a YOLO set."
        )
    problems.add(Problem.DOWNLOAD, path.name, int("download" in content))
    names, number = _names(content.get("names")), _whole(content.get("nc"))
    if number and names:
        problems.add(Problem.OTHER_COUNT, path.name, int(number != len(names)))
    base = content.get("path")
    return DataYaml(
        path=base.strip() if isinstance(base, str) and _is_text(base) else "",
        splits=_splits(content),
        names=names,
        num_classes=max([number, *(key + 1 for key in names)]),
        keypoint_columns=_keypoints(content.get("kpt_shape")),
    )


def describes_data_set(path: pathlib.Path) -> bool:
    """Whether a file is YAML that describes a data set.

    Args:
        path: the file; False if it cannot be read.
    """
    try:
        return _describes(_load(path))
    except ValueError:
        return False


def decoded(content: bytes) -> str:
    """The text of a file in UTF-8 or UTF-16, with or without a byte-order mark.

    Args:
        content: the file. Bytes that are not UTF-8 become characters of Latin-1.
    """
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", errors="replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _load(path: pathlib.Path) -> Any:
    """The content of a file, in which every scalar is text."""
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_FILE + 1)
        if len(content) > _LARGEST_FILE:
            raise ValueError("it is too large to describe a data set")
        if is_lfs_pointer(path):
            raise ValueError("it is a pointer of Git LFS; fetch it with `git lfs pull`")
        return yaml.load(decoded(content), _Loader)
    # A scanner of YAML may raise others than its own errors for damaged text.
    except (OSError, ValueError, IndexError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"read_yolo needs a file in YAML, got {path}: {reason}. Correct the file, "
            "or name the folder of the data set instead."
        ) from error


def _describes(content: Any) -> bool:
    if not isinstance(content, dict):
        return False
    return bool(_splits(content)) or bool(_names(content.get("names")))


def _splits(content: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    """The paths of every split that has any."""
    texts = {
        key: tuple(text.strip() for text in _as_list(value) if _is_text(text))
        for key, value in content.items()
        if key.lower() in SPLIT_NAMES
    }
    return {key: paths for key, paths in texts.items() if paths}


def _names(value: Any) -> dict[int, str]:
    """The names of classes: from a list, from numbers to names, or the other way."""
    if isinstance(value, dict):
        pairs = [(key, text) for key, text in value.items() if isinstance(text, str)]
        if not any(_NUMBER.fullmatch(key) for key, _ in pairs):
            pairs = [(text, key) for key, text in pairs]
        return {int(key): text for key, text in pairs if _NUMBER.fullmatch(key)}
    texts = enumerate(_as_list(value))
    return {key: text for key, text in texts if isinstance(text, str) and text}


def _keypoints(value: Any) -> int:
    """The product of the two numbers in `kpt_shape`; 0 without keypoints."""
    sides = [_whole(side) for side in _as_list(value)]
    return sides[0] * sides[1] if len(sides) == 2 else 0


def _whole(value: Any) -> int:
    is_number = isinstance(value, str) and _NUMBER.fullmatch(value.strip())
    return int(value) if is_number else 0


def _as_list(value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    return [value] if isinstance(value, str) else []


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value.strip().lower() not in _NOTHING
