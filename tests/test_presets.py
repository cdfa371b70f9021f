"""The presets: each agrees with its source, and each runs."""

import dataclasses
import functools
import inspect

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import rpn_jax
from rpn_jax import presets

NAMES = [
    "jwyang_vgg16",
    "jwyang_res101_coco",
    "py_faster_rcnn",
    "torchvision_fpn",
    "detectron2_c4",
    "detectron2_fpn",
    "mmdet_fpn",
    "tf_vision_fpn",
    "pyramid",
    "cascade_rpn",
]
# Anchors in a cell, first cell anchor of the first level, and the order of its sides.
CELLS = {
    "jwyang_vgg16": (9, [-84, -40, 99, 55]),
    "jwyang_res101_coco": (12, [-38, -16, 53, 31]),
    "py_faster_rcnn": (9, [-84, -40, 99, 55]),
    "torchvision_fpn": (3, [-23, -11, 23, 11]),
    "detectron2_c4": (15, [-22.627417, -11.313708, 22.627417, 11.313708]),
    "detectron2_fpn": (3, [-22.627417, -11.313708, 22.627417, 11.313708]),
    "mmdet_fpn": (3, [-22.627417, -11.313708, 22.627417, 11.313708]),
    "tf_vision_fpn": (3, [-11.313708, -22.627417, 11.313708, 22.627417]),
    "pyramid": (9, [-11.313708, -5.656854, 11.313708, 5.656854]),
    "cascade_rpn": (1, [-16, -16, 16, 16]),
}


def test_every_public_preset_is_tested():
    functions = dict(inspect.getmembers(presets, inspect.isfunction))
    assert {n for n in functions if not n.startswith("_")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_is_hashable_and_made_anew_equal(name):
    make = getattr(presets, name)
    assert isinstance(make(), rpn_jax.RPNConfig)
    assert make() == make()
    assert hash(make()) == hash(make())
    assert make.__doc__


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_has_the_anchors_of_its_source(name):
    config = getattr(presets, name)().anchors
    number, first = CELLS[name]
    assert config.anchors_per_cell == number
    np.testing.assert_allclose(rpn_jax.cell_anchors(config)[0][0], first, rtol=1e-6)


def test_presets_differ_where_their_sources_do():
    configs = {name: getattr(presets, name)() for name in NAMES}

    def those(test):
        return {name for name, config in configs.items() if test(config)}

    legacy = {"jwyang_vgg16", "jwyang_res101_coco", "py_faster_rcnn"}
    assert those(lambda c: c.targets.pixel_offset == 1.0) == legacy
    assert those(lambda c: c.targets.allowed_border == 0.0) == legacy
    assert those(lambda c: c.losses.box_normalizer == "image") == legacy
    assert those(lambda c: c.targets.retarget_forced) == {
        "mmdet_fpn",
        "tf_vision_fpn",
        "cascade_rpn",
    }
    assert those(lambda c: c.targets.min_force_iou == 0.3) == {
        "mmdet_fpn",
        "cascade_rpn",
    }
    assert those(lambda c: c.targets.force_match == "first") == {"tf_vision_fpn"}
    assert those(lambda c: c.losses.beta == 0.0) == {
        "detectron2_c4",
        "detectron2_fpn",
        "mmdet_fpn",
    }
    assert those(lambda c: c.losses.normalizer == "fixed") == {
        "detectron2_c4",
        "detectron2_fpn",
        "tf_vision_fpn",
    }
    assert those(lambda c: c.losses.normalizer == "batch_clamped") == {"mmdet_fpn"}
    assert those(lambda c: c.losses.box_loss == "giou") == {"pyramid", "cascade_rpn"}
    assert those(lambda c: c.head == "cascade") == {"cascade_rpn"}
    assert those(lambda c: c.losses.objectness != "label") == {"pyramid"}
    assert those(lambda c: c.targets.positive_iou == 0.5) == {"pyramid"}


def names_of_different_losses():
    """The presets whose losses follow other rules than those of the ones before."""
    first = {}
    for name in NAMES:
        rules = getattr(presets, name)()
        first.setdefault((rules.targets, rules.losses, rules.head), name)
    return list(first.values())


@pytest.mark.parametrize("name", names_of_different_losses())
def test_a_preset_gives_finite_losses_and_gradients(name):
    config = getattr(presets, name)()
    if len(config.anchors.strides) == 1:
        shapes = [(6, 7)]
    else:  # the two finest levels run what all of them would
        shapes, rules = [(24, 28), (12, 14)], config.anchors
        rules = dataclasses.replace(
            rules, sizes=rules.sizes[:2], strides=rules.strides[:2]
        )
        config = dataclasses.replace(config, anchors=rules)
    grid = rpn_jax.make_anchors(config.anchors, shapes)
    num_logits = 2 if "jwyang" in name or "py_" in name else 1
    assert config.num_logits == num_logits
    options = {"num_logits": num_logits, "rngs": nnx.Rngs(0)}
    if config.head == "cascade":
        head = rpn_jax.CascadeHead(4, config.anchors, **options)
    else:
        head = rpn_jax.RPNHead(4, config.anchors.anchors_per_cell, **options)
    features = [jnp.ones((2, *shape, 4), jnp.float32) for shape in shapes]
    boxes = jnp.array([[[10.0, 12.0, 60.0, 70.0]], [[0.0, 0.0, 0.0, 0.0]]])
    valid = jnp.array([[True], [False]])

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def run(head):
        out = rpn_jax.compute_losses(
            head,
            jax.random.key(0),
            features,
            grid,
            boxes,
            valid,
            jnp.array([[96.0, 112.0], [90.0, 100.0]]),
            config=config,
        )
        return out.losses.total, out

    (_, out), gradients = run(head)
    chex.assert_tree_all_finite((out, gradients))
    if config.targets.allowed_border is None:
        assert out.metrics.num_positive > 0
