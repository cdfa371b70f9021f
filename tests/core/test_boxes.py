"""Area, overlap, coding and clipping of boxes."""

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
from rpn_jax.core.boxes import area

LEGACY = pytest.mark.parametrize("pixel_offset", [0.0, 1.0], ids=["exact", "legacy"])
# Compiled in both conventions, and eager in one.
EITHER_WAY = pytest.mark.parametrize(
    ("variant", "pixel_offset"),
    [("jit", 0.0), ("jit", 1.0), ("eager", 1.0)],
    indirect=["variant"],
)
WEIGHTS = (10.0, 10.0, 5.0, 5.0)
PLAIN = (1.0, 1.0, 1.0, 1.0)
STRANGE = np.array(
    [
        [np.nan, 0, 4, 4],
        [0, 0, np.inf, 4],
        [-np.inf, -np.inf, np.inf, np.inf],
        [8, 8, 4, 4],  # inverted
        [3, 3, 3, 9],  # without width
        [3, 3, 3, 3],  # a point
        [0, 0, 3e38, 3e38],  # its area is not a float32
        [-3e38, -3e38, 3e38, 3e38],  # neither is its width
        [0, 0, 1e-30, 1e-30],
        [-40, -40, -8, -8],
    ],
    np.float32,
)


def pairs_of(a, b):
    """Every row of `a` beside every row of `b`."""
    return np.repeat(a, len(b), axis=0), np.tile(b, (len(a), 1))


@functools.cache
def compiled(function, **settings):
    return jax.jit(functools.partial(function, **settings))


@functools.partial(jax.jit, static_argnums=0)
def value_and_gradient(function, *arguments):
    """The result, and the gradient of its mean with respect to all arguments."""
    value, pull_back = jax.vjp(function, *arguments)
    return value, pull_back(jnp.full_like(value, 1e-6))


@EITHER_WAY
def test_area_matches_oracle(variant, pixel_offset):
    boxes = np.concatenate(
        [reference.random_boxes(np.random.default_rng(0), 8), STRANGE[:6]]
    )
    actual = variant(functools.partial(area, pixel_offset=pixel_offset))(boxes)
    np.testing.assert_allclose(actual, reference.area(boxes, pixel_offset), rtol=1e-6)


@LEGACY
@pytest.mark.parametrize(("n", "m"), [(1, 1), (7, 2), (2, 7), (33, 20)])
def test_iou_matches_oracle(n, m, pixel_offset):
    rng = np.random.default_rng(n)
    a, b = reference.random_boxes(rng, n), reference.random_boxes(rng, m)
    iou = compiled(rpn_jax.pairwise_iou, pixel_offset=pixel_offset)
    expected = reference.pairwise_iou(a, b, pixel_offset)
    np.testing.assert_allclose(iou(a, b), expected, rtol=1e-6)


@EITHER_WAY
def test_iou_of_strange_boxes_matches_oracle(variant, pixel_offset):
    a, b = STRANGE[:6], np.array([[0, 0, 8, 8], [3, 3, 3, 3]], np.float32)
    iou = variant(functools.partial(rpn_jax.pairwise_iou, pixel_offset=pixel_offset))
    expected = reference.pairwise_iou(a, b, pixel_offset)
    np.testing.assert_allclose(iou(a, b), expected, rtol=1e-6)


@LEGACY
def test_iou_and_its_gradient_are_finite_for_strange_boxes(pixel_offset):
    iou = functools.partial(rpn_jax.pairwise_iou, pixel_offset=pixel_offset)
    value, gradient = value_and_gradient(iou, STRANGE, STRANGE)
    value = np.asarray(value)
    assert np.all((value >= 0) & (value <= 1 + 1e-6))
    chex.assert_tree_all_finite(gradient)


@given(seed=st.integers(0, 2**16))
def test_iou_is_symmetric_and_one_for_itself(seed):
    boxes = reference.random_boxes(np.random.default_rng(seed), 6)
    iou = np.asarray(compiled(rpn_jax.pairwise_iou)(boxes, boxes))
    # Division is exact on a CPU; on a GPU it may be two units in the last place off.
    tolerance = 0.0 if jax.default_backend() == "cpu" else 5e-7
    assert np.all((iou >= 0) & (iou <= 1 + tolerance))
    np.testing.assert_allclose(iou, iou.T, rtol=tolerance)
    np.testing.assert_allclose(np.diag(iou), 1, rtol=tolerance)


