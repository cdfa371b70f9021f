"""The `rpn-jax` command."""

import importlib
import logging
import sys
from collections.abc import Sequence

COMMANDS = {
    "train": "trains on a COCO file, a VOC folder or built-in scenes, and evaluates",
    "evaluate": "measures the recall of a trained network on a data set",
    "propose": "writes and draws the proposals of a trained network for images",
    "convert": "turns weights of PyTorch's detectors into this library's, and back",
    "inspect": "tells before training what is wrong with data, and if anchors fit it",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        arguments: of the command line; None takes the process's.

    Returns:
        The exit status: 0, or 1 after an error that the user can mend, 2 for a command
        that does not exist, and 130 when interrupted.
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
        return _fail(
            f"{error}. Install what `rpn-jax` needs: pip install rpn-jax[train]"
        )
    except (ValueError, FloatingPointError, OSError) as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        _fail(
            "stopped. The same command with --resume goes on from the last checkpoint."
        )
        return 130
    return 0


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {text}" for name, text in COMMANDS.items()]
    usage = "usage: rpn-jax {" + ",".join(COMMANDS) + "} [flags]"
    return "\n".join(
        [usage, "", *lines, "", "rpn-jax COMMAND --help tells the flags.", ""]
    )


def _fail(message: str) -> int:
    sys.stderr.write(f"rpn-jax: error: {message}\n")
    return 1


class _ToTerminal(logging.Handler):
    """Writes records above a progress bar instead of through it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one record."""
        tqdm = importlib.import_module("tqdm").tqdm
        tqdm.write(f"rpn-jax: {record.getMessage()}", file=sys.stderr)


def _log_to_terminal() -> None:
    logger = logging.getLogger("rpn_jax")
    if not logger.handlers:
        logger.addHandler(_ToTerminal())
        logger.propagate = False
    logger.setLevel(logging.INFO)


if __name__ == "__main__":
    sys.exit(main())
