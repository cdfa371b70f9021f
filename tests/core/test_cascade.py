"""The losses and proposals of a cascade, against their parts at all anchors."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.filled import filled_module

import rpn_jax
from rpn_jax import AnchorConfig, CascadeConfig, CascadeHead, RPNConfig, TargetConfig
from rpn_jax.core.rule_configs import RegionConfig

SHAPES, SIZES = [(8, 10), (4, 5)], np.array([[64, 80], [50, 70], [64, 80]], np.float32)
CONFIG = dataclasses.replace(
    rpn_jax.presets.cascade_rpn(),
    anchors=AnchorConfig(sizes=(16, 32), strides=(8, 16), aspect_ratios=(1.0,)),
    targets=TargetConfig(num_samples=40, positive_iou=0.5, negative_iou=0.5),
    cascade=CascadeConfig(
        region=RegionConfig(center_ratio=0.4, ignore_ratio=0.6), first_box_weight=0.5
    ),
    proposals=rpn_jax.ProposalConfig(post_nms_top_k=20),
)
GRID = rpn_jax.make_anchors(CONFIG.anchors, SHAPES)
BOXES = np.array(
    [
        [[4, 4, 22, 20], [30, 8, 70, 50], [0, 0, 0, 0]],
        [[50, 30, 62, 44], [np.nan] * 4, [9, 9, 5, 5]],
        [[0, 0, 0, 0], [np.inf] * 4, [0, 0, 0, 0]],
    ],
    np.float32,
)
VALID = np.array([[1, 1, 0], [1, 0, 1], [0, 0, 0]], bool)
HEAD = filled_module(lambda rngs: CascadeHead(6, CONFIG.anchors, rngs=rngs), scale=0.2)
RNG = np.random.default_rng(0)
FEATURES = [jnp.asarray(RNG.normal(size=(3, *x, 6)), jnp.float32) for x in SHAPES]


def run(head, features, config):
    key = jax.random.key(0)
    out = rpn_jax.compute_losses(
        head, key, features, GRID, BOXES, VALID, SIZES, config=config
    )
    return out.losses.total, out


def losses_of_parts(head, features, config):
    """Targets and predictions of every anchor of both stages."""
    first = head.first(features)
    moved, second = first.moved(GRID), head.everywhere(first, GRID)
    region = TargetConfig(assigner="region", region=config.cascade.region)

    def assign(index, boxes, valid, size, moved, predictions):
        matches = rpn_jax.match_anchors(GRID, boxes, valid, config=region)
        found = jnp.nan_to_num(boxes)[matches.gt_index]
        deltas = rpn_jax.encode_boxes(found, GRID.boxes)
        key = jax.random.fold_in(jax.random.key(0), index)
        return rpn_jax.Targets(matches.labels, deltas), rpn_jax.assign_targets(
            key,
            moved,
            boxes,
            valid,
            size,
            predictions=predictions,
            config=config.targets,
        )

    index = jnp.arange(3, dtype=jnp.int32)
    one, two = jax.vmap(assign)(index, BOXES, VALID, SIZES, moved, second)
    output = rpn_jax.RPNOutput(second.logits, first.deltas)
    rules = config.losses
    box = rpn_jax.rpn_loss(output, one, anchors=GRID, config=rules).box
    losses = rpn_jax.rpn_loss(second, two, anchors=moved, config=rules)
    weighted = losses._replace(box=losses.box + config.cascade.first_box_weight * box)
    return weighted.total, (weighted, one.labels, two.labels)


def check_values(out, parts):
    losses, first, second = jax.tree.map(np.asarray, parts)
    chex.assert_trees_all_close(out.losses, losses, rtol=1e-4)
    assert ((first == 1).sum(1) > 1).tolist() == [True, True, False]
    assert int(out.metrics.num_positive) == (second == 1).sum() > 0


def test_a_rule_that_reads_predictions_reads_those_of_the_second_stage():
    targets = dataclasses.replace(CONFIG.targets, assigner="task_aligned")
    config = dataclasses.replace(CONFIG, targets=targets)

    @jax.jit
    def both(head, features):
        return [form(head, features, config)[1] for form in (run, losses_of_parts)]

    # Large enough that the labels would be others by the first stage's predictions.
    check_values(*both(HEAD, [3 * x for x in FEATURES]))


def test_losses_equal_their_parts_in_value_and_gradient():
    @jax.jit
    def both(head, features):
        return [
            jax.value_and_grad(form, has_aux=True, argnums=(0, 1))(
                head, features, CONFIG
            )
            for form in (run, losses_of_parts)
        ]

    ((_, out), gradients), ((_, parts), dense_gradients) = both(HEAD, FEATURES)
    check_values(out, parts)
    for a, b in zip(*map(jax.tree.leaves, (gradients, dense_gradients)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6)


def test_proposals_lie_in_the_image_and_follow_both_stages():
    @jax.jit
    def predict(head, features):
        first = head.first(features)
        decode = jax.vmap(rpn_jax.decode_boxes)
        second = head.everywhere(first, GRID)
        boxes = decode(second.deltas, first.moved(GRID))
        return (
            second.logits,
            boxes,
            rpn_jax.compute_proposals(head, features, GRID, SIZES, config=CONFIG),
        )

    logits, boxes, proposals = jax.tree.map(np.asarray, predict(HEAD, FEATURES))
    for i, best in enumerate(logits.argmax(axis=1)):
        limits = SIZES[i][[1, 0, 1, 0]]
        clipped = np.clip(boxes[i, best], 0, limits)
        np.testing.assert_allclose(proposals.boxes[i, 0], clipped, atol=1e-3)
        assert proposals.valid[i].any()


@pytest.mark.parametrize(
    "settings",
    [
        {"anchors": AnchorConfig()},
        {"targets": TargetConfig(assigner="region")},
        {"targets": TargetConfig(pixel_offset=1.0)},
        {"targets": TargetConfig(ignore_padding=True)},
        {"targets": TargetConfig(delta_weights=(10.0, 10.0, 5.0, 5.0))},
        {"head": "plain"},
    ],
)
def test_settings_that_do_not_fit_are_refused(settings):
    values = {"head": "cascade", "anchors": CONFIG.anchors, "cascade": CONFIG.cascade}
    with pytest.raises(ValueError, match="RPNConfig needs"):
        RPNConfig(**(values | settings))


def test_a_negative_weight_is_refused():
    with pytest.raises(ValueError, match="first_box_weight of at least 0"):
        CascadeConfig(first_box_weight=-1.0)
