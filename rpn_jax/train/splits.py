"""Opens the images that a run trains on and those that it is evaluated on."""

import logging
from typing import NamedTuple

from ..data import (
    FileSource,
    ImageSource,
    check_categories,
    data_splits,
    is_endless,
    only_evaluated,
    only_seen,
    open_source,
    split_categories,
    split_source,
)
from .train_config import TrainConfig

_logger = logging.getLogger(__name__)

# Share of a data set without a validation split that is set aside. A larger share makes
# the recall more precise, and leaves less to train on.
_VAL_SHARE = 0.1

# The names that data sets give to their splits, in the order of preference.
_TRAIN = ("train", "training")
_VAL = ("val", "valid", "validation")
_VAL_OR_TEST = (*_VAL, "test")  # of data that is only named for validation
_BOTH = "trainval"  # the union of both, so no other split may be evaluated on


class Sources(NamedTuple):
    """The data of a run.

    Attributes:
        train: the images to train on.
        val: the images to evaluate on.
    """

    train: ImageSource
    val: ImageSource


def open_sources(config: TrainConfig) -> Sources:
    """Opens the data that a configuration names, and logs which parts are used.

    Args:
        config: the settings; `TrainConfig.val_data` explains the validation images.

    Returns:
        Both sets, with objects of the categories that `config` names. They share no
        image unless the configuration names a set twice.

    Raises:
        ValueError: the data cannot be read, or it is not clear which part to train on;
            the message says where.

    >>> from rpn_jax.train import TrainConfig, resolve
    >>> open_sources(resolve(TrainConfig(data="scenes"))).train.pixels(0).shape
    (240, 320, 3)
    """
    sources = _open_all(config)
    train, test = config.train_categories, config.test_categories
    for wanted in (train, test):
        check_categories(wanted, sources)
    of_train, of_val = (split_categories(s.categories, train, test) for s in sources)
    if of_train is None or of_val is None:
        return sources
    return Sources(
        only_seen(sources.train, of_train, config.other_categories),
        only_evaluated(sources.val, of_val),
    )


def _open_all(config: TrainConfig) -> Sources:
    """Opens the images with the objects of all categories."""
    split = config.split or _train_split(config.data)
    train = open_source(
        config.data, images=config.images, split=split, seed=config.seed
    )
    if config.val_data is not None:
        val_split = config.val_split or _usual_split(config.val_data, _VAL_OR_TEST)
        val = _open_val(config, config.val_data, val_split)
        _log_parts(config, Sources(train, val), split, val_split)
        return Sources(train, val)
    val_split = config.val_split or _val_split(config.data, split)
    is_named = config.val_split is not None or config.data == "scenes"
    if is_named or val_split not in (None, split):
        val = _open_val(config, config.data, val_split)
        _log_parts(config, Sources(train, val), split, val_split)
        return Sources(train, val)
    return _set_aside(config, train, split)


def _open_val(config: TrainConfig, data: str, split: str | None) -> ImageSource:
    images = config.val_images or config.images
    return open_source(data, images=images, split=split)


def _set_aside(config: TrainConfig, train: ImageSource, split: str | None) -> Sources:
    """Divides the images to train on, because no others are there to evaluate on."""
    if len(train) < 2:
        raise ValueError(
            "Training needs two images, one of them for validation, got "
            f"{len(train)} in {config.data}. Name validation data with --val-data, "
            "which may be the same."
        )
    sources = Sources(*split_source(train, _VAL_SHARE, seed=config.seed))
    _logger.info(
        "No validation data is named: %d of the %d images of %s, a tenth, are set "
        "aside for validation.%s",
        len(sources.val),
        len(train),
        _described(config.data, split),
        _unused(config.data, split),
    )
    return sources


def _log_parts(
    config: TrainConfig, sources: Sources, split: str | None, val_split: str | None
) -> None:
    """Logs what is trained on and what is evaluated on."""
    if is_endless(sources.train):
        return
    data = config.val_data or config.data
    _logger.info(
        "Training uses %d images of %s, validation %d images of %s.%s%s",
        len(sources.train),
        _described(config.data, split),
        len(sources.val),
        _described(data, val_split),
        _unused(config.data, split, val_split if data == config.data else None),
        _shared(sources),
    )


def _shared(sources: Sources) -> str:
    """A sentence about files that are in both parts, if there are any."""
    files = [
        {source.path(row).absolute() for row in range(len(source))}
        for source in sources
        if isinstance(source, FileSource)
    ]
    shared = len(files[0] & files[1]) if len(files) == 2 else 0
    return f" Images in both: {shared}, so recall is too high." if shared else ""


def _described(data: str, split: str | None) -> str:
    return data if split is None else f"the split {split} of {data}"


def _unused(data: str, *used: str | None) -> str:
    """A sentence that lists the splits of a data set that are not used, if any."""
    unused = [split for split in data_splits(data) if split not in used]
    return f" Not used: {', '.join(unused)}." if any(used) and unused else ""


def _train_split(data: str) -> str | None:
    """The split to train on, or None if the data has no splits.

    Raises:
        ValueError: none of the splits is one to train on.
    """
    usual = _usual_split(data, (*_TRAIN, _BOTH))
    splits = data_splits(data)
    if usual is not None or not splits:
        return usual
    # A tool that writes a single list, such as `default`, lists all images in it.
    others = [split for split in splits if split.lower() not in _VAL_OR_TEST]
    if len(splits) == len(others) == 1:
        return splits[0]
    raise ValueError(
        f"Training needs one of the splits of {data}, got none that is named train or "
        f"trainval. Choose it with --split: {', '.join(splits)}."
    )


def _val_split(data: str, split: str | None) -> str | None:
    """The split to evaluate on, or None if it would hold images to train on."""
    return None if split == _BOTH else _usual_split(data, _VAL)


def _usual_split(data: str, names: tuple[str, ...]) -> str | None:
    """The first of the names that is a split of the data, in any case, or None."""
    by_name = {split.lower(): split for split in reversed(data_splits(data))}
    return next((by_name[name] for name in names if name in by_name), None)
