"""Every backbone can be trained by the rules that are chosen for it."""

from typing import get_args

import pytest
from flax import nnx

from rpn_jax.models import BACKBONES
from rpn_jax.train import TrainConfig, build_model, resolve
from rpn_jax.train.train_config import BackboneName


def test_all_backbones_are_on_offer():
    assert set(get_args(BackboneName)) == set(BACKBONES)


@pytest.mark.parametrize("backbone", get_args(BackboneName))
def test_the_rules_chosen_for_a_backbone_fit_its_maps(backbone):
    config = resolve(TrainConfig(data="a.json", backbone=backbone))
    model = nnx.eval_shape(lambda: build_model(config))
    shapes = model.feature_shapes((64, 96))
    strides = config.rpn.anchors.level_strides
    assert shapes == [(-(-64 // y), -(-96 // x)) for y, x in strides]
