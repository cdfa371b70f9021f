"""Opens the images that a run trains on and those that it is evaluated on."""

from typing import NamedTuple

from ..data import ImageSource, open_source, split_source, voc_splits
from .train_config import TrainConfig

# Share of a data set without a validation split that is set aside. A larger share makes
# the recall more precise, and leaves less to train on.
_VAL_SHARE = 0.1


class Sources(NamedTuple):
    """The data of a run.

    Attributes:
        train: the images to train on.
        val: the images to evaluate on.
    """

    train: ImageSource
    val: ImageSource


def open_sources(config: TrainConfig) -> Sources:
    """Opens the data that a configuration names.

    Args:
        config: the settings; `TrainConfig.val_data` explains the validation images.

    Returns:
        Both sets. They share no image unless the configuration names a set twice.

    Raises:
        ValueError: the data cannot be read; the message says where.
    """
    split = config.split or _usual_split(config.data, "train")
    train = open_source(
        config.data, images=config.images, split=split, seed=config.seed
    )
    if config.val_data is not None:
        return Sources(train, _open_val(config, config.val_data))
    val_split = config.val_split or _usual_split(config.data, "val")
    if config.data == "scenes" or val_split not in (None, split):
        return Sources(train, _open_val(config, config.data))
    return Sources(*split_source(train, _VAL_SHARE, seed=config.seed))


def _open_val(config: TrainConfig, data: str) -> ImageSource:
    split = config.val_split or _usual_split(data, "val")
    images = config.val_images or config.images
    return open_source(data, images=images, split=split)


def _usual_split(data: str, name: str) -> str | None:
    """`name` if the data has a split of that name, otherwise None."""
    has_part = data == "scenes" or name in voc_splits(data)
    return name if has_part else None
