"""Which run a folder belongs to."""

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
