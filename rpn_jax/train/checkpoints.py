"""Checkpoints: everything that a run needs to go on as if it had never stopped."""

import hashlib
import json
import logging
import os
import pathlib
from typing import Any, NamedTuple

from orbax.checkpoint import v1 as ocp

_MANIFEST = "manifest.json"
_logger = logging.getLogger(__name__)


class Restored(NamedTuple):
    """What a checkpoint held.

    Attributes:
        step: how many steps had been made.
        state: the arrays, in the tree that was asked for.
        facts: what was saved beside them, as JSON has it.
    """

    step: int
    state: Any
    facts: dict[str, Any]


class CheckpointStore:
    """The checkpoints of a run, newest last.

    A process may be killed at any moment: a checkpoint counts once its manifest is
    written, which is last and at once. The manifest has the digest of every file, so
    that a checkpoint which was damaged since is as good as none.
    """

    def __init__(self, folder: str | os.PathLike[str], *, keep: int = 2) -> None:
        """Opens or makes the folder.

        Args:
            folder: of the checkpoints alone.
            keep: how many of the newest to keep.
        """
        self.folder = pathlib.Path(folder).resolve()
        newest: Any = ocp.training.preservation_policies.LatestN(keep)
        self._checkpointer = ocp.training.Checkpointer(
            str(self.folder), preservation_policy=newest, cleanup_tmp_directories=True
        )

    @property
    def steps(self) -> list[int]:
        """The steps that have a checkpoint, whole or not, oldest first."""
        return sorted(found.step for found in self._checkpointer.checkpoints)

    def save(self, step: int, state: Any, facts: dict[str, Any]) -> None:
        """Saves a checkpoint and waits until it is on the disk.

        Args:
            step: how many steps have been made.
            state: a tree of arrays.
            facts: what else to save, as JSON can hold it.
        """
        self._checkpointer.save(step, state, custom_metadata=facts, overwrite=True)
        manifest = self.folder / str(step) / _MANIFEST
        draft = manifest.with_suffix(".tmp")
        draft.write_text(json.dumps(_digests(manifest.parent), indent=1))
        draft.replace(manifest)

    def restore(self, like: Any) -> Restored | None:
        """The newest checkpoint that is whole.

        One that is damaged is passed over, with a warning in the log; the run makes and
        saves those steps again.

        Args:
            like: a tree of `jax.Array` as `save` was given it. The arrays come back
                with the shapes, types and shardings of these.

        Returns:
            The checkpoint, or None if none is whole.

        Raises:
            ValueError: the checkpoint is of another model or optimiser than `like`.
        """
        for step in reversed(self.steps):
            if (damage := self._damage(step)) is None:
                return self._read(step, like)
            _logger.warning("The checkpoint of step %d is damaged: %s.", step, damage)
        return None

    def close(self) -> None:
        """Lets go of the folder."""
        self._checkpointer.close()

    def _damage(self, step: int) -> str | None:
        folder = self.folder / str(step)
        try:
            expected = json.loads((folder / _MANIFEST).read_text())
        except (OSError, ValueError):
            return "it has no manifest, so it was not finished"
        found = _digests(folder)
        wrong = [name for name in expected if found.get(name) != expected[name]]
        return f"{wrong[0]} is not what was saved" if wrong else None

    def _read(self, step: int, like: Any) -> Restored:
        facts: Any = self._checkpointer.metadata(step).custom_metadata
        try:
            state = self._checkpointer.load(step, like)
        except Exception as error:  # orbax has many kinds for a tree of another shape
            raise ValueError(
                f"restore needs the checkpoint of step {step} in {self.folder} to be "
                "of this model and optimiser, got one of another. Use the "
                "configuration that stands beside it."
            ) from error
        return Restored(step, state, dict(facts or {}))


def _digests(folder: pathlib.Path) -> dict[str, str]:
    """The digest of every file of a checkpoint but its manifest."""
    return {
        str(path.relative_to(folder)): _digest(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / _MANIFEST
    }


def _digest(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
