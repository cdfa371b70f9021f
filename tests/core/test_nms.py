"""Non-maximum suppression, in the forms of all platforms, beside a loop in NumPy."""

import functools
import inspect

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.reference import exceeds, nms_by_hand, overlaps_by_hand

from rpn_jax.core.nms import nms

# For large inputs: what the tests compile without optimisation runs slowly.
OPTIMIZED = {"xla_backend_optimization_level": 1}

# --- inputs


def random_boxes(rng, n):
    center = rng.uniform(0, 600, (n, 2))
    half = np.exp(rng.uniform(np.log(4), np.log(120), (n, 2)))
    return np.concatenate([center - half, center + half], axis=1).astype(np.float32)


def clustered_boxes(rng, n):
    jitter = rng.normal(0, 6, (n, 4))
    clusters = random_boxes(rng, max(n // 20, 1))
    return (clusters[rng.integers(len(clusters), size=n)] + jitter).astype(np.float32)


def raster_boxes(rng, n, side=64.0, stride=8.0):
    """Anchors of one shape, which an untrained head gives one and the same score."""
    y, x = np.divmod(np.arange(n), max(int(np.sqrt(n)), 1))
    corner = np.stack([x, y], axis=1) * stride
    return np.concatenate([corner, corner + side], axis=1).astype(np.float32)


def distinct_scores(rng, n):
    return (rng.permutation(n) / max(n, 1)).astype(np.float32)


def make_case(kind, n, seed=0):
    rng = np.random.default_rng(seed)
    boxes, scores = random_boxes(rng, n), distinct_scores(rng, n)
    if kind == "clustered":
        boxes = clustered_boxes(rng, n)
    elif kind == "equal_scores":
        boxes, scores = clustered_boxes(rng, n), np.full(n, 0.5, np.float32)
    elif kind == "tied_scores":
        boxes = clustered_boxes(rng, n)
        scores = rng.choice(np.array([-1, -0.0, 0.0, 1], np.float32), n)
    elif kind == "raster":
        boxes, scores = raster_boxes(rng, n), np.zeros(n, np.float32)
    elif kind == "negative":
        boxes = -np.abs(clustered_boxes(rng, n)[:, [2, 3, 0, 1]])
    elif kind == "giant":
        boxes = clustered_boxes(rng, n)
        boxes[n // 2] = [-1e9, -1e9, 1e9, 1e9]
        scores[n // 2] = 2.0
    elif kind == "degenerate":
        boxes = clustered_boxes(rng, n)
        boxes[::3, 2] = boxes[::3, 0]  # without width
        boxes[1::5] = boxes[1::5][:, [2, 3, 0, 1]]  # inverted
        boxes[::7] = boxes[:1]  # and many the same
    return boxes, scores


@functools.cache
def kept_by_hand(kind, n, seed, iou_threshold):
    """What the oracle keeps of a case: the same for the forms of all platforms."""
    return nms_by_hand(*make_case(kind, n, seed), iou_threshold=iou_threshold)


KINDS = [
    "random",
    "clustered",
    "equal_scores",
    "tied_scores",
    "raster",
    "negative",
    "giant",
    "degenerate",
]


# --- the forms of all platforms


@pytest.fixture(scope="module", params=["collecting", "masking"])
def keep(request):
    """`nms` in the form of a CPU or of the other platforms, as a list of indices."""

    def choose(*arguments, cpu, default):
        return (cpu if request.param == "collecting" else default)(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax.lax, "platform_dependent", choose)

        @functools.cache
        def compiled(is_large, **settings):
            function = functools.partial(inspect.unwrap(nms), **settings)
            return jax.jit(function, compiler_options=OPTIMIZED if is_large else None)

        def run(
            boxes, scores, *, valid=None, groups=None, max_outputs=None, **settings
        ):
            number = max_outputs or max(len(boxes), 1)
            is_large = len(boxes) > 5000
            function = compiled(is_large, max_outputs=number, **settings)
            return as_list(function(boxes, scores, valid=valid, groups=groups))

        yield run


def as_list(result):
    """The indices that are valid, after a check of the padding."""
    indices, valid = np.asarray(result.indices), np.asarray(result.valid)
    count = int(valid.sum())
    assert valid[:count].all()
    assert (indices[count:] == 0).all()
    return indices[:count].tolist()


# --- against the oracle


@pytest.mark.parametrize("iou_threshold", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_matches_oracle_at_every_threshold(keep, iou_threshold):
    for kind in KINDS:
        expected = kept_by_hand(kind, 300, 0, iou_threshold)
        kept = keep(*make_case(kind, 300), iou_threshold=iou_threshold)
        assert kept == expected, kind


@pytest.mark.parametrize("n", [0, 1, 32, 129, 1000])
def test_matches_oracle_at_every_size(keep, n):
    for kind in ("clustered", "raster"):
        kept = keep(*make_case(kind, n, seed=n), iou_threshold=0.6)
        assert kept == kept_by_hand(kind, n, n, 0.6), kind


def test_matches_oracle_on_many_boxes(keep):
    for kind in ("clustered", "random"):
        kept = keep(*make_case(kind, 6_000), iou_threshold=0.7)
        assert kept == kept_by_hand(kind, 6_000, 0, 0.7), kind


@pytest.mark.parametrize("max_outputs", [1, 100, 400])
def test_stops_at_the_number_asked_for(keep, max_outputs):
    boxes, scores = make_case("random", 300)
    settings = {"iou_threshold": 0.5, "max_outputs": max_outputs}
    assert keep(boxes, scores, **settings) == nms_by_hand(boxes, scores, **settings)


def test_sorts_more_boxes_than_16_bits_count():
    boxes, scores = make_case("random", 70_000)
    scores = np.round(scores, 3)
    keep = functools.partial(nms, iou_threshold=0.1, max_outputs=20)
    actual = as_list(jax.jit(keep, compiler_options=OPTIMIZED)(boxes, scores))
    best = np.argsort(-scores, kind="stable")[:2000]
    expected = nms_by_hand(boxes[best], scores[best], iou_threshold=0.1, max_outputs=20)
    assert actual == best[expected].tolist()


def test_legacy_boxes_match_oracle(keep):
    for kind in ("clustered", "degenerate", "raster"):
        boxes, scores = make_case(kind, 300)
        boxes = np.round(boxes / 8)  # small enough for a pixel to matter
        expected = nms_by_hand(boxes, scores, iou_threshold=0.5, pixel_offset=1.0)
        actual = keep(boxes, scores, iou_threshold=0.5, pixel_offset=1.0)
        assert actual == expected, kind
        assert keep(boxes, scores, iou_threshold=0.5) != expected, kind


@pytest.mark.parametrize("iou_threshold", [0.0, 0.5, 0.7])
@pytest.mark.parametrize("inclusive_threshold", [False, True])
def test_equality_with_the_threshold_follows_the_option(
    keep, iou_threshold, inclusive_threshold
):
    widths = np.array([10, 1, 2.5, 3, 5, 7, 9, 10, 0.1], np.float32)
    boxes = np.stack([0 * widths, 0 * widths, widths, 0 * widths + 1], axis=1)
    boxes = np.concatenate([boxes, boxes + 100])  # pairs that do not touch
    scores = np.linspace(1, 0, len(boxes), dtype=np.float32)
    settings = {
        "iou_threshold": iou_threshold,
        "inclusive_threshold": inclusive_threshold,
    }
    assert keep(boxes, scores, **settings) == nms_by_hand(boxes, scores, **settings)


def test_a_threshold_is_the_number_that_was_written(keep):
    # In float32, 0.3 is a little more than 0.3, and 0.7 is a little less.
    boxes = np.array([[0, 0, 10, 1], [0, 0, 3, 1], [50, 0, 60, 1], [50, 0, 57, 1]])
    boxes, scores = boxes.astype(np.float32), np.linspace(1, 0, 4, dtype=np.float32)
    assert keep(boxes, scores, iou_threshold=0.3) == [0, 2]
    assert keep(boxes, scores, iou_threshold=0.7) == [0, 1, 2, 3]
    inclusive = {"iou_threshold": 0.7, "inclusive_threshold": True}
    assert keep(boxes, scores, **inclusive) == [0, 1, 2]


@pytest.mark.skipif(
    jax.default_backend() == "gpu", reason="XLA's division on GPUs is not exact"
)
def test_rounding_is_that_of_the_references(keep):
    """Thousands of pairs with IoUs within a few units in the last place of 0.7."""
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 900, (3000, 2))
    sides = rng.uniform(20, 200, (3000, 2))
    a = np.concatenate([corner, corner + sides], axis=1).astype(np.float32)
    b = a.copy()
    b[:, 2] = a[:, 0] + np.float32(0.7) * (a[:, 2] - a[:, 0])
    boxes = np.stack([a, b], axis=1).reshape(-1, 4)
    groups = np.repeat(np.arange(3000), 2)
    scores = np.linspace(1, 0, 6000, dtype=np.float32)
    kept = keep(boxes, scores, groups=groups, iou_threshold=0.7)
    iou = [overlaps_by_hand(x, y[None])[0] for x, y in zip(a, b, strict=True)]
    expected = np.stack([np.ones(3000, bool), np.array(iou, float) <= 0.7], axis=1)
    assert 0.2 < expected[:, 1].mean() < 0.8
    assert kept == np.flatnonzero(expected).tolist()


# --- rows that do not take part


def test_rows_that_are_not_finite_neither_stay_nor_suppress(keep):
    boxes, scores = make_case("clustered", 300)
    boxes[::10, 1], boxes[1::10, 2], boxes[2::10, 0] = np.nan, np.inf, -np.inf
    scores[3::10], scores[4::10] = np.nan, -np.inf
    scores[5::10] = np.inf  # the highest rank
    kept = keep(boxes, scores, iou_threshold=0.7)
    assert kept == nms_by_hand(boxes, scores, iou_threshold=0.7)
    assert not np.isin(np.array(kept) % 10, [0, 1, 2, 3, 4]).any()


def test_rows_that_are_not_valid_may_hold_anything(keep):
    boxes, scores = make_case("clustered", 300)
    valid = np.arange(300) % 3 != 0
    expected = nms_by_hand(boxes, scores, valid=valid, iou_threshold=0.7)
    for filler in (0.0, np.nan, np.inf, 1e38):
        dirty = np.where(valid[:, None], boxes, np.float32(filler))
        loud = np.where(valid, scores, np.float32(filler))
        assert keep(dirty, loud, valid=valid, iou_threshold=0.7) == expected
    assert keep(boxes, scores, valid=np.zeros(300, bool), iou_threshold=0.7) == []


def test_boxes_without_area_stay_and_do_not_suppress(keep):
    boxes = np.array([[5, 5, 5, 5]] * 3 + [[9, 9, 1, 1]] * 2 + [[0, 0, 9, 9]] * 2)
    scores = np.linspace(1, 0, 7, dtype=np.float32)
    boxes = boxes.astype(np.float32)
    assert keep(boxes, scores, iou_threshold=0.0) == [0, 1, 2, 3, 4, 5]


# --- groups


def test_groups_match_oracle(keep):
    boxes, scores = make_case("clustered", 300)
    groups = np.random.default_rng(1).integers(-2, 3, 300) * 1_000_000_007 % 2**31
    groups = groups.astype(np.int32)
    expected = nms_by_hand(boxes, scores, groups=groups, iou_threshold=0.5)
    assert keep(boxes, scores, groups=groups, iou_threshold=0.5) == expected
    apart = [
        keep(boxes, scores, valid=groups == group, iou_threshold=0.5)
        for group in np.unique(groups)
    ]
    assert sorted(expected) == sorted(np.concatenate(apart).tolist())


# --- properties

coordinates = st.integers(0, 12)
drawn_box = st.tuples(coordinates, coordinates, st.integers(0, 8), st.integers(0, 8))
drawn_rows = st.lists(
    st.tuples(drawn_box, st.integers(0, 4), st.integers(0, 1)), min_size=24, max_size=24
)


def to_arrays(rows):
    boxes = np.array([(x, y, x + w, y + h) for (x, y, w, h), _, _ in rows], np.float32)
    scores = np.array([score for _, score, _ in rows], np.float32)
    return boxes, scores, np.array([group for _, _, group in rows], np.int32)


@given(rows=drawn_rows)
def test_kept_boxes_are_apart_and_dropped_boxes_had_a_reason(keep, rows):
    boxes, scores, groups = to_arrays(rows)
    kept = keep(boxes, scores, groups=groups, iou_threshold=0.4)
    for rank, i in enumerate(kept):
        better = [j for j in kept[:rank] if groups[j] == groups[i]]
        assert not exceeds(overlaps_by_hand(boxes[i], boxes[better]), 0.4).any()
        assert all((-scores[j], j) < (-scores[i], i) for j in better)
    for i in set(range(len(rows))) - set(kept):
        better = [j for j in kept if groups[j] == groups[i]]
        better = [j for j in better if (-scores[j], j) < (-scores[i], i)]
        assert exceeds(overlaps_by_hand(boxes[i], boxes[better]), 0.4).any()


@given(rows=drawn_rows, seed=st.integers(0, 1000))
def test_permuting_the_input_permutes_the_output(keep, rows, seed):
    boxes, scores, groups = to_arrays(rows)
    scores = np.argsort(np.argsort(scores, kind="stable")).astype(np.float32)
    moved = np.random.default_rng(seed).permutation(len(rows))
    kept = keep(boxes, scores, groups=groups, iou_threshold=0.4)
    again = keep(boxes[moved], scores[moved], groups=groups[moved], iou_threshold=0.4)
    assert moved[again].tolist() == kept


@given(rows=drawn_rows)
def test_a_second_pass_changes_nothing(keep, rows):
    boxes, scores, _ = to_arrays(rows)
    kept = keep(boxes, scores, iou_threshold=0.4)
    valid = np.isin(np.arange(len(rows)), kept)
    assert keep(boxes, scores, valid=valid, iou_threshold=0.4) == kept


# --- as a JAX function


def batch_of_cases(n=200):
    cases = [make_case(kind, n) for kind in KINDS[:6]]
    return [np.stack(x).reshape(2, 3, n, -1) for x in zip(*cases, strict=True)]


@pytest.mark.parametrize(
    ("form", "variant"),
    [("collecting", "jit"), ("masking", "jit"), ("collecting", "eager")],
    indirect=["variant"],
)
def test_vmap_equals_a_loop(form, variant, monkeypatch):
    def choose(*arguments, cpu, default):
        return (cpu if form == "collecting" else default)(*arguments)

    monkeypatch.setattr(jax.lax, "platform_dependent", choose)
    one = functools.partial(inspect.unwrap(nms), iou_threshold=0.6, max_outputs=70)
    boxes, scores = batch_of_cases()
    scores = scores[..., 0]
    batch = variant(jax.vmap(jax.vmap(one)))(boxes, scores)
    batch = jax.tree.map(np.asarray, batch)
    for i in np.ndindex(2, 3):
        single = nms(boxes[i], scores[i], iou_threshold=0.6, max_outputs=70)
        np.testing.assert_array_equal(batch.indices[i], single.indices)
        np.testing.assert_array_equal(batch.valid[i], single.valid)


def test_vmap_may_share_boxes_and_leave_out_groups():
    boxes, scores = make_case("clustered", 100)
    many = np.stack([scores, -scores])
    keep_all = functools.partial(nms, boxes, iou_threshold=0.6, max_outputs=100)
    batch = jax.tree.map(np.asarray, jax.jit(jax.vmap(keep_all))(many))
    for i in (0, 1):
        single = keep_all(many[i])
        np.testing.assert_array_equal(batch.indices[i], single.indices)
        np.testing.assert_array_equal(batch.valid[i], single.valid)


def test_no_gradient_passes_and_what_is_selected_keeps_its_own():
    boxes, scores = make_case("clustered", 100)

    def mean_kept(boxes, scores):
        kept = nms(boxes, scores, iou_threshold=0.5, max_outputs=20)
        selected = jnp.where(kept.valid, (scores**2)[kept.indices], 0.0)
        return jnp.sum(selected)

    gradients = jax.jit(jax.grad(mean_kept, argnums=(0, 1)))
    by_boxes, by_scores = gradients(boxes, scores)
    kept = nms_by_hand(boxes, scores, iou_threshold=0.5, max_outputs=20)
    expected = np.where(np.isin(np.arange(100), kept), 2 * np.asarray(scores), 0)
    np.testing.assert_array_equal(by_boxes, 0)
    np.testing.assert_allclose(by_scores, expected, rtol=1e-6)
    batched = jax.jit(jax.vmap(jax.grad(mean_kept)))(boxes[None], scores[None])
    np.testing.assert_array_equal(batched, 0)


def test_geometry_of_bfloat16_boxes_is_float32():
    boxes, scores = make_case("clustered", 200)
    boxes, scores = boxes.astype(jnp.bfloat16), scores.astype(jnp.bfloat16)
    actual = nms(boxes, scores, iou_threshold=0.6, max_outputs=200)
    exact = [x.astype(np.float32) for x in (boxes, scores)]
    assert as_list(actual) == nms_by_hand(*exact, iou_threshold=0.6)


def test_traces_once_for_changing_values():
    traced = chex.assert_max_traces(inspect.unwrap(nms), n=1)
    function = jax.jit(functools.partial(traced, iou_threshold=0.6, max_outputs=30))
    for kind in KINDS[:3]:
        boxes, scores = make_case(kind, 100)
        expected = nms_by_hand(boxes, scores, iou_threshold=0.6, max_outputs=30)
        assert as_list(function(boxes, scores)) == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"iou_threshold": 1.5, "max_outputs": 1}, r"iou_threshold in \[0, 1\].* 1\.5"),
        ({"iou_threshold": -0.1, "max_outputs": 1}, r"iou_threshold in \[0, 1\]"),
        ({"iou_threshold": 0.5, "max_outputs": 0}, "max_outputs of at least 1"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    boxes, scores = make_case("random", 4)
    with pytest.raises(ValueError, match=message):
        nms(boxes, scores, **settings)


# --- what a compiler says


def temporary_bytes(compiled):
    analysis = compiled.memory_analysis()
    assert analysis is not None
    return analysis.temp_size_in_bytes


def test_memory_stays_below_that_of_a_matrix_of_pairs(keep):
    arguments = make_case("random", 12_000)
    one = inspect.unwrap(nms)  # the compiled one would keep the form of its first trace
    function = functools.partial(one, iou_threshold=0.7, max_outputs=2000)
    compiled = jax.jit(function).lower(*arguments).compile()
    assert temporary_bytes(compiled) < 8 * 2**20


def test_scores_one_unit_in_the_last_place_apart_are_ranked():
    boxes = np.array([[20 * i, 0, 20 * i + 9, 9] for i in range(6)], np.float32)
    half, two = np.float32(0.5), np.float32(-2.0)
    one, zero = np.float32(1.0), np.float32(0.0)
    scores = [half, np.nextafter(half, one), np.nextafter(half, zero)]
    scores += [two, np.nextafter(two, zero), np.nextafter(two, 2 * two)]
    kept = nms(boxes, np.array(scores, np.float32), iou_threshold=0.5, max_outputs=6)
    assert kept.indices.tolist() == [1, 0, 2, 4, 3, 5]
