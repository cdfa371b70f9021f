"""Files that are replaced in one step, or not at all."""

import contextlib
import os
import pathlib
from collections.abc import Iterator


@contextlib.contextmanager
def replace_file(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Lets the body write a draft, and renames it to `path` afterwards.

    A rename within a folder is atomic. So whoever opens `path` finds its old content or
    all of the new, even if the process is killed while it writes, or the machine
    crashes. If the body raises an error, the draft is deleted and `path` stays as it
    was.

    Args:
        path: file to write. Its folder has to exist.

    Yields:
        The path of the draft: beside `path`, with the same suffix.

    >>> import tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "numbers.txt"
    >>> with replace_file(path) as draft:
    ...     _ = draft.write_text("1 2 3")
    >>> path.read_text()
    '1 2 3'
    """
    path = pathlib.Path(path)
    draft = path.with_name(f"{path.stem}.tmp{path.suffix}")
    try:
        yield draft
        # Without this, a crash of the machine may keep the rename and lose the content.
        with draft.open("r+b") as file:
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)  # there is none after the rename
