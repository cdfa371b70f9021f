"""Every backbone can be trained by the rules that are chosen for it."""

import inspect
from typing import get_args

import pytest

import rpn_jax
from rpn_jax import presets
from rpn_jax.models import BACKBONES, default_anchors
from rpn_jax.models.shapes_only import shapes_only
from rpn_jax.train import TrainConfig, build_model, resolve
from rpn_jax.train.train_config import BackboneName, Preset


def test_all_backbones_are_on_offer():
    assert set(get_args(BackboneName)) == set(BACKBONES)


def test_all_presets_are_on_offer():
    defined = {
        name
        for name, value in vars(presets).items()
        if inspect.isfunction(value)
        and value.__module__ == presets.__name__
        and not name.startswith("_")
    }
    assert set(get_args(Preset)) == defined
    assert "pyramid" in defined


@pytest.mark.parametrize(
    ("preset", "backbone", "outputs"),
    [("jwyang_vgg16", "vgg16", 2), ("detectron2_c4", "resnet18_c4", 1)],
)
def test_the_head_has_the_logits_of_the_rules(preset, backbone, outputs):
    config = resolve(TrainConfig(preset=preset, backbone=backbone))
    head = shapes_only(lambda rngs: build_model(config, rngs)).head
    anchors = config.rpn.anchors.anchors_per_cell
    assert head.logits.kernel.shape[-1] == outputs * anchors


def test_a_cascade_is_built_where_the_rules_say_so():
    config = resolve(TrainConfig(preset="cascade_rpn", dtype="bfloat16"))
    head = shapes_only(lambda rngs: build_model(config, rngs)).head
    assert isinstance(head, rpn_jax.CascadeHead)
    assert head.anchor_config == config.rpn.anchors
    assert head.adaptive.dtype == "bfloat16"


@pytest.mark.parametrize("backbone", get_args(BackboneName))
def test_the_rules_chosen_for_a_backbone_fit_its_maps(backbone):
    rules = resolve(TrainConfig(data="a.json", backbone=backbone)).rpn
    # That the maps have these strides is tested with the networks.
    assert rules.anchors.strides == default_anchors(backbone).strides
