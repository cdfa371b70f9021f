"""Configuration files of version 0.1.0 mean today what they meant then."""

import dataclasses
import json

import pytest

from rpn_jax import presets
from rpn_jax.train import ResolvedConfig, TrainConfig, read_config, resolve

# As version 0.1.0 wrote it for VGG16, without the fields that are the same today.
OLD = """
{
  "data": "a.json",
  "backbone": "vgg16",
  "frozen_stages": 0,
  "batch_size": 8,
  "lr": 0.001,
  "rpn": {
    "anchors": {
      "sizes": [[128.0, 256.0, 512.0]],
      "strides": [16],
      "aspect_ratios": [0.5, 1.0, 2.0],
      "scales_per_octave": 1,
      "center_offset": 0.0,
      "rounding": "legacy",
      "cell_order": "ratio_major",
      "base_size": 16
    },
    "targets": {
      "positive_iou": 0.7,
      "negative_iou": 0.3,
      "force_match": "ties",
      "min_force_iou": 0.0,
      "retarget_forced": false,
      "clobber_positives": false,
      "allowed_border": 0.0,
      "border_after_matching": false,
      "ignore_padding": false,
      "ignore_iof": null,
      "ignore_wrt_candidates": true,
      "num_samples": 256,
      "positive_fraction": 0.5,
      "pixel_offset": 1.0,
      "delta_weights": [1.0, 1.0, 1.0, 1.0]
    },
    "losses": {
      "normalizer": "batch",
      "box_normalizer": "image",
      "num_samples": 256,
      "box_loss": "smooth_l1",
      "beta": 0.1111111111111111,
      "focal_gamma": null,
      "focal_alpha": 0.25,
      "objectness_positive_weight": null,
      "box_positive_weight": null,
      "inside_weights": [1.0, 1.0, 1.0, 1.0],
      "objectness_weight": 1.0,
      "box_weight": 1.0,
      "delta_weights": [1.0, 1.0, 1.0, 1.0]
    },
    "proposals": {
      "pre_nms_top_k": 6000,
      "post_nms_top_k": 300,
      "train_pre_nms_top_k": 12000,
      "train_post_nms_top_k": 2000,
      "per_level": false,
      "iou_threshold": 0.7,
      "inclusive_threshold": false,
      "min_size": 0.0,
      "exclusive_min_size": false,
      "filter_before_top_k": false,
      "score_threshold": null,
      "pixel_offset": 1.0,
      "delta_weights": [1.0, 1.0, 1.0, 1.0],
      "max_log_scale": 4.135166556742356,
      "symmetric_log_scale": false
    }
  }
}
"""


@pytest.fixture
def read(tmp_path):
    def read(values, kind=ResolvedConfig):
        path = tmp_path / "config.json"
        path.write_text(json.dumps(values))
        return read_config(kind, path)

    return read


def test_a_file_of_legacy_anchors_is_the_preset_with_two_logits(read):
    config = read(json.loads(OLD))
    assert config.rpn == presets.jwyang_vgg16()
    assert config.rpn.num_logits == 2
    assert config.ignore_crowds  # the field is newer than the file


def test_corners_took_their_strides_from_the_image(read):
    old = json.loads(OLD)
    old["rpn"]["anchors"]["rounding"] = "corners"
    rules = read(old).rpn
    assert rules.anchors.strides_from_image
    assert rules.num_logits == 1


def test_new_fields_of_a_file_win(read):
    new = json.loads(OLD)
    new["rpn"]["num_logits"] = 1
    assert read(new).rpn.num_logits == 1
    new["rpn"]["anchors"] |= {"rounding": "corners", "strides_from_image": False}
    assert not read(new).rpn.anchors.strides_from_image


def test_an_old_run_decodes_originals_and_a_file_by_hand_has_the_default(read):
    sizes = {"min_side": 480, "max_side": 800, "size_multiple": 32}
    others = {"scale_jitter": [1.0, 1.0], "flip_probability": 0.5}
    old = sizes | others | {"max_boxes": None, "max_buckets": 3}
    for content, expected in [
        (old, False),
        (sizes, True),
        (old | {"reduced_decoding": True}, True),
    ]:
        pipeline = read({"pipeline": content}).pipeline
        assert pipeline.reduced_decoding == expected
        assert pipeline.min_side == 480


def test_the_trunk_of_an_old_run_has_the_full_learning_rate(read):
    def scale(values):
        config = read({"init_weights": "w.npz"} | values, TrainConfig)
        config = dataclasses.replace(config, weights_system="torchvision")
        return resolve(config).trunk_lr_scale

    old = {"lr": 0.001, "frozen_stages": 2}
    assert scale(old) == 1.0
    assert scale(old | {"trunk_lr_scale": 0.5}) == 0.5
    assert scale(old | {"lr": None}) == scale({}) < 1.0


@pytest.mark.parametrize(
    ("name", "value"),
    [("objectness_positive_weight", 0.5), ("inside_weights", [1.0, 1.0, 2.0, 2.0])],
)
def test_a_removed_field_that_had_an_effect_is_named(read, name, value):
    old = json.loads(OLD)
    old["rpn"]["losses"][name] = value
    with pytest.raises(ValueError, match=f"rpn.losses without {name}"):
        read(old)


def test_a_file_without_rules_is_read_as_it_is(read):
    assert read({"rpn": None, "seed": 3}, TrainConfig) == TrainConfig(seed=3)
    resolved = resolve(read({"preset": "jwyang_vgg16"}, TrainConfig))
    assert resolved.rpn == presets.jwyang_vgg16()
