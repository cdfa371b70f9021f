"""Which run a folder belongs to."""

import dataclasses

import pytest

from rpn_jax.commands.flags import parse_training
from rpn_jax.train import resolve
from rpn_jax.train.run_folder import RunFolder


def test_a_changed_setting_is_named_with_its_path(tmp_path):
    folder = RunFolder(tmp_path / "run")
    flags = ["--rpn.losses.objectness", "iou", "--lr", "0.5"]
    folder.claim(resolve(parse_training(flags)))
    folder.claim(resolve(parse_training([*flags, "--resume", "--log-every", "3"])))
    with pytest.raises(ValueError, match="got other ones") as error:
        folder.claim(resolve(parse_training(["--lr", "0.5", "--resume"])))
    assert "ones: rpn.losses.objectness was iou and is label. Pass" in str(error.value)


def test_the_numbers_of_readers_may_change(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.claim(resolve(parse_training([])))
    flags = ["--resume", "--pipeline.threads", "3", "--pipeline.workers", "2"]
    folder.claim(resolve(parse_training(flags)))


def test_a_run_without_reduced_decoding_continues_without_it(tmp_path):
    """As runs of version 0.1.0 do, when the default was another."""
    folder = RunFolder(tmp_path / "run")
    size = ["--pipeline.min-side", "300"]
    before = parse_training([*size, "--pipeline.no-reduced-decoding"])
    folder.claim(resolve(before))
    now = parse_training([*size, "--resume"])
    assert now.pipeline is not None
    assert now.pipeline.reduced_decoding
    continued = folder.continued(now)
    assert continued.pipeline == before.pipeline
    folder.claim(resolve(continued))
    other = RunFolder(tmp_path / "other")
    assert other.continued(now) == now
    other.claim(resolve(parse_training(size)))
    with pytest.raises(ValueError, match="reduced_decoding was True and is False"):
        other.claim(resolve(dataclasses.replace(continued, batch_size=None)))
