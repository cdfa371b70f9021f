"""Checkpoints: whole, damaged, and of other models."""

import errno
import hashlib
import json
import logging
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from orbax.checkpoint import v1 as ocp

from rpn_jax.train import CheckpointStore, checkpoints

STATE = {
    "weights": [jnp.arange(6.0).reshape(2, 3), jnp.ones(4, jnp.bfloat16)],
    "step": jnp.asarray(3, jnp.int32),
}


def moved(by):
    return jax.tree.map(lambda x: x + jnp.asarray(by, x.dtype), STATE)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with the checkpoints of steps 2 and 3."""
    folder = tmp_path_factory.mktemp("saved")
    store = CheckpointStore(folder, keep=2)
    for step in (1, 2, 3):
        store.save(step, moved(step))
    assert store.steps == [2, 3]
    store.close()
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "checkpoints")


def find(folder, like=STATE):
    store = CheckpointStore(folder)
    try:
        return store.restore(like)
    finally:
        store.close()


def restore(folder, like=STATE):
    restored = find(folder, like)
    assert restored is not None
    return restored


def test_the_newest_comes_back_bit_by_bit(folder):
    restored = restore(folder)
    assert restored.step == 3
    assert jax.tree.structure(restored.state) == jax.tree.structure(STATE)
    for a, b in zip(*map(jax.tree.leaves, (restored.state, moved(3))), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def test_a_checkpoint_with_the_metadata_of_older_runs_comes_back(tmp_path):
    checkpointer = ocp.training.Checkpointer(str(tmp_path))
    checkpointer.save(5, moved(5), custom_metadata={"data_step": 5})
    checkpointer.close()
    files = [path for path in sorted((tmp_path / "5").rglob("*")) if path.is_file()]
    digests = {
        str(path.relative_to(tmp_path / "5")): hashlib.sha256(
            path.read_bytes()
        ).hexdigest()
        for path in files
    }
    (tmp_path / "5" / "manifest.json").write_text(json.dumps(digests))
    restored = restore(tmp_path)
    assert restored.step == 5
    np.testing.assert_array_equal(restored.state["weights"][0], moved(5)["weights"][0])


def test_a_folder_without_checkpoints_gives_none(tmp_path):
    assert find(tmp_path / "new") is None


@pytest.mark.parametrize("damage", ["cut", "changed", "emptied", "removed"])
def test_damage_to_any_file_falls_back_with_a_message(folder, damage, caplog):
    files = [
        path.relative_to(folder)
        for path in sorted((folder / "3").rglob("*"))
        if path.is_file() and path.stat().st_size
    ]
    assert len(files) > 5
    for name in files[:: len(files) // 5]:
        path = folder / name
        whole = path.read_bytes()
        half = len(whole) // 2
        if damage == "removed":
            path.unlink()
        elif damage == "changed":
            flipped = bytes([whole[half] ^ 255])
            path.write_bytes(whole[:half] + flipped + whole[half + 1 :])
        else:
            path.write_bytes(whole[: half if damage == "cut" else 0])
        caplog.clear()
        with caplog.at_level(logging.WARNING, "rpn_jax"):
            restored = restore(folder)
        assert restored.step == 2, name
        assert "step 3 is damaged" in caplog.text
        path.write_bytes(whole)
    assert restore(folder).step == 3


def test_a_checkpoint_whose_writing_was_cut_off_does_not_count(folder):
    (folder / "3" / "manifest.json").unlink()
    assert restore(folder).step == 2
    shutil.copytree(folder / "2", folder / "4.orbax-checkpoint-tmp")
    assert restore(folder).step == 2


def test_a_damaged_step_can_be_saved_again(folder):
    (folder / "3" / "manifest.json").unlink()
    store = CheckpointStore(folder)
    store.save(3, moved(7))
    store.close()
    np.testing.assert_array_equal(restore(folder).state["step"], 10)


def test_only_damaged_checkpoints_are_as_good_as_none(folder, caplog):
    for step in (2, 3):
        (folder / str(step) / "manifest.json").unlink()
    assert find(folder) is None
    assert caplog.text.count("is damaged") == 2


def test_the_checkpoint_of_another_model_is_an_error(folder):
    other = {"weights": [jnp.ones((5, 5))], "step": STATE["step"]}
    with pytest.raises(ValueError, match="of this model"):
        restore(folder, other)


@pytest.mark.parametrize("place", ["arrays", "manifest"])
def test_a_full_disk_leaves_the_last_checkpoint_and_says_so(place, folder, monkeypatch):
    store = CheckpointStore(folder)

    def fail(*_, **__):
        # orbax raises the first form, the file system the second.
        if place == "arrays":
            raise ValueError('RESOURCE_EXHAUSTED: "a": No space left on device [28]')
        raise OSError(errno.ENOSPC, "No space left on device")

    target = store._checkpointer if place == "arrays" else checkpoints
    name = "save" if place == "arrays" else "replace_file"
    with monkeypatch.context() as patch:
        patch.setattr(target, name, fail)
        with pytest.raises(OSError, match=r"step 4 .*\(No space left on") as error:
            store.save(4, moved(4))
    assert "The checkpoint of step 3 is the newest intact one" in str(error.value)
    store.close()
    assert restore(folder).step == 3
