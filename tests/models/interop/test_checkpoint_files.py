"""Checkpoints as people have them: wrapped, averaged, and with facts beside weights."""

import numpy as np
import pytest
from support.foreign_files import Call, write_archive
from support.foreign_layouts import LAYOUTS, random_weights
from support.foreign_tiny import tiny_weights

from rpn_jax import cli
from rpn_jax.models.interop import (
    SYSTEMS,
    make_foreign_model,
    read_checkpoint,
    read_tensors,
    rules_of,
    translate,
    write_tensors,
)
from rpn_jax.models.interop.file_facts import facts_of, system_with_facts
from rpn_jax.models.interop.published import PUBLISHED

TINY = tiny_weights()


def assert_tiny(tensors):
    assert tensors.keys() == TINY.keys()
    for name, value in TINY.items():
        np.testing.assert_array_equal(tensors[name], value)


def prefixed(prefix, tensors=TINY):
    return {f"{prefix}{name}": value for name, value in tensors.items()}


@pytest.mark.parametrize(
    "prefix",
    [
        *("module.", "model.", "detector.", "net.", "_orig_mod."),
        *(
            "model._orig_mod.",
            "_orig_mod.module.",
            "module.model.",
            "model.net.module.",
        ),
        "_forward_module.model._fsdp_wrapped_module.",
    ],
)
def test_names_are_found_behind_wrappers_in_any_order(tmp_path, prefix):
    assert_tiny(read_tensors(write_archive(tmp_path / "last.pth", prefixed(prefix))))
    lightning = {"state_dict": prefixed(prefix) | {"val_map.total": np.array(3.0)}}
    found = read_tensors(write_archive(tmp_path / "last.ckpt", lightning))
    found.pop("val_map.total", None)  # a metric beside the model
    assert_tiny(found)


def test_a_compiled_part_of_a_model_has_its_usual_names(tmp_path):
    names = {x.replace("backbone.", "backbone._orig_mod."): TINY[x] for x in TINY}
    assert_tiny(read_tensors(write_archive(tmp_path / "compiled.pth", names)))


@pytest.mark.parametrize("key", ["ema_state_dict", "state_dict_ema", "params_ema"])
def test_a_file_with_an_average_alone_gives_it_and_says_so(tmp_path, key):
    path = write_archive(tmp_path / "ema.pth", {key: TINY, "step": 9})
    assert_tiny(read_tensors(path))
    (note,) = read_checkpoint(path).notes
    assert note == f"The file has only the average of a model: {key} was taken."


@pytest.mark.parametrize(
    ("main", "average", "content"),
    [
        ("model", "model_ema", {"model": 1, "model_ema": 2}),
        ("state_dict", "ema_state_dict", {"ema_state_dict": 2, "state_dict": 1}),
        ("params", "params_ema", {"params_ema": 2, "params": 1}),
    ],
)
def test_of_a_model_and_its_average_the_model_is_taken_and_the_other_is_offered(
    tmp_path, main, average, content
):
    factors = {key: {x: f * TINY[x] for x in TINY} for key, f in content.items()}
    path = write_archive(tmp_path / "both.pth", {"epoch": 1} | factors)
    assert_tiny(read_tensors(path))
    (note,) = read_checkpoint(path).notes
    assert f"weights under {main} and under {average}; {main} was taken" in note
    assert f"--from-part {average}" in note
    name = "rpn.head.cls_logits.weight"
    np.testing.assert_array_equal(read_tensors(path, average)[name], 2 * TINY[name])
    with pytest.raises(ValueError, match=f"no part 'other'. .*'{main}', '{average}'"):
        read_tensors(path, "other")


def test_the_average_beside_the_model_in_one_state_dict_is_told_apart(tmp_path):
    doubled = {name: 2 * value for name, value in TINY.items()}
    content = {"state_dict": prefixed("ema_model.", doubled) | prefixed("model.")}
    path = write_archive(tmp_path / "last.ckpt", content)
    assert_tiny(read_tensors(path))
    name = "rpn.head.cls_logits.weight"
    found = read_tensors(path, "state_dict.ema_model")[name]
    np.testing.assert_array_equal(found, 2 * TINY[name])


def test_parts_of_a_detector_that_lie_side_by_side_are_one_model(tmp_path):
    parts = {part: {} for part in ("backbone", "rpn")}
    for name, value in TINY.items():
        part, rest = name.split(".", 1)
        parts[part][rest] = value
    assert_tiny(read_tensors(write_archive(tmp_path / "parts.pth", parts)))


