"""A guess of the system explains a complete network, or is refused."""

import importlib

import numpy as np
import pytest
from support.foreign_layouts import random_weights
from support.foreign_tiny import tiny_weights

from rpn_jax import cli
from rpn_jax.models.interop import (
    guess_system,
    read_checkpoint,
    translate,
    write_tensors,
)


def without(layout, *words):
    return {
        name: value
        for name, value in random_weights(layout).items()
        if not any(word in name for word in words)
    }


def test_detectors_without_an_rpn_are_refused_with_the_nearest_systems(tmp_path):
    """RetinaNet and FCOS have the same backbone and pyramid, and another head."""
    for layout, head, misses in (
        ("mmdetection", "bbox_head.retina_cls.weight", "rpn_head.rpn_conv"),
        ("detectron2_fpn", "head.cls_score.weight", "proposal_generator.rpn_head.conv"),
    ):
        tensors = without(layout, "rpn_head") | {head: np.ones((9, 256, 3, 3), "f4")}
        write_tensors(tmp_path / "retina.npz", tensors)
        with pytest.raises(ValueError, match="no complete network") as info:
            read_checkpoint(tmp_path / "retina.npz")
        assert f"{layout} explains" in str(info.value)
        assert f"it misses {misses}" in str(info.value)
        assert "\n" not in str(info.value)


def test_a_detector_on_another_backbone_is_refused(tmp_path, capsys):
    """torchvision's tutorial puts MobileNetV2 under `backbone.0` and so on."""
    tensors = {}
    for i in range(18):
        tensors[f"backbone.{i}.0.weight"] = np.ones((8, 8, 1, 1), np.float32)
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            tensors[f"backbone.{i}.1.{leaf}"] = np.ones(8, np.float32)
    tensors |= {x: value for x, value in tiny_weights().items() if x.startswith("rpn.")}
    write_tensors(tmp_path / "mobile.npz", tensors)
    source, target = str(tmp_path / "mobile.npz"), str(tmp_path / "out.npz")
    assert cli.main(["convert", "--from", source, "--to", target]) == 1
    said = capsys.readouterr().err
    assert "rpn_jax explains" in said
    assert "but its backbone is unknown" in said
    assert not (tmp_path / "out.npz").exists()


@pytest.mark.parametrize(
    "extra", ["backbone.layer2.{}.conv2.conv_offset.weight", "neck.bottom_up.{}.weight"]
)
def test_a_network_with_further_layers_is_refused(tmp_path, extra):
    """Deformable convolutions and further paths change what the other layers mean."""
    layers = {extra.format(i): np.ones((4, 4, 3, 3), np.float32) for i in range(4)}
    write_tensors(tmp_path / "more.npz", random_weights("mmdetection") | layers)
    with pytest.raises(ValueError, match="its network has no place for 4 tensors"):
        read_checkpoint(tmp_path / "more.npz")


def test_convolutions_in_groups_are_refused_by_their_shapes(tmp_path):
    tensors = random_weights("mmdetection")
    for name, value in tensors.items():
        if name.endswith(".conv2.weight"):
            tensors[name] = np.ones((2 * len(value), 4, 3, 3), np.float32)
        elif ".bn2." in name:
            tensors[name] = np.ones(2 * len(value), np.float32)
    write_tensors(tmp_path / "next.npz", tensors)
    with pytest.raises(ValueError, match=r"mmdetection explains .*, but other shapes"):
        read_checkpoint(tmp_path / "next.npz")


def test_a_classifier_in_a_whole_is_guessed_and_an_incomplete_one_is_not(tmp_path):
    weights = random_weights("detectron2_torchvision")
    assert translate(weights, "detectron2_torchvision").left_out == ()
    half = {x: weights[x] for i, x in enumerate(weights) if i % 2}
    half |= {x: weights[x] for x in weights if x.startswith("res4.")}
    write_tensors(tmp_path / "half.npz", half)
    with pytest.raises(
        ValueError, match="detectron2_torchvision explains .* it misses"
    ):
        read_checkpoint(tmp_path / "half.npz")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("fasterrcnn_resnet50_fpn_v2", "torchvision"),
        ("maskrcnn_resnet50_fpn", "torchvision"),
        ("keypointrcnn_resnet50_fpn", "torchvision"),
        ("vgg16", "torchvision_features"),
        *((name, None) for name in ("retinanet_resnet50_fpn", "fcos_resnet50_fpn")),
        *((name, None) for name in ("ssd300_vgg16", "ssdlite320_mobilenet_v3_large")),
        *((name, None) for name in ("vgg19", "resnext50_32x4d", "densenet121")),
    ],
)
def test_networks_of_torchvision_are_known_or_refused(name, expected):
    torch = pytest.importorskip("torch")
    pytest.importorskip("torchvision")
    models = importlib.import_module("torchvision.models")
    options = {"weights_backbone": None} if "_fpn" in name or "ssd" in name else {}
    with torch.device("meta"):
        state = models.get_model(name, weights=None, **options).state_dict()
    zero = np.float32(0)
    tensors = {k: np.broadcast_to(zero, tuple(v.shape)) for k, v in state.items()}
    if expected is None:
        with pytest.raises(ValueError, match="are no complete network") as info:
            guess_system(tensors)
        assert f"its {len(tensors)} tensors" in str(info.value)
    else:
        assert guess_system(tensors) == expected
