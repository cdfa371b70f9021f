"""Settings that are left open, and how often the weights of a run are read."""

import numpy as np
import pytest
from support.filled import filled_model

from rpn_jax import presets
from rpn_jax.commands.flags import parse_training
from rpn_jax.models import BackboneConfig, export_weights
from rpn_jax.models.interop import checkpoint_files, read_checkpoint, write_tensors
from rpn_jax.train import Run, TrainConfig, resolve
from rpn_jax.train.resolve import with_parts

SMALL = ["--pipeline.min-side", "64", "--pipeline.max-side", "96", "--steps", "1"]


@pytest.fixture
def weights(tmp_path):
    """Weights of a network for the anchors of the default rules."""
    backbone = BackboneConfig(name="tiny_fpn", out_features=8)
    model = filled_model(backbone, anchors=presets.pyramid().anchors)
    path = tmp_path / "weights.safetensors"
    write_tensors(path, export_weights(model, "torchvision"))
    return path


@pytest.fixture
def reads(monkeypatch):
    """The files of weights that are read."""
    paths, read = [], checkpoint_files.read_weight_file

    def counting(path, part):
        paths.append(str(path))
        return read(path, part)

    monkeypatch.setattr(checkpoint_files, "read_weight_file", counting)
    return paths


def test_a_run_reads_its_weights_once(weights, reads, tmp_path):
    flags = ["--backbone", "tiny_fpn", "--fpn-features", "8", *SMALL]
    places = ["--init-weights", str(weights), "--out", str(tmp_path / "run")]
    run = Run(parse_training([*flags, *places]))
    run.close()
    assert reads == [str(weights)]
    assert run.config.weights_system == "torchvision"
    assert run.config.frozen_stages == 2
    # AdamW changes a trained head in smaller steps than a new one.
    assert (run.config.optimizer.name, run.config.lr) == ("adamw", 1e-3)
    trunk = TrainConfig(init_weights="w.npz", weights_system="torchvision_features")
    assert resolve(trunk).lr == 3e-3
    expected = read_checkpoint(weights).tensors["head.deltas.kernel"]
    np.testing.assert_array_equal(run.model.head.deltas.kernel[...], expected)
    # By default the head of this backbone has a 1x1 convolution, and here it has none.
    assert run.config.rpn.num_pointwise == 0


def test_layers_of_the_head_that_were_chosen_are_not_those_of_its_weights(weights):
    flags = ["--backbone", "tiny_fpn", "--init-weights", str(weights)]
    chosen = resolve(parse_training([*flags, "--rpn.num-pointwise", "2"]))
    assert chosen.rpn.num_pointwise == 2


def test_the_defaults_of_flags_need_no_file(reads):
    config = with_parts(TrainConfig(init_weights="nowhere.npz"))
    assert config.optimizer is not None
    assert config.optimizer.name == "adamw"
    assert reads == []


def test_resolving_twice_changes_nothing():
    for config in (TrainConfig(), TrainConfig(data="a.json", backbone="resnet18_c4")):
        assert resolve(resolve(config)) == resolve(config)
