"""Weights of detectron2, mmdetection and faster-rcnn.pytorch."""

import functools

import jax
import numpy as np
import pytest
from flax import nnx
from foreign_layouts import BLOCKS, LAYOUTS, random_weights

from rpn_jax.models import make_model
from rpn_jax.models.interop import (
    SYSTEMS,
    export_weights,
    guess_system,
    import_weights,
    make_foreign_model,
    to_system,
    translate,
)
from rpn_jax.models.interop.network import backbone_of, rules_of
from rpn_jax.train.state import grid_for

BACKBONES = {
    "detectron2_fpn": "resnet50_fpn",
    "detectron2_fpn of 101 layers": "resnet101_fpn",
    "detectron2_c4": "resnet50_c4",
    "mmdetection": "resnet50_fpn",
    "jwyang_vgg16": "vgg16",
    "jwyang_resnet": "resnet101_c4",
}
SHAPE = (66, 95)  # the stem makes 33 x 48 of it: odd and even
SIZES = np.array([SHAPE], np.float32)
IMAGES = np.random.default_rng(0).integers(0, 256, (1, *SHAPE, 3), dtype=np.uint8)


def system_of(layout):
    return layout.split(" ")[0]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_tensor_of_a_layout_finds_its_place_and_goes_back(layout):
    weights, system = random_weights(layout), system_of(layout)
    rest = {"roi_heads.fc.weight": np.ones((2, 2), np.float32)}
    assert guess_system(weights | rest) == system
    checkpoint = translate(weights | rest, system)
    assert checkpoint.left_out == ("roi_heads.fc.weight",)
    assert backbone_of(checkpoint) == BACKBONES[layout]
    written = to_system(checkpoint, system)
    assert written.keys() == weights.keys()
    for name, value in weights.items():
        np.testing.assert_array_equal(written[name], value)


def bgr(mean):
    return IMAGES[..., ::-1].astype(np.float32) - np.array(mean, np.float32)


class Peer:
    """The networks as their authors wrote them, in terms of torch's functions."""

    def __init__(self, torch, weights):
        self.f = torch.nn.functional
        self.weights = {k: torch.tensor(v) for k, v in weights.items()}

    def conv(self, x, name, stride=1):
        weight = self.weights[f"{name}.weight"]
        bias = self.weights.get(f"{name}.bias")
        return self.f.conv2d(x, weight, bias, stride, weight.shape[-1] // 2)

    def norm(self, x, name):
        leaves = ("running_mean", "running_var", "weight", "bias")
        return self.f.batch_norm(
            x, *(self.weights[f"{name}.{leaf}"] for leaf in leaves)
        )

    def stage(self, x, name, number, stride, norm, shortcut):
        """Bottlenecks that stride in their first 1x1."""
        for i in range(number):
            block, stride = f"{name}.{i}", stride if i == 0 else 1
            y = x
            for n, step in ((1, stride), (2, 1), (3, 1)):
                y = self.conv(y, f"{block}.conv{n}", step)
                y = self.norm(y, norm.format(block=block, n=n))
                y = y.relu() if n < 3 else y
            if i == 0:
                x = self.conv(x, f"{block}.{shortcut[0]}", stride)
                x = self.norm(x, f"{block}.{shortcut[1]}")
            x = (x + y).relu()
        return x

    def head(self, x, conv, logits, deltas):
        x = self.conv(x, conv).relu()
        return self.conv(x, logits), self.conv(x, deltas)


def channels_last(x):
    return x.permute(0, 2, 3, 1).numpy()


def run_detectron2(torch, weights):
    peer = Peer(torch, weights)
    x = torch.tensor(bgr((103.530, 116.280, 123.675))).permute(0, 3, 1, 2)
    x = peer.norm(peer.conv(x, "backbone.bottom_up.stem.conv1", 2), STEM_NORM).relu()
    x, maps = peer.f.max_pool2d(x, kernel_size=3, stride=2, padding=1), []
    for i, number in enumerate(BLOCKS[50]):
        name, parts = f"backbone.bottom_up.res{i + 2}", ("shortcut", "shortcut.norm")
        norm = "{block}.conv{n}.norm"
        x = peer.stage(x, name, number, 1 if i == 0 else 2, norm, parts)
        maps.append(x)
    levels, top = [], None
    for i in (5, 4, 3, 2):
        lateral = peer.conv(maps[i - 2], f"backbone.fpn_lateral{i}")
        if top is not None:
            # detectron2 pads images to multiples of 32; here maps may be odd.
            lateral += peer.f.interpolate(top, size=lateral.shape[2:], mode="nearest")
        top = lateral
        levels.insert(0, peer.conv(top, f"backbone.fpn_output{i}"))
    levels.append(peer.f.max_pool2d(levels[-1], kernel_size=1, stride=2))
    names = (f"proposal_generator.rpn_head.{x}" for x in HEAD)
    names = list(names)
    found = [peer.head(level, *names) for level in levels]
    logits = np.concatenate([channels_last(x).reshape(-1) for x, _ in found])
    deltas = np.concatenate([channels_last(x).reshape(-1, 4) for _, x in found])
    return [channels_last(x) for x in levels], logits, deltas


STEM_NORM = "backbone.bottom_up.stem.conv1.norm"
HEAD = ("conv", "objectness_logits", "anchor_deltas")


def jwyang_outputs(torch, peer, x):
    """Its softmax pairs channel `a` with channel `A + a`."""
    names = ("RPN_Conv", "RPN_cls_score", "RPN_bbox_pred")
    scores, deltas = peer.head(x, *(f"RCNN_rpn.{name}" for name in names))
    pairs = torch.stack(scores.chunk(2, dim=1), dim=-1)  # 1 A h w 2
    logits = pairs.permute(0, 2, 3, 1, 4).reshape(-1, 2).numpy()
    return [channels_last(x)], logits, channels_last(deltas).reshape(-1, 4)


def run_jwyang_vgg16(torch, weights):
    peer = Peer(torch, weights)
    x = torch.tensor(bgr((102.9801, 115.9465, 122.7717))).permute(0, 3, 1, 2)
    for i in (0, 2, "pool", 5, 7, "pool", 10, 12, 14, "pool", 17, 19, 21, "pool"):
        x = peer.f.max_pool2d(x, 2) if i == "pool" else step(peer, x, i)
    for i in (24, 26, 28):
        x = step(peer, x, i)
    return jwyang_outputs(torch, peer, x)


def step(peer, x, i):
    return peer.conv(x, f"RCNN_base.{i}").relu()


def run_jwyang_resnet(torch, weights):
    peer = Peer(torch, weights)
    x = torch.tensor(bgr((102.9801, 115.9465, 122.7717))).permute(0, 3, 1, 2)
    x = peer.norm(peer.conv(x, "RCNN_base.0", 2), "RCNN_base.1").relu()
    x = peer.f.max_pool2d(x, kernel_size=3, stride=2, padding=0, ceil_mode=True)
    for i, number in enumerate(BLOCKS[101][:3]):
        parts = ("downsample.0", "downsample.1")
        name, norm = f"RCNN_base.{i + 4}", "{block}.bn{n}"
        x = peer.stage(x, name, number, 1 if i == 0 else 2, norm, parts)
    return jwyang_outputs(torch, peer, x)


@functools.cache
def make_ours(layout):
    return make_foreign_model(translate(random_weights(layout), system_of(layout)))


def assert_close(actual, expected):
    assert actual.shape == expected.shape
    scale = np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4 * scale)


