"""What a file says beside its weights decides, or is refused."""

import numpy as np
import pytest
from support.foreign_files import write_archive
from support.foreign_layouts import LAYOUTS, random_weights

from rpn_jax import cli
from rpn_jax.models.interop import (
    SYSTEMS,
    read_checkpoint,
    rules_of,
    write_tensors,
)
from rpn_jax.models.interop.file_facts import facts_of, system_with_facts

CELLS = "proposal_generator.anchor_generator.cell_anchors"


def cells(sizes, ratios):
    """detectron2's `generate_cell_anchors` of every level."""
    found = {}
    for i, level in enumerate(sizes):
        sides = np.array([(s / r**0.5, s * r**0.5) for s in level for r in ratios])
        found[f"{CELLS}.{i}"] = np.hstack([-sides, sides]).astype(np.float32) / 2
    return found


USUAL = tuple((float(size),) for size in (32, 64, 128, 256, 512))


def test_the_usual_cell_anchors_of_detectron2_change_nothing(tmp_path):
    tensors = random_weights("detectron2_fpn") | cells(USUAL, (0.5, 1.0, 2.0))
    write_tensors(tmp_path / "model.pkl", tensors)
    checkpoint = read_checkpoint(tmp_path / "model.pkl")
    assert checkpoint.anchors is None
    preset = SYSTEMS["detectron2_fpn"].preset
    assert preset is not None
    assert rules_of(checkpoint) == preset()


def test_other_cell_anchors_are_used_and_survive_conversion(tmp_path, capsys):
    sizes, ratios = tuple((s / 2,) for (s,) in USUAL), (0.25, 1.0, 4.0)
    path = tmp_path / "model.pkl"
    write_tensors(path, random_weights("detectron2_fpn") | cells(sizes, ratios))
    files = ["--from", str(path), "--to", str(tmp_path / "ours.npz")]
    assert cli.main(["convert", *files]) == 0
    said = capsys.readouterr().out
    assert "The file has anchors of its own: sizes ((16.0,), (32.0,)" in said
    for source in (path, tmp_path / "ours.npz"):
        anchors = rules_of(read_checkpoint(source)).anchors
        assert anchors.level_sizes == sizes
        assert anchors.aspect_ratios == ratios
        assert anchors.cell_order == "size_major"


def test_cell_anchors_that_no_settings_make_are_refused(tmp_path):
    odd = cells(USUAL, (0.5, 1.0, 2.0))
    odd[f"{CELLS}.2"] = odd[f"{CELLS}.2"] + np.float32(3.0)
    write_tensors(tmp_path / "model.pkl", random_weights("detectron2_fpn") | odd)
    with pytest.raises(ValueError, match="model.pkl: its cell_anchors .* AnchorConfig"):
        read_checkpoint(tmp_path / "model.pkl")


@pytest.mark.parametrize("shape", [(), (3,), (0, 4), (2, 3)])
def test_cell_anchors_that_are_no_boxes_say_nothing(shape):
    assert facts_of({f"{CELLS}.0": np.zeros(shape)}, "").anchors is None


def test_pixel_statistics_decide_between_systems_of_the_same_names():
    def found(mean, std):
        tensors = {
            name: np.array(x, np.float32).reshape(3, 1, 1)
            for name, x in (("pixel_mean", mean), ("pixel_std", std))
        }
        return system_with_facts("detectron2_fpn", facts_of(tensors, ""))

    bgr, rgb = (103.53, 116.28, 123.675), (123.675, 116.28, 103.53)
    assert found(bgr, (1.0, 1.0, 1.0)) == "detectron2_fpn"
    assert found(rgb, (58.395, 57.12, 57.375)) == "detectron2_rgb"
    with pytest.raises(ValueError, match=r"another standard deviation .*57.375.* than"):
        found(bgr, (57.375, 57.12, 58.395))


CONFIG = """
model = dict(
    backbone=dict(depth=50, style='{style}', type='ResNet'),
    data_preprocessor=dict(mean={mean}, std={std}, pad_size_divisor=32),
    rpn_head=dict(
        anchor_generator=dict(
            ratios=[0.5, 1.0, 2.0], scales=[{scale}], strides=[4, 8, 16, 32, 64],
            type='AnchorGenerator'),
        bbox_coder=dict(target_means=[0.0, 0.0, 0.0, 0.0])))
"""
CAFFE = {
    "style": "caffe",
    "mean": "[103.53, 116.28, 123.675]",
    "std": "[1.0, 1.0, 1.0]",
}
PYTORCH = {
    "style": "pytorch",
    "mean": "[123.675, 116.28, 103.53]",
    "std": "[58.395, 57.12, 57.375]",
}


@pytest.mark.parametrize("key", ["cfg", "config"])
@pytest.mark.parametrize(
    ("settings", "scale", "system"),
    [(PYTORCH, 8, "mmdetection"), (CAFFE, 8, "mmdetection_caffe"), (CAFFE, 4, None)],
)
def test_the_configuration_of_mmdetection_decides(
    tmp_path, key, settings, scale, system
):
    weights = {
        name: np.broadcast_to(np.float32(0), shape)
        for name, shape in LAYOUTS["mmdetection"].items()
    }
    text = CONFIG.format(scale=scale, **settings)
    content = {"meta": {key: text, "epoch": 12}, "state_dict": weights}
    checkpoint = read_checkpoint(write_archive(tmp_path / "epoch_12.pth", content))
    assert checkpoint.system == (system or "mmdetection_caffe")
    sizes = rules_of(checkpoint).anchors.level_sizes
    assert sizes == tuple((scale * stride,) for stride in (4.0, 8, 16, 32, 64))


def test_a_configuration_that_no_system_has_is_refused():
    facts = facts_of({}, CONFIG.format(scale=8, **(CAFFE | {"style": "pytorch"})))
    with pytest.raises(ValueError, match="another stride|another pixel mean"):
        system_with_facts("mmdetection", facts)
