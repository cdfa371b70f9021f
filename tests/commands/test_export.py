"""What `rpn-jax export` writes from a file of weights."""

import pytest
from support.foreign_tiny import tiny_weights

from rpn_jax import export
from rpn_jax.commands import export as command
from rpn_jax.models.interop import write_tensors


def test_weights_of_another_system_become_a_file_with_its_rules(tmp_path):
    pytest.importorskip("flatbuffers")
    weights, target = tmp_path / "detector.pth", tmp_path / "model.stablehlo"
    write_tensors(weights, tiny_weights())
    flags = ["--weights", str(weights), "--to", str(target), "--image-size", "64", "96"]
    said = command.main(flags)
    found = export.load(target).description
    assert "images [b 64 96 3] of uint8" in said
    assert found.source == "weights of torchvision"
    assert found.settings["preprocessing"]["order"] == "RGB"
    assert found.settings["anchors"]["rounding"] == "corners"
    # The weights are inside of it.
    assert target.stat().st_size > sum(x.nbytes for x in tiny_weights().values())
