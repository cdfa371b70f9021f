"""The whole network: its shapes, its trained parameters, and refused options."""

import functools
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from support.filled import filled, filled_model

import rpn_jax
from rpn_jax.models import (
    BACKBONES,
    RPN,
    Backbone,
    BackboneConfig,
    Preprocessing,
    Trunk,
    default_anchors,
    make_backbone,
    make_model,
)
from rpn_jax.models.interop import SYSTEMS, SystemName
from rpn_jax.models.layers import Builder
from rpn_jax.models.mobilenet import mobilenet_v2
from rpn_jax.models.shapes_only import shapes_only

SIZES = np.array([[40.0, 64.0], [33.0, 47.0]], np.float32)
IMAGES = np.random.default_rng(0).integers(0, 256, (2, 40, 64, 3), dtype=np.uint8)


@functools.cache
def shapes_of(name="tiny_fpn", **settings):
    """The network with shapes in place of arrays, for what no number decides."""
    anchors, backbone = default_anchors(name), BackboneConfig(name=name, **settings)
    return shapes_only(lambda rngs: make_model(anchors, backbone=backbone, rngs=rngs))


def test_all_systems_are_on_offer():
    assert set(get_args(SystemName)) == set(SYSTEMS)


@pytest.mark.parametrize("name", ["tiny_fpn", "mobilenet_v2_fpn"])
def test_predictions_belong_to_the_anchors_of_the_feature_shapes(name):
    model = shapes_of(name)
    anchors = rpn_jax.make_anchors(
        default_anchors(name), model.feature_shapes((40, 64))
    )
    output = nnx.eval_shape(lambda model: model(IMAGES, SIZES), model)
    assert output.logits.shape == (2, len(anchors))
    assert [level.shape for level in anchors.levels] == [
        (10, 16),
        (5, 8),
        (3, 4),
        (2, 2),
        (1, 1),
    ]


