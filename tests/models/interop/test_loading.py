"""Networks that read their weights from files, and write them."""

import jax
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import save_file
from support.filled import filled_model

from rpn_jax import AnchorConfig
from rpn_jax.models import (
    BackboneConfig,
    export_weights,
    load_weights,
    make_model,
)
from rpn_jax.models.interop import (
    checkpoint_of,
    make_foreign_model,
    read_checkpoint,
    to_system,
    translate,
)


def make(name="tiny_fpn", seed=0, **settings):
    return filled_model(BackboneConfig(name=name, **settings), seed)


def state(model):
    return {path: np.asarray(x[...]) for path, x in nnx.to_flat_state(nnx.state(model))}


def save(path, tensors):
    tensors = {name: np.ascontiguousarray(x) for name, x in tensors.items()}
    if path.suffix == ".npz":
        np.savez(path, allow_pickle=False, **tensors)
    else:
        save_file(tensors, path)
    return path


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_what_is_written_comes_back_bit_for_bit(tmp_path, suffix):
    source, target = (
        make(norm="frozen"),
        make(norm="frozen", seed=1),
    )
    path = save(tmp_path / f"weights{suffix}", export_weights(source, "torchvision"))
    report = load_weights(target, path)
    assert report.left_out == report.missing == ()
    assert len(report.loaded) == len(jax.tree.leaves(nnx.state(source)))
    for name, value in state(source).items():
        np.testing.assert_array_equal(state(target)[name], value)


def test_weights_that_were_read_before_are_loaded_without_their_file(tmp_path):
    source, target = make(), make(seed=1)
    path = save(tmp_path / "weights.npz", export_weights(source, "torchvision"))
    checkpoint = read_checkpoint(path)
    path.unlink()
    report = load_weights(target, checkpoint)
    assert report.left_out == report.missing == ()
    for name, value in state(source).items():
        np.testing.assert_array_equal(state(target)[name], value)


def test_a_classifier_fills_the_trunk_and_the_rest_is_reported(tmp_path):
    source, target = make("resnet18_fpn"), make("resnet18_fpn", 1)
    before = state(target)
    prefix = "backbone.body."
    tensors = {
        name.removeprefix(prefix): value
        for name, value in export_weights(source, "torchvision").items()
        if name.startswith(prefix)
    }
    extra = {"fc.weight": np.ones((10, 512), np.float32)}
    path = save(tmp_path / "resnet18.safetensors", tensors | extra)
    report = load_weights(target, path)
    assert set(report.loaded) == set(tensors)
    assert report.left_out == ("fc.weight",)
    assert len(report.missing) == 16 + 6
    assert "backbone.fpn.inner_blocks.0.0.kernel" in report.missing
    for name, value in state(target).items():
        kept = name[:2] != ("backbone", "body")
        np.testing.assert_array_equal(value, (before if kept else state(source))[name])


def test_a_half_precision_file_becomes_float32(tmp_path):
    tensors = export_weights(make(), "torchvision")
    tensors = {k: v.astype(np.float16) for k, v in tensors.items()}
    target = make(seed=1)
    load_weights(target, save(tmp_path / "half.npz", tensors))
    assert all(x.dtype == np.float32 for x in state(target).values())


def test_a_tensor_of_another_shape_is_named_and_nothing_is_changed(tmp_path):
    target = make(out_features=32)
    before = state(target)
    path = save(tmp_path / "wide.npz", export_weights(make(seed=1), "torchvision"))
    message = r"fpn.inner_blocks.0.0.weight needs the shape \(32, 32, 1, 1\), got \(64,"
    with pytest.raises(ValueError, match=message):
        load_weights(target, path)
    for name, value in state(target).items():
        np.testing.assert_array_equal(value, before[name])


def test_weights_of_another_system_are_refused(tmp_path):
    path = save(tmp_path / "other.npz", {"encoder.weight": np.ones((2, 2))})
    with pytest.raises(ValueError, match="No tensor has a name.*encoder.weight"):
        load_weights(make(), path)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_damaged_missing_and_foreign_files_give_one_clear_line(tmp_path, suffix):
    model, path = make(), tmp_path / f"weights{suffix}"
    with pytest.raises(ValueError, match="There is no file of weights"):
        load_weights(model, path)
    save(path, export_weights(model, "torchvision"))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=f"weights{suffix} cannot be read as weights"):
        load_weights(model, path)
    with pytest.raises(ValueError, match="need a file .safetensors, .npz"):
        load_weights(model, tmp_path / "weights.onnx")


def test_pickled_objects_are_refused(tmp_path):
    path = tmp_path / "weights.npz"
    np.savez(path, evil=np.array([print], dtype=object))
    with pytest.raises(ValueError, match="cannot be read as weights"):
        load_weights(make(), path)


@pytest.mark.parametrize("system", ["rpn_jax", "torchvision"])
def test_weights_keep_every_layer_of_the_head(system):
    narrow = BackboneConfig(name="tiny_fpn", out_features=8)
    model = make_model(
        AnchorConfig(),
        backbone=narrow,
        hidden_features=4,
        num_convs=2,
        num_pointwise=1,
        rngs=nnx.Rngs(0),
    )
    weights = checkpoint_of(model, "torchvision")
    found = make_foreign_model(translate(to_system(weights, system), system))
    assert (found.config.num_convs, found.config.num_pointwise) == (2, 1)
    heads = (nnx.state(x.head) for x in (found.model, model))
    jax.tree.map(np.testing.assert_array_equal, *heads)
