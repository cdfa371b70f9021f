"""The runs that `rpn-jax compare` sets beside each other, and their common images."""

import pathlib
from typing import NamedTuple

import numpy as np

from ..data import GroundTruth, ImageSource
from ..data.image_source import all_truths
from ..train import ResolvedConfig, open_sources, read_config
from ..train.run_folder import RunFolder

# The settings that decide which images and objects a run is evaluated on.
_DATA = (
    *("data", "images", "split", "val_data", "val_images", "val_split", "seed"),
    *("train_categories", "test_categories", "other_categories"),
)


class Pair(NamedTuple):
    """The folders of two runs, one of either side."""

    a: pathlib.Path
    b: pathlib.Path

    def configs(self) -> tuple[ResolvedConfig, ResolvedConfig]:
        """The settings of both runs."""
        a, b = (read_config(ResolvedConfig, RunFolder(path).config) for path in self)
        return a, b


def pairs_of(a: str, b: str) -> list[Pair]:
    """The runs of two folders, in the order of their seeds.

    Args:
        a: folder of a run, or of runs with several seeds.
        b: the same for the other side.

    Raises:
        ValueError: a folder has no run, or the numbers of seeds differ.
    """
    of_a, of_b = _runs_in(a), _runs_in(b)
    if len(of_a) != len(of_b):
        raise ValueError(
            f"compare needs as many runs on both sides, got {len(of_a)} in {a} and "
            f"{len(of_b)} in {b}. Pass one run for each, or as many seeds."
        )
    return list(map(Pair, of_a, of_b))


def common_source(pair: Pair) -> ImageSource:
    """The images that both runs are evaluated on.

    Args:
        pair: the folders.

    Raises:
        ValueError: they are evaluated on different images or objects.
    """
    configs = pair.configs()
    of_a = open_sources(configs[0]).val
    first, second = ([getattr(x, name) for name in _DATA] for x in configs)
    if first != second and not _are_equal(of_a, open_sources(configs[1]).val):
        raise ValueError(
            "compare needs runs that are evaluated on the same images and objects, got "
            f"others in {pair.b} than in {pair.a}. Name the data with --data."
        )
    return of_a


def _runs_in(folder: str) -> list[pathlib.Path]:
    """The run in a folder, or the runs of its seeds."""
    path = pathlib.Path(folder)
    if RunFolder(path).config.exists():
        return [path]
    found = {
        int(number): x
        for x in path.glob("seed_*")
        if (number := x.name.removeprefix("seed_")).isdigit()
        and RunFolder(x).config.exists()
    }
    if not found:
        raise ValueError(
            f"compare needs the folder of a training run, or of --seeds, got {folder}, "
            "which has none. Pass the --out of `rpn-jax train`."
        )
    return [found[number] for number in sorted(found)]


def _are_equal(a: ImageSource, b: ImageSource) -> bool:
    """Whether two sources have the same images with the same boxes."""
    of_a, of_b = all_truths(a), all_truths(b)
    return len(of_a) == len(of_b) and all(map(_is_same, of_a, of_b))


def _is_same(a: GroundTruth, b: GroundTruth) -> bool:
    names = ("image_id", "size", "name")
    return all(getattr(a, name) == getattr(b, name) for name in names) and (
        np.array_equal(a.boxes, b.boxes) and np.array_equal(a.is_ignored, b.is_ignored)
    )
