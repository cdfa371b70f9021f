"""Backbones against torchvision's, with the same weights."""

import os
import pathlib

import jax
import numpy as np
import pytest
from flax import nnx

from rpn_jax.models import (
    BACKBONES,
    BackboneConfig,
    default_anchors,
    export_weights,
    load_weights,
    make_model,
)

torch = pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")
LAYERS = [f"layer{i}" for i in range(1, 5)]


def randomize(model, seed=0):
    """Adds random numbers to norms and biases, which would be 1 or 0 otherwise."""
    rng = np.random.default_rng(seed)
    for path, variable in nnx.iter_graph(model):
        if isinstance(variable, nnx.Variable) and path[-1] != "kernel":
            noise = 0.2 * rng.standard_normal(variable[...].shape).astype(np.float32)
            variable[...] = variable[...] + np.abs(noise)


def make_peer(name):
    """Makes torchvision's `BackboneWithFPN`, or the layers up to the only map."""
    frozen = torchvision.ops.FrozenBatchNorm2d
    if name == "vgg16":
        return torchvision.models.vgg16(weights=None).features[:30]
    if name == "mobilenet_v2_fpn":
        trunk = torchvision.models.mobilenet_v2(weights=None, norm_layer=frozen)
        return pyramid(trunk.features, ["3", "6", "13", "17"], (24, 32, 96, 320))
    if name == "mobilenet_v3_large_fpn":
        trunk = torchvision.models.mobilenet_v3_large(weights=None, norm_layer=frozen)
        return pyramid(trunk.features, ["13", "16"], (160, 960))
    depth = int(name.removeprefix("resnet").split("_")[0])
    make = getattr(torchvision.models, f"resnet{depth}")
    trunk = make(weights=None, norm_layer=frozen)
    if name.endswith("_c4"):
        getter = torchvision.models._utils.IntermediateLayerGetter
        return getter(trunk, {"layer3": "0"})
    widths = np.array([64, 128, 256, 512]) * (4 if depth >= 50 else 1)
    return pyramid(trunk, LAYERS, widths.tolist())


def pyramid(trunk, layers, widths):
    build = torchvision.models.detection.backbone_utils.BackboneWithFPN
    return build(trunk, {x: str(i) for i, x in enumerate(layers)}, list(widths), 256)


def run_peer(peer, images):
    with torch.no_grad():
        maps = peer.eval()(torch.tensor(images).permute(0, 3, 1, 2))
    maps = list(maps.values()) if isinstance(maps, dict) else [maps]
    return [x.permute(0, 2, 3, 1).numpy() for x in maps]


def peer_weights(model, name):
    prefix = "backbone." if name.endswith("_fpn") else "backbone.body."
    return {
        theirs.removeprefix(prefix): torch.tensor(value.copy())
        for theirs, value in export_weights(model, "torchvision").items()
        if theirs.startswith("backbone.")
    }


def assert_close(actual, expected):
    assert [x.shape for x in actual] == [x.shape for x in expected]
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(b).max())


PEERS = [name for name in BACKBONES if name != "tiny_fpn"]


@pytest.mark.parametrize("name", PEERS)
def test_features_of_odd_images_equal_torchvision(name):
    model = make_model(default_anchors(name), backbone=name, rngs=nnx.Rngs(0))
    randomize(model)
    peer = make_peer(name)
    peer.load_state_dict(peer_weights(model, name), strict=True)
    images = np.random.default_rng(1).standard_normal((1, 45, 71, 3), np.float32)
    maps = jax.jit(lambda model, x: model.backbone(x))(model, images)
    assert_close(maps, run_peer(peer, images))


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("vgg16", "vgg16_conv_hwio.npz"),
        ("mobilenet_v2_fpn", "mobilenet_v2-b0353104.npz"),
    ],
)
def test_features_of_pretrained_weights_equal_torchvision(name, file):
    folder = os.environ.get("RPN_JAX_WEIGHTS")
    if not folder:
        pytest.skip("RPN_JAX_WEIGHTS does not name the folder with the weights")
    model = make_model(default_anchors(name), backbone=name, rngs=nnx.Rngs(0))
    report = load_weights(model, pathlib.Path(folder) / file)
    assert not [x for x in report.missing if x.startswith("backbone.body")]
    peer = make_peer(name)
    peer.load_state_dict(pretrained(pathlib.Path(folder) / file), strict=False)
    if name == "mobilenet_v2_fpn":
        weights = peer_weights(model, name)
        pyramid_weights = {k: v for k, v in weights.items() if k.startswith("fpn")}
        peer.load_state_dict(pyramid_weights, strict=False)
    images = np.random.default_rng(1).integers(0, 256, (1, 45, 71, 3), dtype=np.uint8)
    sizes = np.array([[45, 71]], np.float32)
    maps = jax.jit(lambda model, x: model.features(x, sizes))(model, images)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    normal = ((images / 255 - mean) / std).astype(np.float32)
    assert_close(maps, run_peer(peer, normal))


def pretrained(path):
    """The file as the peer's state dict, read without the library."""
    with np.load(path) as file:
        arrays = {name: np.asarray(file[name], np.float32) for name in file}
    if "conv1_1/kernel" not in arrays:
        return {
            name.replace("features.", "body."): torch.tensor(value)
            for name, value in arrays.items()
        }
    convs = [i for i, x in enumerate(make_peer("vgg16")) if hasattr(x, "weight")]
    layers = dict.fromkeys(name.split("/")[0] for name in sorted(arrays))
    state = {}
    for i, layer in zip(convs, layers, strict=True):
        kernel = arrays[f"{layer}/kernel"].transpose(3, 2, 0, 1)
        state[f"{i}.weight"] = torch.tensor(kernel.copy())
        state[f"{i}.bias"] = torch.tensor(arrays[f"{layer}/bias"])
    return state


def test_stride_in_the_first_1x1_equals_a_peer_with_its_strides_moved():
    name = "resnet50_c4"
    backbone = BackboneConfig(name=name, stride_in_1x1=True)
    model = make_model(default_anchors(name), backbone=backbone, rngs=nnx.Rngs(0))
    randomize(model)
    peer = make_peer(name)
    peer.load_state_dict(peer_weights(model, name), strict=True)
    for layer in (peer["layer2"], peer["layer3"]):
        layer[0].conv1.stride, layer[0].conv2.stride = (2, 2), (1, 1)
    images = np.random.default_rng(1).standard_normal((1, 45, 71, 3), np.float32)
    maps = jax.jit(lambda model, x: model.backbone(x))(model, images)
    assert_close(maps, run_peer(peer, images))
