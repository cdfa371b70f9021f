"""The `rpn-jax` command: runs a subcommand and reports its errors in one line."""

import importlib
import logging
import sys
from collections.abc import Sequence

COMMANDS = {
    "train": "trains on a COCO file, a VOC folder or synthetic scenes, and evaluates",
    "evaluate": "measures the recall of a trained network on a data set",
    "propose": "writes and draws the proposals of a trained network for images",
    "convert": "converts weights of other detectors to this library's, and back",
    "inspect": "reports problems of a data set, and how well anchors fit it",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a subcommand.

    Args:
        arguments: the command line after `rpn-jax`; None uses `sys.argv`.

    Returns:
        The exit status: 0; 1 after an error that the user can correct; 2 for an unknown
        subcommand; 130 after an interrupt.
    """
    name, *rest = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name not in COMMANDS:
        sys.stdout.write(_help())
        return 0 if name in ("-h", "--help") else 2
    _log_to_terminal()
    try:
        command = importlib.import_module(f"rpn_jax.commands.{name}")
        sys.stdout.write(f"{command.main(rest)}\n")
    except ModuleNotFoundError as error:
        return _fail(f"{error}. Install the dependencies: pip install rpn-jax[train]")
    except (ValueError, FloatingPointError, OSError) as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        _fail(
            "interrupted. `rpn-jax train --resume` continues from the last checkpoint."
        )
        return 130
    return 0


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {text}" for name, text in COMMANDS.items()]
    usage = "usage: rpn-jax {" + ",".join(COMMANDS) + "} [flags]"
    return "\n".join(
        [usage, "", *lines, "", "rpn-jax COMMAND --help lists the flags.", ""]
    )


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


if __name__ == "__main__":
    sys.exit(main())
