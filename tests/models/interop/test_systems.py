"""Weights of detectron2, mmdetection and faster-rcnn.pytorch."""

import functools
import pickle

import numpy as np
import pytest
from support.foreign_layouts import LAYOUTS, random_weights

from rpn_jax.models import make_model
from rpn_jax.models.interop import (
    SYSTEMS,
    export_weights,
    guess_system,
    import_weights,
    load_weights,
    make_foreign_model,
    to_system,
    translate,
)
from rpn_jax.models.interop.foreign_model import rules_of
from rpn_jax.models.interop.network_shapes import backbone_of, variables_of
from rpn_jax.models.shapes_only import shapes_only
from rpn_jax.train import TrainConfig, resolve
from rpn_jax.train.build import build_model

BACKBONES = {
    "detectron2_fpn": "resnet50_fpn",
    "detectron2_fpn of 101 layers": "resnet101_fpn",
    "detectron2_c4": "resnet50_c4",
    "detectron2_msra": "resnet50_c4",
    "detectron2_torchvision": "resnet50_c4",
    "mmdetection": "resnet50_fpn",
    "jwyang_vgg16": "vgg16",
    "jwyang_resnet": "resnet101_c4",
}


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


@functools.cache
def make_ours(layout):
    return make_foreign_model(translate(random_weights(layout), system_of(layout)))


def test_channels_of_the_c4_head_are_in_the_order_of_its_anchors():
    """detectron2 lists the 15 anchors of a cell size by size, then ratio by ratio."""
    checkpoint = translate(random_weights("detectron2_c4"), "detectron2_c4")
    config = rules_of(checkpoint)
    rows = checkpoint.tensors["head.deltas.kernel"][0, 0].T  # 60 channels
    theirs = random_weights("detectron2_c4")
    name = "proposal_generator.rpn_head.anchor_deltas.weight"
    np.testing.assert_array_equal(rows, theirs[name][:, :, 0, 0])
    assert config.anchors.cell_order == "size_major"
    assert config.anchors.anchors_per_cell * 4 == len(rows)


def test_a_head_whose_anchors_no_rules_have_is_refused():
    """torchvision's rules have 15 anchors per cell, but not at the stride of a C4."""
    checkpoint = translate(random_weights("detectron2_c4"), "detectron2_c4")
    written = to_system(checkpoint, "torchvision")
    message = (
        r"15 anchors per cell at strides \(16,\), and torchvision has 3 at .* or 15"
    )
    with pytest.raises(ValueError, match=message):
        rules_of(translate(written, "torchvision"))


def msra_weights():
    """A ResNet-50 under the names of detectron2, and under those of Caffe2."""
    theirs = random_weights("detectron2_torchvision")
    names = dict(zip(LAYOUTS["detectron2_msra"], theirs, strict=True))
    unused = {"conv1_b": np.zeros(64, "f4"), "fc1000_w": np.ones((1000, 2048), "f4")}
    return theirs, {msra: theirs[name] for msra, name in names.items()} | unused


def test_names_of_caffe2_stand_for_the_same_weights_as_those_of_detectron2():
    names, weights = msra_weights()
    prefixed = {f"backbone.bottom_up.{name}": x for name, x in names.items()}
    expected = translate(prefixed, "detectron2_fpn").tensors
    found = translate(weights, "detectron2_msra").tensors
    assert found.keys() - expected.keys() == {"backbone.body.conv1.bias"}
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)
    systems = (SYSTEMS["detectron2_msra"], SYSTEMS["detectron2_fpn"])
    ours, theirs = (system.options("resnet50_fpn") for system in systems)
    assert ours == theirs


def test_training_begins_with_a_file_of_caffe2(tmp_path):
    _, weights = msra_weights()
    path = tmp_path / "R-50.pkl"
    path.write_bytes(pickle.dumps(weights, protocol=2))
    config = resolve(TrainConfig(init_weights=str(path), backbone="resnet50_fpn"))
    assert config.weights_system == "detectron2_msra"
    model = shapes_only(lambda rngs: build_model(config, rngs))
    assert model.preprocessing.order == "BGR"
    report = load_weights(model, path)
    assert set(report.left_out) == {"conv1_b", "fc1000_w"}
    assert len(report.loaded) == len(LAYOUTS["detectron2_msra"])
    assert not any(name.startswith("backbone.body.") for name in report.missing)
    variables, block = dict(variables_of(model)), "backbone.body.layer3.5"
    for ours, theirs in (
        (f"{block}.conv3.kernel", weights["res4_5_branch2c_w"].transpose(2, 3, 1, 0)),
        (f"{block}.bn3.var", weights["res4_5_branch2c_bn_running_var"]),
    ):
        np.testing.assert_array_equal(variables[ours].get_value(), theirs)


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


def test_a_network_with_other_preprocessing_is_refused():
    checkpoint = translate(random_weights("jwyang_vgg16"), "jwyang_vgg16")
    anchors = rules_of(checkpoint).anchors
    make = functools.partial(make_model, anchors, backbone="vgg16", num_logits=2)
    model = shapes_only(lambda rngs: make(rngs=rngs))
    with pytest.raises(ValueError, match="weights of jwyang_vgg16, which expect"):
        import_weights(model, checkpoint)


@pytest.mark.parametrize(
    ("system", "order", "sides", "stride_in_1x1"),
    [
        ("torchvision", "RGB", (800, 1333), False),
        ("torchvision_320", "RGB", (320, 640), False),
        ("detectron2_fpn", "BGR", (800, 1333), True),
        ("detectron2_c4", "BGR", (800, 1333), True),
        ("mmdetection", "RGB", (800, 1333), False),
        ("mmdetection_caffe", "BGR", (800, 1333), True),
        ("jwyang_vgg16", "BGR", (600, 1000), False),
        ("jwyang_resnet", "BGR", (600, 1000), True),
    ],
)
def test_the_settings_for_images_come_with_the_weights(
    system, order, sides, stride_in_1x1
):
    found = SYSTEMS[system]
    backbone = "vgg16" if system == "jwyang_vgg16" else "resnet50_fpn"
    options = found.options(backbone)
    assert options["preprocessing"].order == order
    assert options["backbone"].stride_in_1x1 == stride_in_1x1
    assert (found.min_side, found.max_side) == sides