def convert(capsys, source, target, *options):
    arguments = ["--from", str(source), "--to", str(target), *options]
    assert cli.main(["convert", *arguments]) == 0
    return capsys.readouterr().out


def test_convert_takes_the_part_that_is_named(tmp_path, capsys):
    doubled = {name: 2 * value for name, value in TINY.items()}
    content = {"model": TINY, "model_ema": prefixed("module.", doubled)}
    source = write_archive(tmp_path / "both.pth", content)
    target = tmp_path / "out.npz"
    options = ("--system", "torchvision", "--from-part", "model_ema.module")
    said = convert(capsys, source, target, *options)
    assert f"Wrote {len(TINY)} tensors" in said
    name = "rpn.head.cls_logits.weight"
    np.testing.assert_array_equal(read_tensors(target)[name], 2 * TINY[name])


def test_the_counts_that_convert_says_are_those_of_the_file(tmp_path, capsys):
    unused = {
        "backbone.body.1.bn1.num_batches_tracked": np.array(3),
        "roi_heads.box_head.fc6.weight": np.ones((2, 2), np.float32),
        "roi_heads.sparse": Call("torch._utils", "_rebuild_sparse_tensor", ("coo",)),
    }
    source = write_archive(tmp_path / "model.pth", TINY | unused)
    said = convert(capsys, source, tmp_path / "ours.npz")
    assert f"Wrote {len(TINY)} tensors of torchvision" in said
    assert "; 2 were left out (roi_heads.box_head.fc6.weight, roi_heads.sparse" in said
    assert "Left out 1 counters of batch norms" in said
    assert "Left out 1 tensors because it is sparse: roi_heads.sparse." in said
    # The name of the system lies beside the weights and is none of them.
    assert len(read_tensors(tmp_path / "ours.npz")) == len(TINY) + 1
    back = convert(capsys, tmp_path / "ours.npz", tmp_path / "x.npz")
    assert f"Wrote {len(TINY)} tensors of torchvision" in back


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
    assert rules_of(checkpoint) == SYSTEMS["detectron2_fpn"].preset()


def test_other_cell_anchors_are_used_and_survive_conversion(tmp_path, capsys):
    sizes, ratios = tuple((s / 2,) for (s,) in USUAL), (0.25, 1.0, 4.0)
    path = tmp_path / "model.pkl"
    write_tensors(path, random_weights("detectron2_fpn") | cells(sizes, ratios))
    said = convert(capsys, path, tmp_path / "ours.npz")
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


def test_a_configuration_that_no_system_has_is_refused_unless_the_system_is_named():
    facts = facts_of({}, CONFIG.format(scale=8, **(CAFFE | {"style": "pytorch"})))
    with pytest.raises(ValueError, match="another stride|another pixel mean"):
        system_with_facts("mmdetection", facts)


@pytest.mark.parametrize(
    ("digest", "epsilon"),
    [("258fb6c6", 0.0), ("bf2d0c1e", 0.0), ("fc266e95", 0.0), ("907ea3f9", 1e-5)],
)
def test_published_files_have_the_epsilon_that_they_were_trained_with(digest, epsilon):
    assert SYSTEMS[PUBLISHED[digest]].epsilon == epsilon


def test_the_vgg16_of_ssd_expects_pixels_that_are_not_divided():
    expected = SYSTEMS[PUBLISHED["88682ab5"]].preprocessing
    pixel = expected.normalize(
        np.full((1, 1, 1, 3), 200, np.uint8), np.array([[1.0, 1.0]], np.float32)
    )
    mean = 255 * np.array([0.48235, 0.45882, 0.40784])
    np.testing.assert_allclose(pixel[0, 0, 0], 200 - mean, rtol=1e-5)


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
    tensors |= {x: TINY[x] for x in TINY if x.startswith("rpn.")}
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


def test_a_head_with_other_anchors_a_cell_is_said_and_not_used_silently(
    tmp_path, capsys
):
    tensors = dict(TINY)
    for name, number in (("cls_logits", 5), ("bbox_pred", 20)):
        width = tensors[f"rpn.head.{name}.weight"].shape[1]
        tensors[f"rpn.head.{name}.weight"] = np.ones((number, width, 1, 1), np.float32)
        tensors[f"rpn.head.{name}.bias"] = np.ones(number, np.float32)
    write_tensors(tmp_path / "five.npz", tensors)
    said = convert(capsys, tmp_path / "five.npz", tmp_path / "out.npz")
    assert "rpn.head.bbox_pred.weight is for 5 anchors per cell" in said
    with pytest.raises(ValueError, match="is for 5 anchors per cell"):
        make_foreign_model(read_checkpoint(tmp_path / "five.npz"))


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