@pytest.mark.parametrize("name", BACKBONES)
def test_strides_and_widths_are_those_of_the_maps(name):
    model = shapes_of(name)
    shapes = model.feature_shapes((256, 512))
    assert shapes == [(256 // s, 512 // s) for s in model.backbone.strides]
    assert default_anchors(name).strides == model.backbone.strides
    head = model.head
    assert isinstance(head, rpn_jax.RPNHead)
    assert head.convs[0].in_features == model.backbone.out_features
    assert head.convs[0].out_features <= 512


# Parameters of torchvision's trunks, without the constants of frozen norms.
NUMBERS = {
    "vgg16": 14_714_688,
    "resnet18_c4": 2_782_784 - 4_480,
    "resnet50_fpn": 23_454_912 + 3_344_384,
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_of_parameters_are_the_published_ones(name):
    parameters = jax.tree.leaves(nnx.state(shapes_of(name).backbone, nnx.Param))
    assert sum(x.size for x in parameters) == NUMBERS[name]


def maps_and_gradients(model):
    """The feature maps, and gradients by the paths of the parameters."""
    graph, trained, fixed = nnx.split(model, nnx.Param, ...)

    @jax.jit
    @functools.partial(jax.grad, has_aux=True)
    def run(trained):
        maps = nnx.merge(graph, trained, fixed).features(IMAGES, SIZES)
        return sum(jnp.sum(jnp.square(x.astype(jnp.float32))) for x in maps), maps

    gradients, maps = run(trained)
    return maps, {path: np.asarray(x[...]) for path, x in nnx.to_flat_state(gradients)}


@functools.cache
def tiny_with_frozen_stages():
    """A network, its feature maps and its gradients."""
    model = filled_model(BackboneConfig(name="tiny_fpn", frozen_stages=2))
    return model, *maps_and_gradients(model)


def start_of_mobilenet():
    """The first three stages of MobileNetV2, two of them frozen, and gradients."""

    def make(rngs):
        whole = mobilenet_v2(Builder("frozen", None, rngs))
        names = [str(step) for stage in whole.stages[:3] for step in stage]
        trunk = Trunk(
            layers=nnx.Dict({name: whole.layers[name] for name in names}),
            stages=whole.stages[:3],
            widths=whole.widths[:3],
            strides=whole.strides[:3],
        )
        backbone = Backbone(trunk, frozen_stages=2)
        return RPN(backbone, rpn_jax.RPNHead(trunk.widths[-1], 1, rngs=rngs))

    model = filled(make)
    return model, *maps_and_gradients(model)


@pytest.mark.parametrize(
    ("make_network", "first"),
    [
        (tiny_with_frozen_stages, {"0", "1"}),
        (start_of_mobilenet, {"0", "1", "2", "3"}),
    ],
)
def test_no_gradient_reaches_the_frozen_stages(make_network, first):
    model, _, gradients = make_network()
    trained = {
        path for path, _ in nnx.to_flat_state(nnx.state(model, model.is_trainable))
    }
    for path, gradient in gradients.items():
        is_frozen = path[:2] == ("backbone", "body") and path[2] in first
        assert is_frozen == (path not in trained)
        if path[0] == "backbone":
            assert is_frozen == (not np.any(gradient)), path


def test_frozen_stages_of_the_residual_networks_are_those_of_detectron2():
    for name, expected in (
        ("resnet18_fpn", ("conv1", "bn1", "layer1")),
        ("vgg16", ("0", "2", "5", "7")),
    ):
        assert shapes_of(name, frozen_stages=2).backbone.frozen_names() == expected


def test_without_frozen_stages_every_parameter_is_trained():
    model = shapes_of()
    everything, trained = (
        {path for path, _ in nnx.to_flat_state(nnx.state(model, kind))}
        for kind in (nnx.Param, model.is_trainable)
    )
    assert everything == trained


def test_bfloat16_computes_in_it_and_keeps_float32_parameters():
    model = filled_model(BackboneConfig(name="tiny_fpn"), dtype=jnp.bfloat16)
    _, expected, _ = tiny_with_frozen_stages()
    maps, gradients = maps_and_gradients(model)
    for x, y in zip(maps, expected, strict=True):
        assert x.dtype == jnp.bfloat16
        difference = np.abs(np.asarray(x, np.float32) - np.asarray(y))
        assert 0 < difference.mean() < 0.05 * np.abs(y).mean()
    for parameter in jax.tree.leaves(nnx.state(model)):
        assert parameter.dtype == jnp.float32
    assert all(np.isfinite(x).all() for x in gradients.values())


def test_networks_of_the_same_settings_compile_once():
    config = BackboneConfig(name="vgg16", frozen_stages=1)
    graphs = [
        nnx.split(shapes_only(lambda rngs: make_backbone(config, rngs=rngs)))[0]
        for _ in range(2)
    ]
    assert graphs[0] == graphs[1]
    assert hash(graphs[0]) == hash(graphs[1])


@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_images_are_normalised_and_their_padding_is_zero(order):
    rules = Preprocessing(
        scale=2.0, mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 6.0), order=order
    )
    actual = np.asarray(jax.jit(rules.normalize)(IMAGES, SIZES))
    for image in range(2):
        height, width = SIZES[image].astype(int)
        for c in range(3):
            source = IMAGES[image, :, :, c if order == "RGB" else 2 - c] / 2.0
            expected = np.zeros((40, 64))
            expected[:height, :width] = (source - (c + 1))[:height, :width] / (c + 4)
            np.testing.assert_allclose(
                actual[image, :, :, c], expected, rtol=1e-5, atol=1e-5
            )


def test_anchors_of_other_levels_are_refused_with_what_to_choose():
    with pytest.raises(ValueError, match=r"strides \(4, 8, 16, 32, 64\).*default_anch"):
        make_model(rpn_jax.presets.detectron2_c4().anchors, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"Choose a \*_fpn"):
        make_model(rpn_jax.AnchorConfig(), backbone="resnet18_c4", rngs=nnx.Rngs(0))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("vgg19", {}, "There is no backbone 'vgg19'. Choose from"),
        ("vgg16", {"norm": "group"}, "vgg16 has no norms"),
        (
            "resnet18_fpn",
            {"stride_in_1x1": True},
            "stride_in_1x1 needs the bottlenecks of resnet50",
        ),
        ("vgg16", {"out_features": 64}, "out_features needs a backbone with a pyramid"),
        ("vgg16", {"fpn_norm": True}, "fpn_norm needs a backbone with a pyramid"),
        ("tiny_fpn", {"frozen_stages": 6}, "from 0 to 5"),
    ],
)
def test_options_that_do_not_fit_are_refused(name, settings, message):
    with pytest.raises(ValueError, match=message):
        make_backbone(BackboneConfig(name=name, **settings), rngs=nnx.Rngs(0))
