"""The images that a command evaluates on, as its flags name them."""

import logging

from ..data import ImageSource, data_splits, open_source

_logger = logging.getLogger(__name__)


def open_evaluated(data: str, images: str | None, split: str | None) -> ImageSource:
    """Opens a data set, and says so if the images of all its splits are evaluated.

    Args:
        data: a COCO JSON file, a folder with VOC XML, the `data.yaml` or folder of a
            YOLO set, or `scenes`.
        images: folder of the images; None looks beside the annotations.
        split: the split to evaluate; None takes all, and of scenes the validation
            images.
    """
    split = split or ("val" if data == "scenes" else None)
    source = open_source(data, images=images, split=split)
    if split is None and (splits := data_splits(data)):
        _logger.warning(
            "All images of %s are evaluated: those of %s. Choose with --split.",
            data,
            ", ".join(splits),
        )
    return source
