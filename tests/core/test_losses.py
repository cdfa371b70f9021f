"""The two losses, their weights and what a training loop logs."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import reference

import rpn_jax
from rpn_jax import LossConfig, RPNOutput, Targets, rpn_loss
from rpn_jax.core.losses import rpn_metrics

N = 24
CONFIGS = {
    "paper": LossConfig(),
    "image": LossConfig(normalizer="image"),
    "fixed": LossConfig(normalizer="fixed", num_samples=16),
    "clamped": LossConfig(normalizer="batch_clamped"),
    "positives": LossConfig(normalizer="positives"),
    "two_normalizers": LossConfig(normalizer="image", box_normalizer="positives"),
    "l1": LossConfig(beta=0.0),
    "beta_1": LossConfig(beta=1.0),
    "giou": LossConfig(box_loss="giou"),
    "giou_of_weighted_deltas": LossConfig(
        box_loss="giou", delta_weights=(10, 10, 5, 5)
    ),
    "diou": LossConfig(box_loss="diou"),
    "ciou": LossConfig(box_loss="ciou"),
    "focal": LossConfig(focal_gamma=2.0),
    "focal_without_alpha": LossConfig(focal_gamma=1.5, focal_alpha=None),
    "positive_weight": LossConfig(box_positive_weight=0.3),
    "loss_weights": LossConfig(objectness_weight=2.0, box_weight=0.5),
}
EVERY_CONFIG = pytest.mark.parametrize("name", CONFIGS)
# The box loss does not see the logits: both forms of them for the others will do.
EVERY_CASE = pytest.mark.parametrize(
    ("name", "num_logits"),
    [
        *((name, 1) for name in CONFIGS),
        ("paper", 2),
        ("focal", 2),
        ("positive_weight", 2),
    ],
)
EITHER_LOGITS = pytest.mark.parametrize("num_logits", [1, 2])
NORMALIZERS = ["paper", "image", "fixed", "clamped", "positives"]


def batch(num_logits=1, seed=0, images=4):
    """Predictions, targets, anchors; image 1 has no positive and image 2 no sample."""
    rng = np.random.default_rng(seed)
    shape = (images, N) if num_logits == 1 else (images, N, 2)
    labels = rng.choice([-1, 0, 1], (images, N)).astype(np.int32)
    if images > 2:
        labels[1] = np.minimum(labels[1], 0)
        labels[2] = -1
    anchors = reference.random_boxes(rng, N, 32)
    deltas, target = rng.normal(0, 0.4, (2, images, N, 4)).astype(np.float32)
    target[labels != 1] = 0
    logits = rng.normal(0, 2, shape).astype(np.float32)
    return RPNOutput(logits, deltas), Targets(labels, target), anchors


def loss_of(name):
    return functools.partial(rpn_loss, config=CONFIGS[name])


@functools.cache
def compiled(name):
    return jax.jit(loss_of(name))


@functools.partial(jax.jit, static_argnames="name")
def losses_and_gradient(output, targets, anchors, *, name):
    """The losses and the gradient of their sum, from one program for many tests."""

    def total(output):
        losses = loss_of(name)(output, targets, anchors=anchors)
        return losses.total, losses

    gradient, losses = jax.grad(total, has_aux=True)(output)
    return losses, gradient


def losses_of(output, targets, anchors, *, name="paper"):
    return losses_and_gradient(output, targets, anchors, name=name)[0]


def assert_losses_match_oracle(losses, output, targets, anchors, config):
    expected = reference.rpn_loss(output, targets, anchors, config=config)
    np.testing.assert_allclose(losses.objectness, expected[0], rtol=1e-5)
    np.testing.assert_allclose(losses.box, expected[1], rtol=1e-5)
    np.testing.assert_allclose(losses.total, sum(expected), rtol=1e-5)


@EVERY_CASE
def test_losses_match_oracle(name, num_logits):
    output, targets, anchors = batch(num_logits)
    losses = losses_of(output, targets, anchors, name=name)
    config = CONFIGS[name]
    assert_losses_match_oracle(losses, output, targets, anchors, config)


def test_an_eager_call_matches_oracle():
    output, targets, anchors = batch()
    losses = loss_of("paper")(output, targets, anchors=anchors)
    assert_losses_match_oracle(losses, output, targets, anchors, CONFIGS["paper"])


@pytest.mark.parametrize(
    ("name", "num_logits"),
    [("paper", 1), ("paper", 2), ("image", 1), ("positive_weight", 1), ("ciou", 1)],
)
def test_an_image_without_the_batch_axis_is_a_batch_of_one(name, num_logits):
    output, targets, anchors = batch(num_logits, images=1)

    @jax.jit
    def both(output, targets):
        image = jax.tree.map(lambda x: x[0], (output, targets))
        loss = functools.partial(loss_of(name), anchors=anchors)
        return loss(*image), loss(output, targets)

    alone, together = both(output, targets)
    chex.assert_trees_all_close(alone, together, rtol=1e-6)


@functools.cache
def compiled_for_each_image():
    return jax.jit(jax.vmap(rpn_loss))


def test_vmap_equals_a_loop():
    output, targets, _ = batch()
    images = [jax.tree.map(lambda x, i=i: x[i], (output, targets)) for i in range(4)]
    looped = [compiled("paper")(*image) for image in images]
    looped = jax.tree.map(lambda *xs: np.stack(xs), *looped)
    mapped = compiled_for_each_image()(output, targets)
    chex.assert_trees_all_close(mapped, looped, rtol=1e-6)


def test_the_mean_over_images_is_the_image_normalizer():
    output, targets, anchors = batch()
    of_each = compiled_for_each_image()(output, targets)
    losses = losses_of(output, targets, anchors, name="image")
    chex.assert_trees_all_close(losses, jax.tree.map(np.mean, of_each), rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "num_logits"),
    [("positive_weight", 1), ("paper", 2), ("focal", 1), ("giou", 1), ("diou", 1)],
)
def test_gradients_match_finite_differences(name, num_logits):
    output, targets, anchors = batch(num_logits, seed=1, images=1)
    output = jax.tree.map(lambda x: x[:, :6], output)
    targets = Targets(np.array([[1, 0, 1, -1, 1, 0]], np.int32), targets.deltas[:, :6])

    @jax.jit
    def total(logits, deltas):
        output = RPNOutput(logits, deltas)
        return loss_of(name)(output, targets, anchors=anchors[:6]).total

    chex.assert_numerical_grads(total, tuple(output), order=1, modes=("rev",), eps=1e-2)


@EVERY_CASE
def test_gradients_reach_sampled_anchors_only(name, num_logits):
    output, targets, anchors = batch(num_logits)
    _, gradient = losses_and_gradient(output, targets, anchors, name=name)
    weighted = np.asarray(gradient.logits).reshape(4, N, -1) != 0
    np.testing.assert_array_equal(weighted.any(2), targets.labels >= 0)
    assert not np.asarray(gradient.deltas)[targets.labels != 1].any()
    assert np.asarray(gradient.deltas)[targets.labels == 1].any(axis=1).all()


@EVERY_CASE
def test_unsampled_predictions_may_hold_anything(name, num_logits):
    output, targets, anchors = batch(num_logits)
    expected = losses_and_gradient(output, targets, anchors, name=name)
    output.logits[targets.labels < 0] = np.nan
    output.deltas[targets.labels != 1] = np.nan
    targets.deltas[targets.labels != 1] = np.nan
    found = losses_and_gradient(output, targets, anchors, name=name)
    chex.assert_tree_all_finite(found)
    chex.assert_trees_all_close(found, expected, rtol=1e-5)


@pytest.mark.parametrize("name", NORMALIZERS)
@pytest.mark.parametrize("label", [-1, 0])
def test_a_batch_without_a_positive_has_no_box_loss(name, label):
    output, targets, anchors = batch()
    targets = Targets(np.full_like(targets.labels, label), targets.deltas * 0)
    losses, gradient = losses_and_gradient(output, targets, anchors, name=name)
    chex.assert_tree_all_finite((gradient, losses))
    assert losses.box == 0.0
    assert (losses.objectness == 0.0) == (label == -1)


@EVERY_CONFIG
@pytest.mark.parametrize("size", [60.0, 1e4])
def test_large_predictions_have_finite_losses_and_gradients(name, size):
    output, targets, anchors = batch()
    output = jax.tree.map(lambda x: np.float32(size) * np.sign(x), output)
    chex.assert_tree_all_finite(
        losses_and_gradient(output, targets, anchors, name=name)
    )


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_focal_loss_of_certain_predictions_has_a_finite_gradient(gamma):
    labels = np.array([0, 1, 0, 1], np.int32)
    targets = Targets(labels, np.zeros((4, 4), np.float32))
    config = LossConfig(focal_gamma=gamma)

    @jax.jit
    @jax.value_and_grad
    def total(logits):
        output = RPNOutput(logits, jnp.zeros((4, 4)))
        return rpn_loss(output, targets, config=config).total

    for logits in ([-200, 200, -30, 30], [200, -200, 30, -30]):
        chex.assert_tree_all_finite(total(np.array(logits, np.float32)))


@pytest.mark.parametrize("name", ["giou", "diou", "ciou", "paper", "l1"])
def test_a_perfect_box_costs_nothing_and_pulls_nowhere(name):
    output, targets, anchors = batch()
    output = output._replace(deltas=targets.deltas)
    losses, gradient = losses_and_gradient(output, targets, anchors, name=name)
    np.testing.assert_allclose(losses.box, 0, atol=1e-5)
    chex.assert_tree_all_finite(gradient)


def test_targets_pass_no_gradient():
    output, targets, _ = batch()

    def total(deltas):
        return rpn_loss(output, targets._replace(deltas=deltas)).total

    assert not np.any(jax.jit(jax.grad(total))(targets.deltas))


def test_two_logits_are_background_and_object():
    output, targets, anchors = batch(2)
    difference = output._replace(logits=output.logits[..., 1] - output.logits[..., 0])
    losses, gradient = losses_and_gradient(output, targets, anchors, name="paper")
    expected = losses_of(difference, targets, anchors)
    chex.assert_trees_all_close(losses, expected, rtol=1e-6)
    logits = np.asarray(gradient.logits)
    np.testing.assert_array_equal(logits[..., 0], -logits[..., 1])


def test_giou_does_not_depend_on_the_anchors():
    output, targets, anchors = batch()
    with_anchors = losses_of(output, targets, anchors, name="giou")
    without = losses_of(output, targets, None, name="giou")
    chex.assert_trees_all_close(with_anchors, without, rtol=1e-4)


def test_anchors_may_be_a_grid():
    config = rpn_jax.AnchorConfig(sizes=(16,), strides=(8,), aspect_ratios=(1.0, 2.0))
    grid = rpn_jax.make_anchors(config, [(3, 4)])
    boxes = reference.make_anchors(config, [(3, 4)])
    output, targets, _ = batch()
    losses = [losses_of(output, targets, x, name="ciou") for x in (grid, boxes)]
    chex.assert_trees_all_equal(*losses)


@pytest.mark.parametrize("name", ["diou", "ciou"])
def test_some_losses_need_the_anchors(name):
    output, targets, _ = batch()
    with pytest.raises(ValueError, match="anchors"):
        loss_of(name)(output, targets)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_losses_are_float32_whatever_the_head_computes_in(dtype):
    output, targets, anchors = batch()
    output = jax.tree.map(lambda x: x.astype(dtype), output)
    losses, gradient = losses_and_gradient(output, targets, anchors, name="paper")
    assert {x.dtype for x in losses} == {jnp.dtype(jnp.float32)}
    assert {x.dtype for x in gradient} == {jnp.dtype(dtype)}
    wide = jax.tree.map(lambda x: x.astype(np.float32), output)
    exact = losses_of(wide, targets, anchors)
    chex.assert_trees_all_close(losses, exact, rtol=1e-6)


@given(seed=st.integers(0, 2**16))
def test_the_order_of_anchors_and_images_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    output, targets, anchors = batch(seed=seed)
    order, images = rng.permutation(N), rng.permutation(4)
    moved = jax.tree.map(lambda x: x[images][:, order], (output, targets))
    expected = losses_of(output, targets, anchors, name="image")
    found = losses_of(moved[0], moved[1], anchors[order], name="image")
    chex.assert_trees_all_close(found, expected, rtol=1e-5)


@given(seed=st.integers(0, 2**16), name=st.sampled_from(NORMALIZERS))
def test_a_batch_twice_has_the_same_losses(seed, name):
    output, targets, anchors = batch(seed=seed)
    twice = jax.tree.map(lambda x: np.concatenate([x, x]), (output, targets))
    expected = losses_of(output, targets, anchors, name=name)
    chex.assert_trees_all_close(compiled(name)(*twice), expected, rtol=1e-5)


@pytest.mark.parametrize("name", [*NORMALIZERS, "positive_weight"])
def test_the_weights_of_the_tutorial_give_the_same_box_loss(name):
    config = CONFIGS[name]
    output, targets, anchors = batch()
    weights = jax.jit(functools.partial(rpn_jax.box_loss_weights, config=config))
    inside, outside = map(np.asarray, weights(targets.labels))
    assert inside.shape == outside.shape == output.deltas.shape
    difference = np.abs(inside * output.deltas - inside * targets.deltas)
    smooth = np.vectorize(reference.smooth_l1)(difference, config.beta)
    losses = reference.rpn_loss(output, targets, anchors, config=config)
    np.testing.assert_allclose((outside * smooth).sum(), losses[1], rtol=1e-5)
    negative = targets.labels == 0
    assert np.all(outside[negative] > 0)
    assert not inside[negative].any()
    assert not outside[targets.labels == -1].any()


def test_the_weights_of_one_image_sum_to_one_a_coordinate():
    labels = np.array([1, 0, -1, 0, 1], np.int32)
    inside, outside = map(np.asarray, jax.jit(rpn_jax.box_loss_weights)(labels))
    np.testing.assert_array_equal(inside[:, 0], [1, 0, 0, 0, 1])
    np.testing.assert_allclose(outside[:, 0], [0.25, 0.25, 0, 0.25, 0.25])


compiled_metrics = jax.jit(rpn_metrics)


@EITHER_LOGITS
def test_metrics_count_the_sample(num_logits):
    output, targets, _ = batch(num_logits)
    metrics = compiled_metrics(output, targets)
    logits = output.logits
    says = logits > 0 if num_logits == 1 else logits[..., 1] > logits[..., 0]
    positive, negative = targets.labels == 1, targets.labels == 0
    right = (positive & says) | (negative & ~says)
    assert int(metrics.num_positive) == positive.sum()
    assert int(metrics.num_negative) == negative.sum()
    assert metrics.accuracy.dtype == np.float32  # also under jax_enable_x64
    sampled = (positive | negative).sum()
    np.testing.assert_allclose(metrics.accuracy, right.sum() / sampled, rtol=1e-6)


def test_metrics_of_no_sample_are_zero():
    output, targets, _ = batch()
    targets = targets._replace(labels=np.full_like(targets.labels, -1))
    metrics = compiled_metrics(output, targets)
    assert not any(np.asarray(value) for value in metrics)


def test_changing_values_are_traced_once():
    loss = jax.jit(chex.assert_max_traces(rpn_loss, n=1))
    for seed in range(3):
        output, targets, _ = batch(seed=seed)
        loss.trace(output, targets)