@given(seed=st.integers(0, 2**16), factor=st.sampled_from([0.25, 2.0, 16.0]))
def test_iou_ignores_scale(seed, factor):
    rng = np.random.default_rng(seed)
    a, b = reference.random_boxes(rng, 5), reference.random_boxes(rng, 4)
    iou = compiled(rpn_jax.pairwise_iou)
    scaled = iou(a * np.float32(factor), b * np.float32(factor))
    np.testing.assert_allclose(iou(a, b), scaled, rtol=1e-6)


@EITHER_WAY
@pytest.mark.parametrize("weights", [PLAIN, WEIGHTS], ids=["plain", "weighted"])
def test_encoding_matches_oracle(variant, weights, pixel_offset):
    rng = np.random.default_rng(1)
    anchors = np.concatenate(
        [reference.random_boxes(rng, 20), STRANGE[3:6], STRANGE[:2]]
    )
    boxes = reference.random_boxes(rng, len(anchors))
    settings = {"weights": weights, "pixel_offset": pixel_offset}
    encode = variant(functools.partial(rpn_jax.encode_boxes, **settings))
    for targets, sources in ((boxes, anchors), (anchors, boxes)):
        expected = reference.encode_boxes(targets, sources, **settings)
        np.testing.assert_allclose(
            encode(targets, sources), expected, rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize(
    ("variant", "settings"),
    [
        ("jit", {}),
        ("jit", {"weights": WEIGHTS}),
        ("jit", {"pixel_offset": 1.0, "max_log_scale": np.inf}),
        ("jit", {"max_log_scale": 0.5}),
        ("jit", {"max_log_scale": 0.5, "symmetric_log_scale": True}),
        ("eager", {"weights": WEIGHTS}),
    ],
    ids=["plain", "weighted", "legacy", "clamped", "clamped_both_ways", "eager"],
    indirect=["variant"],
)
def test_decoding_matches_oracle(variant, settings):
    rng = np.random.default_rng(2)
    anchors = reference.random_boxes(rng, 32)
    deltas = rng.normal(0, 2, (32, 4)).astype(np.float32)
    decode = variant(functools.partial(rpn_jax.decode_boxes, **settings))
    expected = reference.decode_boxes(deltas, anchors, **settings)
    np.testing.assert_allclose(decode(deltas, anchors), expected, rtol=1e-5, atol=1e-3)


@given(seed=st.integers(0, 2**16), weights=st.sampled_from([PLAIN, WEIGHTS]))
def test_decoding_inverts_encoding(seed, weights):
    rng = np.random.default_rng(seed)
    boxes, anchors = reference.random_boxes(rng, 8), reference.random_boxes(rng, 8)
    deltas = compiled(rpn_jax.encode_boxes, weights=weights)(boxes, anchors)
    decode = compiled(rpn_jax.decode_boxes, weights=weights, max_log_scale=np.inf)
    decoded = decode(deltas, anchors)
    np.testing.assert_allclose(decoded, boxes, rtol=1e-5, atol=1e-3)


def test_legacy_decoding_of_zero_gains_a_pixel():
    anchors = reference.random_boxes(np.random.default_rng(3), 4)
    decode = compiled(rpn_jax.decode_boxes, pixel_offset=1.0)
    decoded = decode(np.zeros_like(anchors), anchors)
    np.testing.assert_array_equal(
        decoded, anchors + np.array([[0, 0, 1, 1]], np.float32)
    )


STRANGE_DELTAS = np.array(
    [[x] * 4 for x in (np.nan, np.inf, -np.inf, 1e30, -1e30, 3e38, 80.0, -80.0)]
    + [[np.nan, 0, 0, 0], [0, 0, np.nan, 0], [3e38, 0, 0, 0], [0, 0, 3e38, -3e38]],
    np.float32,
)


@LEGACY
@pytest.mark.parametrize(
    "max_log_scale", [np.log(1000 / 16), np.inf], ids=["clamp", "free"]
)
def test_decoding_and_its_gradient_are_always_finite(max_log_scale, pixel_offset):
    options = {"max_log_scale": max_log_scale, "pixel_offset": pixel_offset}
    decode = functools.partial(rpn_jax.decode_boxes, **options)
    ordinary = reference.random_boxes(np.random.default_rng(4), 1)
    pairs = pairs_of(STRANGE_DELTAS, np.concatenate([ordinary, STRANGE]))
    chex.assert_tree_all_finite(value_and_gradient(decode, *pairs))


@LEGACY
def test_encoding_and_its_gradient_are_always_finite(pixel_offset):
    encode = functools.partial(rpn_jax.encode_boxes, pixel_offset=pixel_offset)
    pairs = pairs_of(STRANGE, STRANGE)
    chex.assert_tree_all_finite(value_and_gradient(encode, *pairs))


@pytest.mark.parametrize("row", STRANGE[:3])
def test_a_box_that_is_not_finite_encodes_to_zeros(row):
    ordinary = np.array([[0, 0, 4, 4]], np.float32)
    for pair in ((row[None], ordinary), (ordinary, row[None])):
        deltas = compiled(rpn_jax.encode_boxes)(*pair)
        np.testing.assert_array_equal(deltas, np.zeros((1, 4)))


@EITHER_WAY
def test_clipping_matches_oracle(variant, pixel_offset):
    boxes = reference.random_boxes(np.random.default_rng(5), 32) - np.float32(40)
    clip = variant(functools.partial(rpn_jax.clip_boxes, pixel_offset=pixel_offset))
    expected = reference.clip_boxes(boxes, (20, 30), pixel_offset)
    np.testing.assert_array_equal(clip(boxes, np.array([20, 30], np.int32)), expected)


@pytest.mark.parametrize(
    "image_size",
    [(20, 30), (20.0, 30.0), [20, 30], np.array([20, 30], np.float32)],
    ids=["integers", "floats", "list", "array"],
)
@pytest.mark.parametrize("variant", ["jit", "eager"], indirect=True)
def test_clipping_accepts_every_form_of_the_image_size(variant, image_size):
    boxes = reference.random_boxes(np.random.default_rng(5), 4) - np.float32(40)
    clipped = variant(rpn_jax.clip_boxes)(boxes, image_size)
    np.testing.assert_array_equal(clipped, reference.clip_boxes(boxes, (20, 30)))


@given(seed=st.integers(0, 2**16))
def test_clipping_twice_is_clipping_once(seed):
    boxes = reference.random_boxes(np.random.default_rng(seed), 8) - np.float32(30)
    clip = compiled(rpn_jax.clip_boxes, image_size=(24, 40))
    once = np.asarray(clip(boxes))
    np.testing.assert_array_equal(clip(once), once)
    assert np.all(once >= 0)
    assert np.all(once <= np.array([[40, 24, 40, 24]], np.float32))


def test_clipping_and_its_gradient_are_finite_for_strange_boxes():
    clip = functools.partial(rpn_jax.clip_boxes, image_size=(20, 30))
    value, gradient = value_and_gradient(clip, STRANGE)
    value = np.asarray(value)
    assert np.all((value >= 0) & (value <= 30))
    chex.assert_tree_all_finite(gradient)


@LEGACY
@pytest.mark.parametrize(
    "function", [rpn_jax.pairwise_iou, rpn_jax.encode_boxes, rpn_jax.decode_boxes]
)
def test_gradients_match_finite_differences(function, pixel_offset):
    rng = np.random.default_rng(6)
    a, b = (reference.random_boxes(rng, 4, 4.0, snap=64) for _ in range(2))
    if function is rpn_jax.decode_boxes:
        a = rng.normal(0, 0.5, a.shape).astype(np.float32)
    function = jax.jit(functools.partial(function, pixel_offset=pixel_offset))
    chex.assert_numerical_grads(function, (a, b), order=1, modes=("rev",), eps=1e-3)


@pytest.mark.parametrize(
    "function", [rpn_jax.pairwise_iou, rpn_jax.encode_boxes, rpn_jax.decode_boxes]
)
def test_vmap_equals_a_loop(function):
    rng = np.random.default_rng(7)
    a, b = (reference.random_boxes(rng, 15).reshape(3, 5, 4) for _ in range(2))
    if function is rpn_jax.decode_boxes:
        a = a / np.float32(32)
    looped = [compiled(function)(*pair) for pair in zip(a, b, strict=True)]
    mapped = jax.jit(jax.vmap(function))(a, b)
    np.testing.assert_array_equal(mapped, np.stack(looped))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_geometry_is_float32_whatever_comes_in(dtype):
    boxes = np.array([[0, 0, 400, 400], [2, 2, 130, 258]], dtype)

    @jax.jit
    def every_result(boxes):
        return (
            area(boxes),
            rpn_jax.pairwise_iou(boxes, boxes),
            rpn_jax.encode_boxes(boxes, boxes),
            rpn_jax.decode_boxes(jnp.zeros_like(boxes), boxes),
            rpn_jax.clip_boxes(boxes, (300, 300)),
        )

    results = every_result(boxes)
    assert all(result.dtype == jnp.float32 for result in results)
    np.testing.assert_array_equal(results[0], [160000, 128 * 256])
