"""Checkpoints as people have them: wrapped, averaged, and with facts beside weights."""

import numpy as np
import pytest
from support.foreign_files import Call, write_archive
from support.foreign_tiny import tiny_weights

from rpn_jax import cli
from rpn_jax.models.interop import (
    SYSTEMS,
    make_foreign_model,
    read_checkpoint,
    read_tensors,
    write_tensors,
)
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
    assert (
        "; 2 were left out (roi_heads.box_head.fc6.weight, roi_heads.sparse)." in said
    )
    assert "Counters of batch norms, which nothing uses: 1." in said
    assert "Left out 1 tensor because it is sparse: roi_heads.sparse." in said
    # The name of the system lies beside the weights and is none of them.
    assert len(read_tensors(tmp_path / "ours.npz")) == len(TINY) + 1
    back = convert(capsys, tmp_path / "ours.npz", tmp_path / "x.npz")
    assert f"Wrote {len(TINY)} tensors of torchvision" in back


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
