"""Weights of torchvision's detectors give the same numbers, and are written back."""

import functools
import importlib

import jax
import numpy as np
import pytest
from support.foreign_layouts import assert_close
from support.torchvision_rpn import run_stages

import rpn_jax
from rpn_jax.models import grid_for
from rpn_jax.models.interop import (
    export_weights,
    make_foreign_model,
    read_checkpoint,
    translate,
    write_tensors,
)

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")
detection = importlib.import_module("torchvision.models.detection")

SHAPE = (96, 128)
SIZES = np.array([SHAPE], np.float32)
IMAGES = np.random.default_rng(0).integers(0, 256, (1, *SHAPE, 3), dtype=np.uint8)
NAMES = [
    "fasterrcnn_resnet50_fpn",
    "fasterrcnn_resnet50_fpn_v2",
    "fasterrcnn_mobilenet_v3_large_fpn",
]


@functools.cache
def make_peer(name):
    """The detector with random weights, norms that change numbers, and large scores."""
    torch.manual_seed(0)
    options = {"weights": None, "weights_backbone": None, "num_classes": 3}
    if "mobilenet" in name:
        options |= {"rpn_score_thresh": 0.05}
    peer = getattr(detection, name)(**options).eval()
    with torch.no_grad():
        for module in peer.backbone.modules():
            if hasattr(module, "running_var"):
                module.weight.uniform_(0.5, 1.0)
                module.bias.normal_(0.0, 0.1)
                module.running_mean.normal_(0.0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
        for layer in (peer.rpn.head.cls_logits, peer.rpn.head.bbox_pred):
            layer.weight.mul_(3.0)
            layer.bias.normal_(0.0, 0.1)
    return peer


@functools.cache
def make_ours(name):
    state = {k: v.numpy() for k, v in make_peer(name).state_dict().items()}
    return make_foreign_model(translate(state, "torchvision"))


@jax.jit
def run_network(model):
    features = model.features(IMAGES, SIZES)
    return features, model.head(features)


@pytest.mark.parametrize("name", NAMES)
def test_a_detector_gives_the_same_features_predictions_and_proposals(name):
    found, peer = make_ours(name), run_stages(make_peer(name), IMAGES)
    features, output = run_network(found.model)
    for actual, expected in zip(features, peer.features, strict=True):
        assert_close(actual, expected)
    assert_close(output.logits, peer.output.logits)
    assert_close(output.deltas, peer.output.deltas)
    # From the peer's predictions: rounding that differs between machines exchanges
    # proposals of nearly equal scores, and keeps or drops one at the threshold.
    anchors = grid_for(found.model, found.config.anchors, SHAPE)
    propose = jax.jit(functools.partial(rpn_jax.propose, config=found.config.proposals))
    proposals = propose(peer.output, anchors, SIZES)
    ours = proposals.boxes[0][proposals.valid[0]]
    assert ours.shape == peer.boxes.shape
    assert len(ours) > 50
    np.testing.assert_allclose(ours, peer.boxes, rtol=0, atol=0.01)


@pytest.mark.parametrize("name", NAMES)
def test_the_detector_loads_what_is_written_strictly_and_bit_for_bit(name, tmp_path):
    peer, model = make_peer(name), make_ours(name).model
    written = export_weights(model, "torchvision")
    state = peer.state_dict()
    for tensor_name, value in written.items():
        np.testing.assert_array_equal(value, state[tensor_name].numpy())
    write_tensors(tmp_path / "written.pth", written)
    torch_state = torch.load(tmp_path / "written.pth", weights_only=True)
    assert torch_state.keys() == written.keys()
    for tensor_name, value in torch_state.items():
        np.testing.assert_array_equal(value.numpy(), state[tensor_name].numpy())
    parts = torch.nn.ModuleDict({"backbone": peer.backbone, "rpn": peer.rpn})
    parts.load_state_dict(torch_state, strict=True)


def test_the_names_that_torchvision_had_before_are_read():
    state = make_peer("fasterrcnn_resnet50_fpn").state_dict()
    old = {}
    for name, value in state.items():
        parts = name.split(".")
        if name.startswith("backbone.fpn."):  # inner_blocks.0.0.weight
            del parts[4]
        if name.startswith("rpn.head.conv."):  # rpn.head.conv.0.0.weight
            del parts[3:5]
        if parts[-1] != "num_batches_tracked":
            old[".".join(parts)] = value.numpy()
    assert "rpn.head.conv.weight" in old
    assert "backbone.fpn.inner_blocks.0.weight" in old
    now = translate({k: v.numpy() for k, v in state.items()}, "torchvision").tensors
    then = translate(old, "torchvision").tensors
    assert then.keys() == now.keys()
    for name, value in then.items():
        np.testing.assert_array_equal(value, now[name])


def test_a_checkpoint_of_a_training_script_is_read_without_executing_it(tmp_path):
    peer = make_peer("fasterrcnn_mobilenet_v3_large_fpn")
    state = {f"module.{k}": v for k, v in peer.state_dict().items()}
    torch.save({"model": state, "epoch": 3}, tmp_path / "model_3.pth")
    checkpoint = read_checkpoint(tmp_path / "model_3.pth")
    assert checkpoint.system == "torchvision"
    model, _, report = make_foreign_model(checkpoint)
    assert report.missing == ()
    assert "roi_heads.box_predictor.cls_score.weight" in report.left_out
    assert str(report).startswith("Loaded")
    expected = export_weights(
        make_ours("fasterrcnn_mobilenet_v3_large_fpn").model, "torchvision"
    )
    for name, value in export_weights(model, "torchvision").items():
        np.testing.assert_array_equal(value, expected[name])


class Runs:
    """A pickle that would create a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_pth_with_code_in_it_is_refused_and_not_run(tmp_path):
    torch.save({"model": Runs(tmp_path / "ran")}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match="evil.pth cannot be read.*more than tensors"):
        read_checkpoint(tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


def test_a_truncated_pth_gives_one_clear_line(tmp_path):
    path = tmp_path / "short.pth"
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, path)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(ValueError, match="short.pth cannot be read as weights") as info:
        read_checkpoint(path)
    assert "\n" not in str(info.value)
