"""Settings: defaults, hashing, and what they refuse."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import pytest

from rpn_jax import AnchorConfig, LossConfig, ProposalConfig, RPNConfig, TargetConfig
from rpn_jax.core.rule_configs import (
    AtssConfig,
    CenternessConfig,
    IouBalanceConfig,
    RegionConfig,
    SimOTAConfig,
    TaskAlignedConfig,
)

FAR, BINS = SimOTAConfig(center_radius=9.0), IouBalanceConfig(num_bins=2)
ALL = [AnchorConfig, TargetConfig, LossConfig, ProposalConfig, RPNConfig]
EVERY_CONFIG = pytest.mark.parametrize("config", ALL)


@EVERY_CONFIG
def test_equal_settings_are_equal_and_hash_alike(config):
    assert config() == config()
    assert hash(config()) == hash(config())


@EVERY_CONFIG
def test_settings_are_frozen(config):
    instance = config()
    field = dataclasses.fields(config)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(instance, field, None)


@EVERY_CONFIG
def test_settings_are_given_by_name(config):
    with pytest.raises(TypeError, match="positional"):
        config(1)


def test_jit_takes_settings_static_and_traces_once_for_equal_ones():
    @functools.partial(jax.jit, static_argnames="config")
    @chex.assert_max_traces(n=1)
    def scaled(x, *, config):
        return x * config.positive_iou

    for _ in range(2):
        scaled(jnp.ones(2), config=TargetConfig())


def test_targets_are_those_of_the_paper_by_default():
    config = TargetConfig()
    assert (config.positive_iou, config.negative_iou) == (0.7, 0.3)
    assert (config.num_samples, config.positive_fraction) == (256, 0.5)
    assert config.force_match == "ties"


def test_levels_may_have_several_sizes_octaves_and_oblong_strides():
    config = AnchorConfig(
        sizes=(8, (16, 32)), strides=(4, (8, 16)), scales_per_octave=2
    )
    assert config.level_sizes[0] == (8, 8 * 2**0.5)
    assert config.level_sizes[1] == (16, 16 * 2**0.5, 32, 32 * 2**0.5)
    assert config.level_strides == ((4, 4), (8, 16))


@pytest.mark.parametrize(
    ("settings", "number"),
    [
        ({}, 3),
        ({"sizes": ((32, 64), (128, 256)), "strides": (8, 16)}, 6),
        ({"scales_per_octave": 3, "aspect_ratios": (1.0, 2.0)}, 6),
    ],
)
def test_anchors_per_cell_counts_sizes_octaves_and_ratios(settings, number):
    assert AnchorConfig(**settings).anchors_per_cell == number


def test_one_head_cannot_serve_levels_with_different_numbers_of_anchors():
    config = AnchorConfig(sizes=(8, (16, 32)), strides=(4, 8))
    with pytest.raises(ValueError, match="sizes"):
        _ = config.anchors_per_cell


def test_equal_sizes_on_different_levels_are_no_equal_anchors():
    assert AnchorConfig(sizes=(32, 32), strides=(8, 16)).anchors_per_cell == 3


@pytest.mark.parametrize(
    ("config", "settings", "named"),
    [
        (AnchorConfig, {"sizes": (32,)}, "sizes"),
        (AnchorConfig, {"sizes": (), "strides": ()}, "sizes"),
        (AnchorConfig, {"sizes": (32, ()), "strides": (4, 8)}, "size"),
        (AnchorConfig, {"sizes": (0,), "strides": (4,)}, "sizes"),
        (AnchorConfig, {"sizes": (float("nan"),), "strides": (4,)}, "sizes"),
        (AnchorConfig, {"sizes": (32,), "strides": (0,)}, "strides"),
        (AnchorConfig, {"aspect_ratios": ()}, "aspect_ratio"),
        (AnchorConfig, {"aspect_ratios": (-1.0,)}, "aspect_ratios"),
        (AnchorConfig, {"scales_per_octave": 0}, "scales_per_octave"),
        (AnchorConfig, {"sizes": ((32, 32),), "strides": (8,)}, "different sizes"),
        (
            AnchorConfig,
            {"sizes": ((16, 20.1587),), "strides": (8,), "scales_per_octave": 3},
            "different sizes .* scales_per_octave 3",
        ),
        (AnchorConfig, {"aspect_ratios": (1.0, 2.0, 1.0)}, "different aspect_ratios"),
        (AnchorConfig, {"base_size": 0}, "base_size"),
        (TargetConfig, {"positive_iou": 0.2}, "positive_iou"),
        (TargetConfig, {"positive_iou": 1.5}, "positive_iou"),
        (TargetConfig, {"negative_iou": -0.1}, "negative_iou"),
        (TargetConfig, {"min_force_iou": 2.0}, "min_force_iou"),
        (TargetConfig, {"ignore_iof": -1.0}, "ignore_iof"),
        (TargetConfig, {"num_samples": 0}, "num_samples"),
        (TargetConfig, {"positive_fraction": 1.1}, "positive_fraction"),
        (TargetConfig, {"pixel_offset": -1.0}, "pixel_offset"),
        (TargetConfig, {"delta_weights": (1.0, 1.0, 0.0, 1.0)}, "delta_weights"),
        (TargetConfig, {"atss": AtssConfig(top_k=5)}, 'needs assigner="atss"'),
        (TargetConfig, {"assigner": "region", "sim_ota": FAR}, 'assigner="sim_ota"'),
        (TargetConfig, {"iou_balance": BINS}, 'negative_sampler="iou_balanced"'),
        (
            TargetConfig,
            {"assigner": "centerness", "negative_sampler": "iou_balanced"},
            "another negative_sampler",
        ),
        (AtssConfig, {"top_k": 0}, "top_k"),
        (TaskAlignedConfig, {"alpha": -1.0}, "alpha"),
        (SimOTAConfig, {"center_radius": 0.0}, "center_radius"),
        (RegionConfig, {"center_ratio": 0.6}, "center_ratio"),
        (CenternessConfig, {"negative_iou": 0.4}, "negative_iou"),
        (IouBalanceConfig, {"num_bins": 0}, "num_bins"),
        (LossConfig, {"num_samples": 0}, "num_samples"),
        (LossConfig, {"beta": -1.0}, "beta"),
        (LossConfig, {"beta": float("inf")}, "beta"),
        (LossConfig, {"objectness_weight": -1.0}, "objectness_weight"),
        (LossConfig, {"box_weight": float("nan")}, "box_weight"),
        (LossConfig, {"focal_gamma": -1.0}, "focal_gamma"),
        (LossConfig, {"focal_alpha": 2.0}, "focal_alpha"),
        (LossConfig, {"box_positive_weight": -1.0}, "box_positive_weight"),
        (LossConfig, {"quality_loss": "varifocal"}, "got 'label'"),
        (
            LossConfig,
            {"objectness": "oln_iou", "quality_loss": "varifocal"},
            "quality_loss of 'varifocal', got 'oln_iou'",
        ),
        (
            LossConfig,
            {"objectness": "iou", "focal_gamma": 2.0},
            "focal_gamma None with .* 'iou', got 2.0. Set quality_beta",
        ),
        (LossConfig, {"quality_beta": 0.5}, "quality_beta .* got 0.5"),
        (LossConfig, {"varifocal_alpha": -1.0}, "varifocal_alpha"),
        (LossConfig, {"oln_beta": float("nan")}, "oln_beta"),
        (ProposalConfig, {"pre_nms_top_k": 0}, "pre_nms_top_k"),
        (ProposalConfig, {"train_post_nms_top_k": 0}, "training"),
        (ProposalConfig, {"iou_threshold": 1.5}, "iou_threshold"),
        (ProposalConfig, {"min_size": -1.0}, "min_size"),
        (ProposalConfig, {"soft_iou_threshold": 0.6}, "soft_iou_threshold"),
        (ProposalConfig, {"soft_factor": 1.0}, "soft_factor"),
        (ProposalConfig, {"vote_iou_threshold": 0.0}, "vote_iou_threshold"),
    ],
)
def test_settings_without_a_meaning_are_refused_by_name(config, settings, named):
    with pytest.raises(ValueError, match=named):
        config(**settings)


@pytest.mark.parametrize(
    ("config", "settings"),
    [
        (AnchorConfig, {"rounding": "up"}),
        (AnchorConfig, {"cell_order": "random"}),
        (TargetConfig, {"force_match": "all"}),
        (TargetConfig, {"assigner": "nearest"}),
        (TargetConfig, {"negative_sampler": "instance_balanced"}),
        (LossConfig, {"normalizer": "mean"}),
        (LossConfig, {"box_loss": "l2"}),
        (LossConfig, {"objectness": "oln"}),
        (LossConfig, {"quality_loss": "l1"}),
    ],
)
def test_names_that_do_not_exist_are_refused(config, settings):
    with pytest.raises(TypeError, match=next(iter(settings))):
        config(**settings)


@pytest.mark.parametrize(
    ("stages", "named"),
    [
        (
            {"losses": LossConfig(delta_weights=(10, 10, 5, 5))},
            "one delta_weights .* in losses. Set it in targets; losses takes",
        ),
        (
            {"proposals": ProposalConfig(pixel_offset=1.0)},
            "one pixel_offset .* got 0.0 in targets and 1.0 in proposals",
        ),
        ({"losses": LossConfig(num_samples=64)}, "one num_samples .* got 256"),
    ],
)
def test_stages_that_contradict_each_other_are_refused_with_advice(stages, named):
    with pytest.raises(ValueError, match=named):
        RPNConfig(**stages)


def test_what_stages_share_is_set_once_in_targets():
    shared = {"pixel_offset": 1.0, "delta_weights": (10, 10, 5, 5), "num_samples": 64}
    config = RPNConfig(targets=TargetConfig(**shared))
    assert config.losses.num_samples == 64
    # What a stage took over does not bind the next `targets`.
    targets = dataclasses.replace(config.targets, num_samples=32)
    assert dataclasses.replace(config, targets=targets).losses.num_samples == 32
    assert config.proposals.pixel_offset == 1.0
    assert config.losses.delta_weights == config.proposals.delta_weights
    assert config.proposals.delta_weights == (10, 10, 5, 5)
    # Equal values may also be written twice, as a file of settings does.
    assert dataclasses.replace(config) == config


def test_training_limits_replace_those_of_inference():
    config = ProposalConfig(pre_nms_top_k=6, post_nms_top_k=3, train_pre_nms_top_k=12)
    config = dataclasses.replace(config, train_post_nms_top_k=None)
    training = config.for_training()
    assert (training.pre_nms_top_k, training.post_nms_top_k) == (12, 3)
