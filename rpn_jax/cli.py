"""The `rpn-jax` command: runs a subcommand and reports its errors in one line."""

import contextlib
import errno
import importlib
import io
import logging
import os
import sys
from collections.abc import Iterator, Sequence

COMMANDS = {
    "train": "trains on COCO, VOC or YOLO data or on synthetic scenes, and evaluates",
    "evaluate": "measures the recall of a trained network on a data set",
    "propose": "writes and draws the proposals of a trained network for images",
    "convert": "converts weights of other detectors to this library's, and back",
    "export": "writes a network with its proposals as one file for other runtimes",
    "inspect": "reports problems of a data set, and how well anchors fit it",
    "report": "compares finished runs in a page for the browser",
    "compare": "compares two runs object by object, and their recall with intervals",
}

# What to do after a run was stopped. The other commands begin anew.
_ADVICE = {
    "train": " `rpn-jax train --resume` continues from the last checkpoint, if any."
}
_FULL = (errno.ENOSPC, errno.EDQUOT)
_FULL_TEXTS = tuple(map(os.strerror, _FULL))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a subcommand.

    Args:
        arguments: the command line after `rpn-jax`; None uses `sys.argv`.

    Returns:
        The exit status: 0; 1 after an error that the user can correct; 2 for an unknown
        subcommand; 130 after an interrupt.
    """
    with _printing_all_characters():
        return _main(arguments)


def _main(arguments: Sequence[str] | None) -> int:
    name, *rest = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name not in COMMANDS:
        sys.stdout.write(_help())
        return 0 if name in ("-h", "--help") else 2
    _log_to_terminal()
    try:
        command = importlib.import_module(f"rpn_jax.commands.{name}")
        if said := command.main(rest):  # only one process of several speaks
            sys.stdout.write(f"{said}\n")
        sys.stdout.flush()  # so that a full disk is an error here
    except ModuleNotFoundError as error:
        return _fail(f"{error}. Install the dependencies: pip install rpn-jax[train]")
    except (ValueError, FloatingPointError, OSError) as error:
        return _fail(_explain(error, name))
    except KeyboardInterrupt:
        _fail("interrupted." + _ADVICE.get(name, ""))
        return 130
    return 0


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {text}" for name, text in COMMANDS.items()]
    usage = "usage: rpn-jax {" + ",".join(COMMANDS) + "} [flags]"
    return "\n".join(
        [usage, "", *lines, "", "rpn-jax COMMAND --help lists the flags.", ""]
    )


@contextlib.contextmanager
def _printing_all_characters() -> Iterator[None]:
    """Prints a replacement for characters that an output cannot encode.

    Tables have `²`, and file names may have anything, but a terminal or the target of a
    redirection may be limited to ASCII or GBK.
    """
    outputs = [x for x in (sys.stdout, sys.stderr) if isinstance(x, io.TextIOWrapper)]
    strict = [x for x in outputs if x.errors not in ("replace", "backslashreplace")]
    before = [x.errors for x in strict]
    for output in strict:
        output.reconfigure(errors="replace")
    try:
        yield
    finally:
        for output, errors in zip(strict, before, strict=True):
            with contextlib.suppress(OSError, ValueError):  # it is full or closed
                output.reconfigure(errors=errors)


def _explain(error: Exception, name: str) -> str:
    """The message of an error; the cause comes first if the disk is full."""
    # orbax raises other errors with the message of the operating system.
    is_full = isinstance(error, OSError) and error.errno in _FULL
    if is_full or any(text in str(error) for text in _FULL_TEXTS):
        return f"the disk is full: {error}. Free some space.{_ADVICE.get(name, '')}"
    return str(error)


def _fail(message: str) -> int:
    sys.stderr.write(f"rpn-jax: error: {message}\n")
    return 1


class _ToTerminal(logging.Handler):
    """Writes log records above a progress bar, so that they do not break it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one log record."""
        tqdm = importlib.import_module("tqdm").tqdm
        tqdm.write(f"rpn-jax: {record.getMessage()}", file=sys.stderr)


def _log_to_terminal() -> None:
    """Shows the log of the library, once, even if `main` is called repeatedly."""
    logger = logging.getLogger("rpn_jax")
    if not logger.handlers:
        logger.addHandler(_ToTerminal())
        logger.propagate = False
    logger.setLevel(logging.INFO)
    # orbax logs a page for every error of a thread, and raises the error as well.
    logging.getLogger("absl").addFilter(_has_no_traceback)


def _has_no_traceback(record: logging.LogRecord) -> bool:
    return not record.exc_info


if __name__ == "__main__":
    sys.exit(main())
