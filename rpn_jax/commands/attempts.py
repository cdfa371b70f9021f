"""Files that commands write after their results: a failure costs one warning."""

import contextlib
import logging
import pathlib
from collections.abc import Callable

_logger = logging.getLogger(__name__)


def attempt(path: pathlib.Path, write: Callable[[], None], failure: str) -> None:
    """Writes a file, or logs one warning that says why not.

    Args:
        path: the file. If it fails, no older one is left there, because it would belong
            to other numbers.
        write: writes the file.
        failure: what the warning says about the file, with a place for its path.
    """
    try:
        write()
    except Exception as error:  # the libraries raise errors of many classes
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        _logger.warning(f"{failure}: %s", path, reason)
