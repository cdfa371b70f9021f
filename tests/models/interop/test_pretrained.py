"""ImageNet weights give the same numbers for a photograph as in PyTorch."""

import functools
import importlib
import json
import os
import pathlib

import jax
import numpy as np
import pytest
from flax import nnx
from PIL import Image
from support.foreign_layouts import assert_close
from support.torchvision_rpn import normalize, run_stages, to_numpy

import rpn_jax
from rpn_jax.models import (
    default_anchors,
    export_weights,
    grid_for,
    load_weights,
    make_model,
)
from rpn_jax.models.interop import make_foreign_model, translate

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")
models = importlib.import_module("torchvision.models")
detection = importlib.import_module("torchvision.models.detection")
backbones = importlib.import_module("torchvision.models.detection.backbone_utils")
SHAPE = (192, 256)
SIZES = np.array([SHAPE], np.float32)


def folder(variable):
    name = os.environ.get(variable)
    if not name:
        pytest.skip(f"{variable} does not name its folder")
    return pathlib.Path(name)


@pytest.fixture
def photograph():
    data = folder("RPN_JAX_DATA") / "coco_cc"
    name = json.loads((data / "test.json").read_text())["images"][0]["file_name"]
    with Image.open(data / "images" / name) as image:
        pixels = np.asarray(image.convert("RGB").resize((256, 192)))
    return pixels[None]


def make_detector(path):
    """torchvision's detector on MobileNetV2; only its trunk is pretrained."""
    torch.manual_seed(0)
    trunk = models.mobilenet_v2(weights=None)
    with np.load(path) as file:
        state = {name: torch.from_numpy(file[name]) for name in file}
    trunk.load_state_dict(state, strict=True)
    layers = {name: str(i) for i, name in enumerate(("3", "6", "13", "17"))}
    body = backbones.BackboneWithFPN(trunk.features, layers, [24, 32, 96, 320], 256)
    peer = detection.FasterRCNN(body, num_classes=2).eval()
    with torch.no_grad():
        for layer in (peer.rpn.head.cls_logits, peer.rpn.head.bbox_pred):
            layer.weight.mul_(3.0)
    return peer


def test_a_detector_on_mobilenet_v2_proposes_the_same_for_a_photograph(photograph):
    peer = make_detector(folder("RPN_JAX_WEIGHTS") / "mobilenet_v2-b0353104.npz")
    state = {k: v.numpy() for k, v in peer.state_dict().items()}
    found = make_foreign_model(translate(state, "torchvision"))
    expected = run_stages(peer, photograph)
    anchors = grid_for(found.model, found.config.anchors, SHAPE)

    @jax.jit
    def run(model, output):
        maps, config = model.features(photograph, SIZES), found.config.proposals
        proposals = rpn_jax.propose(output, anchors, SIZES, config=config)
        return maps, model.head(maps), proposals

    # Proposals from the peer's predictions: rounding that differs between machines
    # exchanges proposals of nearly equal scores.
    maps, output, proposals = run(found.model, expected.output)
    for actual, of_peer in zip(maps, expected.features, strict=True):
        assert_close(actual, of_peer)
    assert_close(output.logits, expected.output.logits)
    assert_close(output.deltas, expected.output.deltas)
    ours = proposals.boxes[0][proposals.valid[0]]
    assert len(expected.boxes) > 100
    np.testing.assert_allclose(ours, expected.boxes, rtol=0, atol=0.01)


def test_vgg16_gives_the_same_features_and_goes_back_to_its_classifier(photograph):
    path = folder("RPN_JAX_WEIGHTS") / "vgg16_conv_hwio.npz"
    model = make_model(default_anchors("vgg16"), backbone="vgg16", rngs=nnx.Rngs(0))
    report = load_weights(model, path)
    assert report.system == "vgg16_layers"
    assert all(name.startswith("head.") for name in report.missing)
    written = {
        name.removeprefix("features."): torch.from_numpy(value.copy())
        for name, value in export_weights(model, "torchvision_features").items()
    }
    peer = models.vgg16(weights=None).features[:30]
    peer.load_state_dict(written, strict=True)
    with torch.no_grad():
        expected = peer(normalize(photograph))
    run = jax.jit(functools.partial(type(model).features, images=photograph))
    assert_close(run(model, image_sizes=SIZES)[0], to_numpy([expected])[0])
