"""The commands that read weights of other systems."""

import json
import tracemalloc

import numpy as np
import pytest
from PIL import Image
from support.foreign_layouts import random_weights
from support.foreign_tiny import tiny_weights

from rpn_jax import cli
from rpn_jax.models.interop import (
    make_foreign_model,
    read_checkpoint,
    read_tensors,
    write_tensors,
)
from rpn_jax.models.interop.foreign_checkpoint import to_system, translate
from rpn_jax.models.interop.network_shapes import num_anchors


def convert(source, target, *options):
    arguments = ["convert", "--from", str(source), "--to", str(target), *options]
    assert cli.main(arguments) == 0
    return target


def test_a_missing_tensor_is_named(tmp_path):
    weights = random_weights("detectron2_fpn")
    del weights["backbone.bottom_up.res4.5.conv2.weight"]
    write_tensors(tmp_path / "model.pkl", weights)
    with pytest.raises(ValueError, match=r"missing are .*body.layer3.5.conv2.kernel"):
        make_foreign_model(read_checkpoint(tmp_path / "model.pkl"))


def test_a_tensor_of_another_shape_is_named_as_the_file_has_it(tmp_path, capsys):
    weights = random_weights("detectron2_fpn")
    weights["backbone.fpn_lateral3.weight"] = np.ones((256, 9, 1, 1), np.float32)
    write_tensors(tmp_path / "model.pkl", weights)
    source, target = str(tmp_path / "model.pkl"), str(tmp_path / "out.npz")
    assert cli.main(["convert", "--from", source, "--to", target]) == 1
    error = capsys.readouterr().err
    expected = (
        "fpn_lateral3.weight needs the shape (256, 512, 1, 1), got (256, 9, 1, 1)"
    )
    assert expected in error
    assert error.count("\n") == 1


def test_the_wrong_system_is_refused(tmp_path):
    write_tensors(tmp_path / "model.npz", random_weights("mmdetection"))
    with pytest.raises(ValueError, match="needs all weights|No tensor has a name of"):
        make_foreign_model(read_checkpoint(tmp_path / "model.npz", "detectron2_fpn"))


def test_names_without_a_place_and_systems_that_do_not_exist_are_refused():
    lateral = {"backbone.fpn.inner_blocks.0.0.weight": np.zeros((8, 4, 1, 1))}
    checkpoint = translate(lateral, "torchvision")
    with pytest.raises(ValueError, match=r"vgg16 has no name for .*Choose a system"):
        to_system(checkpoint, "jwyang_vgg16")
    with pytest.raises(ValueError, match=r"no system 'caffe'\. Choose from"):
        to_system(checkpoint, "caffe")
    with pytest.raises(ValueError, match="No tensor has a name of mmdetection"):
        translate({"strange.weight": np.zeros(3)}, "mmdetection")


def test_a_single_number_in_place_of_two_logits_is_left_to_the_check_of_shapes():
    weights = {"RCNN_rpn.RPN_cls_score.bias": np.zeros(())}
    found = translate(weights, "jwyang_vgg16").tensors
    assert found["head.logits.bias"].shape == ()


def test_a_damaged_head_with_very_many_anchors_is_refused():
    damaged = np.broadcast_to(np.float32(0), (4_000_000, 8, 1, 1))
    checkpoint = translate({"rpn.head.bbox_pred.weight": damaged}, "torchvision")
    with pytest.raises(ValueError, match=r"anchors per cell, got 1000000\. Choose"):
        num_anchors(checkpoint)


@pytest.mark.parametrize("ending", [".safetensors", ".pkl"])
def test_conversion_takes_less_than_twice_the_memory_of_the_weights(tmp_path, ending):
    weights = random_weights("jwyang_vgg16")
    size = sum(x.nbytes for x in weights.values())
    write_tensors(tmp_path / "start.safetensors", weights)
    source, target = tmp_path / "start.safetensors", tmp_path / f"end{ending}"
    tracemalloc.start()
    try:
        convert(source, target, "--system", "jwyang_vgg16")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size < peak < 1.5 * size


def test_weights_go_through_all_kinds_of_files_and_back_bit_for_bit(tmp_path):
    weights = random_weights("jwyang_vgg16")
    start = tmp_path / "start.npz"
    write_tensors(start, weights)
    here = convert(start, tmp_path / "here.safetensors")
    back = convert(here, tmp_path / "back.pkl", "--system", "jwyang_vgg16")
    found = read_tensors(back)
    assert found.keys() == weights.keys()
    for name, value in weights.items():
        np.testing.assert_array_equal(found[name], value)
    # A file of this library keeps the system, and so the preprocessing.
    assert read_checkpoint(here).system == "jwyang_vgg16"


def test_a_whole_detector_is_written_over_a_base(tmp_path):
    base = {k: np.zeros_like(v) for k, v in tiny_weights().items()}
    base["roi_heads.fc.weight"] = np.ones((2, 2), np.float32)
    write_tensors(tmp_path / "base.npz", base)
    write_tensors(tmp_path / "start.npz", tiny_weights())
    options = ("--system", "torchvision", "--base", str(tmp_path / "base.npz"))
    found = read_tensors(
        convert(tmp_path / "start.npz", tmp_path / "whole.safetensors", *options)
    )
    assert found.keys() == base.keys()
    np.testing.assert_array_equal(found["roi_heads.fc.weight"], np.ones((2, 2)))
    for name, value in tiny_weights().items():
        np.testing.assert_array_equal(found[name], value)


def test_the_settings_that_another_system_needs_are_reported(tmp_path, capsys):
    write_tensors(tmp_path / "start.npz", random_weights("detectron2_fpn"))
    convert(tmp_path / "start.npz", tmp_path / "there.npz", "--system", "torchvision")
    said = capsys.readouterr().out
    assert "needs stride_in_1x1 True instead of False" in said
    assert "order='BGR'" in said


def test_propose_reads_a_file_of_another_system(tmp_path, capsys):
    write_tensors(tmp_path / "tiny.safetensors", tiny_weights())
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    weights, images = str(tmp_path / "tiny.safetensors"), str(tmp_path / "image.png")
    out = str(tmp_path / "out")
    options = ["--images", images, "--out", out, "--drawn", "0", "--batch-size", "1"]
    assert cli.main(["propose", "--weights", weights, *options]) == 0
    found = json.loads((tmp_path / "out" / "proposals.json").read_text())
    assert len(found) > 10
    x, y, width, height = np.array([row["bbox"] for row in found]).T
    assert x.min() >= 0
    assert (x + width).max() <= 60.01
    assert (y + height).max() <= 40.01
    printed = capsys.readouterr()
    said = printed.out + printed.err
    assert f"Loaded {len(tiny_weights())} tensors" in said
    assert "left out none; missing none" in said


def test_propose_needs_one_of_run_and_weights(tmp_path, capsys):
    Image.new("RGB", (8, 8)).save(tmp_path / "image.png")
    assert cli.main(["propose", "--images", str(tmp_path / "image.png")]) == 1
    assert "needs either --run" in capsys.readouterr().err


def test_a_classifier_cannot_propose_and_says_what_to_do(tmp_path):
    weights = {
        name.removeprefix("backbone."): value
        for name, value in random_weights("mmdetection").items()
        if name.startswith("backbone.")
    }
    write_tensors(tmp_path / "resnet50.npz", weights)
    checkpoint = read_checkpoint(tmp_path / "resnet50.npz")
    assert checkpoint.system == "torchvision_resnet"
    with pytest.raises(ValueError, match="a classifier: it has no RPN"):
        make_foreign_model(checkpoint)
