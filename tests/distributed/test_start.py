"""Starting several processes: flags, folders and shares that do not fit."""

import pytest

from rpn_jax import cli
from rpn_jax.distributed import ProcessConfig, check_even_share, shared_folder, start
from rpn_jax.distributed import even_share as even_share_module


@pytest.mark.parametrize(
    "settings",
    [
        {"distributed": True, "coordinator": "a:1"},
        {"coordinator": "a:1", "num_processes": 2, "process_id": 0},
    ],
)
def test_half_of_the_settings_is_refused(settings):
    with pytest.raises(ValueError, match="need each other and --distributed, got"):
        start(ProcessConfig(**settings))


def test_without_a_cluster_the_message_says_what_to_type(capsys, tmp_path, monkeypatch):
    def initialize(*_, **__):  # as JAX does if it finds no cluster
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr("jax.distributed.initialize", initialize)
    arguments = ["train", "--distributed", "--out", str(tmp_path / "run")]
    assert cli.main(arguments) == 1
    error = capsys.readouterr().err
    assert "--coordinator HOST:PORT --num-processes P --process-id I" in error
    assert not (tmp_path / "run").exists()


class Device:
    def __init__(self, process_index):
        self.process_index = process_index


@pytest.fixture
def devices(monkeypatch):
    def use(*processes):
        found = [Device(number) for number in processes]
        monkeypatch.setattr(even_share_module.jax, "devices", lambda: found)
        monkeypatch.setattr(even_share_module.jax, "device_count", lambda: len(found))

    return use


def test_a_batch_that_cannot_be_shared_is_refused_with_numbers_that_fit(devices):
    devices(0, 0, 1, 1)
    check_even_share(8, 2)
    with pytest.raises(ValueError, match="share evenly, got 12") as error:
        check_even_share(12, 2)
    assert "This batch fits 1, 2, 3, 6 devices" in str(error.value)
    assert "these devices fit a batch of 8 or 16." in str(error.value)


def test_processes_with_different_numbers_of_devices_are_refused(devices):
    devices(0, 0, 1)
    with pytest.raises(ValueError, match=r"in each, got \[2, 1\]"):
        check_even_share(6, 1)


def test_a_folder_that_a_host_does_not_see_is_refused_with_its_name(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(shared_folder.jax, "process_count", lambda: 3)
    monkeypatch.setattr(shared_folder, "by_first", lambda action: action())
    seen = []
    monkeypatch.setattr(
        shared_folder,
        "gather",
        lambda value: seen.append(value) or [["a", True], ["b", False], ["c", True]],
    )
    with pytest.raises(ValueError, match=r"not seen on b \(process 1\)\. Choose"):
        shared_folder.check_shared(tmp_path)
    assert seen[0][1] is True
    assert not list(tmp_path.iterdir())
