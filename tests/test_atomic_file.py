"""Files that are replaced in one step."""

import pytest

from rpn_jax.atomic_file import replace_file


def write_and_stop(path):
    with replace_file(path) as draft:
        draft.write_text("half of the n")
        raise RuntimeError("stopped")


def test_an_error_leaves_the_old_file_and_no_draft(tmp_path):
    path = tmp_path / "numbers.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="stopped"):
        write_and_stop(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_old_file_is_there_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / "numbers.txt"
    path.write_text("old")
    with replace_file(path) as draft:
        draft.write_text("new")
        assert draft.suffix == path.suffix
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]
