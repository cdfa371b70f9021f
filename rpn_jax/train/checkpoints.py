"""Checkpoints: the whole state of a run, so that it can resume bit-identically."""

import errno
import hashlib
import json
import logging
import os
import pathlib
from typing import Any, NamedTuple

from orbax.checkpoint import v1 as ocp

from ..atomic_file import replace_file
from ..distributed import by_first, meet
from ..distributed.progress import progress

_FULL_DISK = tuple(map(os.strerror, (errno.ENOSPC, errno.EDQUOT)))
_MANIFEST = "manifest.json"
_CHUNK = 2**26  # bytes that are read at a time, in less than a second on most disks
_logger = logging.getLogger(__name__)


class Restored(NamedTuple):
    """The content of a checkpoint.

    Attributes:
        step: number of steps made before it was saved.
        state: the arrays, in the tree that was asked for.
    """

    step: int
    state: Any


class CheckpointStore:
    """The checkpoints of a run, newest last.

    A process may be killed at any moment, so a checkpoint counts only once its manifest
    exists, which is written last and in one step. The manifest holds the digest of
    every file, so a checkpoint that is damaged later does not count either.

    Several processes write one checkpoint together, and process 0 writes the manifest
    when all have finished. They restore the same one, which process 0 has examined.
    """

    def __init__(self, folder: str | os.PathLike[str], *, keep: int = 2) -> None:
        """Opens the folder, or creates it.

        Args:
            folder: folder that holds nothing but checkpoints.
            keep: number of checkpoints to keep; older ones are deleted.
        """
        self.folder = pathlib.Path(folder).resolve()
        newest: Any = ocp.training.preservation_policies.LatestN(keep)
        self._checkpointer = ocp.training.Checkpointer(
            str(self.folder), preservation_policy=newest, cleanup_tmp_directories=True
        )

    @property
    def steps(self) -> list[int]:
        """The steps that have a checkpoint, intact or not, oldest first."""
        return sorted(found.step for found in self._checkpointer.checkpoints)

    def save(self, step: int, state: Any) -> None:
        """Saves a checkpoint and waits until it is on the disk.

        Args:
            step: number of steps made so far.
            state: a tree of arrays.

        Raises:
            OSError: the disk is full, or another error of the file system. The message
                names the newest checkpoint that is intact.
        """
        with progress.saving(step, self.folder):
            try:
                self._write(step, state)
            # orbax raises errors of several types if it cannot write a file.
            except (OSError, ValueError) as error:
                raise OSError(
                    f"the checkpoint of step {step} cannot be written to {self.folder} "
                    f"({_cause(error)}). {self._remaining(step)}"
                ) from error

    def restore(self, like: Any) -> Restored | None:
        """Reads the newest intact checkpoint.

        A damaged checkpoint is skipped with a warning in the log. The run then repeats
        its steps and saves them again.

        Args:
            like: a tree of `jax.Array` or `jax.ShapeDtypeStruct` with the structure
                that was saved. The restored arrays have the same shapes, dtypes and
                shardings.

        Returns:
            The checkpoint, or None if none is intact.

        Raises:
            ValueError: the checkpoint belongs to another model or optimizer than
                `like`.
        """
        step = by_first(self._newest_intact)
        if step is None:
            return None
        progress.resumed(step)
        return self._read(step, like)

    def close(self) -> None:
        """Releases the folder."""
        self._checkpointer.close()

    def _newest_intact(self) -> int | None:
        for step in reversed(self.steps):
            if (damage := self._damage(step)) is None:
                return step
            _logger.warning("The checkpoint of step %d is damaged: %s.", step, damage)
        return None

    def _write(self, step: int, state: Any) -> None:
        self._checkpointer.save(step, state, overwrite=True)
        meet()
        by_first(lambda: self._write_manifest(step))

    def _write_manifest(self, step: int) -> None:
        manifest = self.folder / str(step) / _MANIFEST
        digests = _digests(manifest.parent)
        with replace_file(manifest) as draft:
            draft.write_text(json.dumps(digests, indent=1))

    def _remaining(self, step: int) -> str:
        """Which checkpoint a run can resume from if that of `step` was not written."""
        names = [x.name for x in self.folder.iterdir() if x.name.isdigit()]
        others = sorted({int(name) for name in names} - {step}, reverse=True)
        intact = [other for other in others if self._damage(other) is None]
        if intact:
            return f"The checkpoint of step {intact[0]} is the newest intact one."
        return "There is no other intact checkpoint."

    def _damage(self, step: int) -> str | None:
        """Why a checkpoint does not count, or None if it is intact."""
        folder = self.folder / str(step)
        try:
            expected = json.loads((folder / _MANIFEST).read_text())
        except (OSError, ValueError):
            return "it has no manifest, so it was not finished"
        found = _digests(folder)
        wrong = [name for name in expected if found.get(name) != expected[name]]
        return f"{wrong[0]} differs from what was saved" if wrong else None

    def _read(self, step: int, like: Any) -> Restored:
        try:
            state = self._checkpointer.load(step, like)
        # orbax raises errors of many types for a tree of another structure.
        except Exception as error:
            raise ValueError(
                f"restore needs the checkpoint of step {step} in {self.folder} to be "
                "of this model and optimizer, got one of another. Use the config.json "
                "of the run that saved it."
            ) from error
        return Restored(step, state)


def _cause(error: Exception) -> str:
    """What the operating system says, or else the first line of an error."""
    text = str(error)
    return next((x for x in _FULL_DISK if x in text), text.partition("\n")[0])


def _digests(folder: pathlib.Path) -> dict[str, str]:
    """The digest of every file of a checkpoint except its manifest."""
    return {
        str(path.relative_to(folder)): _digest(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / _MANIFEST
    }


def _digest(path: pathlib.Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            progress.stir()  # the other processes wait, and nothing grows
    return digest.hexdigest()
