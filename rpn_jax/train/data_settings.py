"""Settings that need the training data: number of steps, and ignored regions."""

import dataclasses
import logging

from ..data import ImageSource, is_endless, steps_per_epoch
from .defaults import FILES_EPOCHS, FILES_MIN_STEPS, IGNORE_IOF, SCENES_STEPS
from .train_config import ResolvedConfig

_logger = logging.getLogger(__name__)


def count_steps(config: ResolvedConfig, source: ImageSource) -> int:
    """The number of steps of a whole run.

    Args:
        config: the settings.
        source: the images to train on.

    Raises:
        ValueError: `epochs` is set for scenes, of which there is no end.
    """
    if config.steps is not None:
        return config.steps
    if is_endless(source):
        if config.epochs is not None:
            raise ValueError(
                "train needs --steps for scenes, which never repeat, got --epochs "
                f"{config.epochs}."
            )
        return SCENES_STEPS
    per_epoch = steps_per_epoch(source, config.pipeline, config.batch_size)
    if config.epochs is not None:
        return max(round(config.epochs * per_epoch), 1)
    return max(FILES_EPOCHS * per_epoch, FILES_MIN_STEPS)


def set_ignore_rule(config: ResolvedConfig, source: ImageSource) -> ResolvedConfig:
    """Sets `ignore_iof` if there are ignored regions and the rules say nothing.

    The data may have them, and augmentation may make them of objects that it cuts. The
    log says so in one line. `config.ignore_crowds=False` prevents it, and so does
    any `ignore_iof` in the rules.

    Args:
        config: the settings.
        source: the images to train on.

    Returns:
        The settings of the run.
    """
    targets = config.rpn.targets
    if not config.ignore_crowds or targets.ignore_iof is not None:
        return config
    number = _count_ignoring(source)
    if number > 0:
        reason = f"{number} of {len(source)} training images have ignored regions"
    elif config.pipeline.hides_objects:
        reason = "Augmentation makes ignored regions of objects that it cuts"
    else:
        return config
    _logger.info(
        "%s, so rpn.targets.ignore_iof is set to %g. --rpn.targets.ignore-iof X sets "
        "another share, and --no-ignore-crowds refuses it.",
        reason,
        IGNORE_IOF,
    )
    targets = dataclasses.replace(targets, ignore_iof=IGNORE_IOF)
    rules = dataclasses.replace(config.rpn, targets=targets)
    return dataclasses.replace(config, rpn=rules)


def _count_ignoring(source: ImageSource) -> int:
    """Number of images with an ignored region. Scenes never have one."""
    rows = range(0 if is_endless(source) else len(source))
    return sum(bool(source.truth(row).is_ignored.any()) for row in rows)