@pytest.mark.parametrize(
    ("layout", "run_peer"),
    [
        ("detectron2_fpn", run_detectron2),
        ("jwyang_vgg16", run_jwyang_vgg16),
        ("jwyang_resnet", run_jwyang_resnet),
    ],
)
def test_the_same_image_gives_the_same_features_and_predictions(layout, run_peer):
    torch = pytest.importorskip("torch")
    found = make_ours(layout)
    with torch.no_grad():
        features, logits, deltas = run_peer(torch, random_weights(layout))

    @jax.jit
    def run(model):
        maps = model.features(IMAGES, SIZES)
        return maps, model.head(maps)

    maps, output = run(found.model)
    for actual, expected in zip(maps, features, strict=True):
        assert_close(actual, expected)
    assert_close(output.logits[0], logits)
    assert_close(output.deltas[0], deltas)
    assert len(grid_for(found.model, found.config.anchors, SHAPE)) == len(deltas)


def test_channels_of_the_c4_head_are_in_the_order_of_its_anchors():
    """detectron2 makes 15 anchors of a cell size by size, ratio by ratio."""
    checkpoint = translate(random_weights("detectron2_c4"), "detectron2_c4")
    config = rules_of(checkpoint)
    rows = checkpoint.tensors["head.deltas.kernel"][0, 0].T  # 60 channels
    theirs = random_weights("detectron2_c4")
    name = "proposal_generator.rpn_head.anchor_deltas.weight"
    np.testing.assert_array_equal(rows, theirs[name][:, :, 0, 0])
    assert config.anchors.cell_order == "size_major"
    assert config.anchors.anchors_per_cell * 4 == len(rows)


def test_mmdetection_and_torchvision_weights_are_one_network_under_two_names():
    ours = make_ours("mmdetection").model
    written = export_weights(ours, "torchvision")
    theirs = random_weights("mmdetection")
    for name, other in (
        ("backbone.body.layer3.5.bn2.running_var", "backbone.layer3.5.bn2.running_var"),
        ("backbone.fpn.layer_blocks.3.0.weight", "neck.fpn_convs.3.conv.weight"),
        ("rpn.head.conv.0.0.bias", "rpn_head.rpn_conv.bias"),
        ("rpn.head.bbox_pred.weight", "rpn_head.rpn_reg.weight"),
    ):
        np.testing.assert_array_equal(written[name], theirs[other])
    assert len(written) == len(theirs)


def test_a_network_that_sees_images_otherwise_is_refused():
    checkpoint = translate(random_weights("jwyang_vgg16"), "jwyang_vgg16")
    anchors = rules_of(checkpoint).anchors
    model = make_model(anchors, backbone="vgg16", num_logits=2, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="weights of jwyang_vgg16, which expect"):
        import_weights(model, checkpoint)


def test_preprocessing_and_strides_go_with_the_weights():
    model = make_ours("jwyang_vgg16").model
    assert model.preprocessing.order == "BGR"
    assert SYSTEMS["detectron2_fpn"].preprocessing.order == "BGR"
    assert SYSTEMS["detectron2_fpn"].stride_in_1x1
    assert not SYSTEMS["mmdetection"].stride_in_1x1
