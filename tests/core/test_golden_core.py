"""Parity with five other implementations, whose inputs and outputs are on file.

`RPN_JAX_GOLDEN` names the folder; its README says how the files were made. Labels have
to be equal but for the anchors that a file marks, where float32 rounding decides: ties
to the last bit (`near_best`) and overlaps that are a threshold to the last bit
(`fragile`).
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rpn_jax
from rpn_jax import AnchorConfig, LossConfig, RPNOutput, TargetConfig, Targets

PEERS = ["torchvision", "detectron2", "jwyang", "pyfrcnn", "mmdet"]
LEGACY_PEERS = ["jwyang", "pyfrcnn"]

# Of each geometry: the sizes and strides, the feature shapes, the size of the image.
GEOMETRIES = {
    "c4": (((128, 256, 512),), (16,), [(38, 63)], (600, 1000)),
    "c4small": (((32, 64, 128),), (16,), [(10, 15)], (160, 240)),
    "fpn": (
        (32, 64, 128, 256, 512),
        (4, 8, 16, 32, 64),
        [(200, 336), (100, 168), (50, 84), (25, 42), (13, 21)],
        (800, 1333),
    ),
    "fpnsmall": (
        (16, 32, 64, 128, 256),
        (4, 8, 16, 32, 64),
        [(64, 80), (32, 40), (16, 20), (8, 10), (4, 5)],
        (256, 320),
    ),
}
STYLES = {
    "torchvision": {"rounding": "corners"},
    "detectron2": {"cell_order": "size_major"},
    "jwyang": {"rounding": "legacy"},
    "pyfrcnn": {"rounding": "legacy"},
    "mmdet": {},
}


def anchor_config(peer, geometry):
    sizes, strides, _, _ = GEOMETRIES[geometry]
    return AnchorConfig(sizes=sizes, strides=strides, **STYLES[peer])


@functools.cache
def anchor_grid(peer, geometry):
    return rpn_jax.make_anchors(anchor_config(peer, geometry), GEOMETRIES[geometry][2])


all_boxes = jax.jit(lambda grid: grid.boxes)


# --- anchors


def levels_of(file, prefix, name):
    """`prefix/L0/name`, `prefix/L1/name`, ... of a file."""
    count = sum(
        key.startswith(f"{prefix}/L") and key.endswith(f"/{name}") for key in file
    )
    return [file[f"{prefix}/L{level}/{name}"] for level in range(count)]


def nested(file, geometry):
    """Sizes, strides, ratios and grids of the geometries a file describes itself."""
    return {
        "sizes": tuple(tuple(row) for row in file[f"{geometry}/sizes"].tolist()),
        "strides": tuple(file[f"{geometry}/strides"].tolist()),
        "aspect_ratios": tuple(file[f"{geometry}/ratios_h_over_w"].tolist()),
    }, [tuple(shape) for shape in file[f"{geometry}/grids_hw"].tolist()]


@pytest.mark.parametrize(
    "geometry",
    [
        "c4",
        "c4small",
        "fpn",
        "fpnsmall",
        "halves",
        "multi",
        "odd",
        "s32",
        "vgg_600x1000",
    ],
)
def test_anchors_are_those_of_torchvision(golden, geometry):
    file = golden("torchvision", "anchors")
    settings, shapes = nested(file, geometry)
    config = AnchorConfig(**settings, rounding="corners")
    boxes = all_boxes(rpn_jax.make_anchors(config, shapes))
    expected = np.concatenate(levels_of(file, geometry, "anchors"))
    np.testing.assert_array_equal(boxes, expected)
    padded = tuple(file[f"{geometry}/forward_pad_hw"].tolist())
    grid = rpn_jax.make_anchors(config, shapes, padded)
    strides = [level.stride for level in grid.levels]
    np.testing.assert_array_equal(strides, file[f"{geometry}/forward_strides_hw"])
    if f"{geometry}/forward_anchors" in file:
        forward = file[f"{geometry}/forward_anchors"]
        np.testing.assert_array_equal(all_boxes(grid), forward)


@pytest.mark.parametrize("offset", [0.0, 0.5])
@pytest.mark.parametrize(
    "geometry", ["c4", "c4small", "fpn", "fpnsmall", "multi", "odd", "s32"]
)
def test_anchors_are_those_of_detectron2(golden, geometry, offset):
    file = golden("detectron2", "anchors")
    expected = levels_of(file, f"{geometry}/offset{offset}", "anchors")
    if not expected:
        pytest.skip(f"the file has no {geometry} at offset {offset}")
    settings, shapes = nested(file, geometry)
    config = AnchorConfig(**settings, cell_order="size_major", center_offset=offset)
    boxes = all_boxes(rpn_jax.make_anchors(config, shapes))
    np.testing.assert_array_equal(boxes, np.concatenate(expected))


@pytest.mark.parametrize("geometry", ["c4", "c4small", "stride8", "odd"])
def test_anchors_are_those_of_jwyang(golden, geometry):
    file = golden("jwyang", "anchors")
    config = AnchorConfig(
        sizes=(tuple(16.0 * scale for scale in file[f"{geometry}/scales"].tolist()),),
        strides=(int(file[f"{geometry}/feat_stride"]),),
        aspect_ratios=tuple(file[f"{geometry}/ratios"].tolist()),
        rounding="legacy",
    )
    height, width = file[f"{geometry}/grid_hw"].tolist()
    boxes = all_boxes(rpn_jax.make_anchors(config, [(height, width)]))
    np.testing.assert_array_equal(boxes, file[f"{geometry}/anchors"])


@pytest.mark.parametrize("base_size", [4, 8, 16, 32])
def test_cells_are_those_of_jwyang_for_any_base_size(golden, base_size):
    config = AnchorConfig(
        sizes=(tuple(base_size * scale for scale in (8, 16, 32)),),
        strides=(16,),
        rounding="legacy",
        base_size=base_size,
    )
    (cell,) = rpn_jax.cell_anchors(config)
    expected = golden("jwyang", "anchors")[f"base_size{base_size}"]
    np.testing.assert_array_equal(cell, expected.astype(np.float32))


@pytest.mark.parametrize("geometry", ["c4", "c4small"])
def test_anchors_are_those_of_py_faster_rcnn(golden, geometry):
    expected = golden("pyfrcnn", "anchors")[f"{geometry}/anchors"]
    boxes = all_boxes(anchor_grid("pyfrcnn", geometry))
    np.testing.assert_array_equal(boxes, expected)


@pytest.mark.parametrize("geometry", ["c4", "c4small", "fpn", "fpnsmall"])
def test_anchors_are_those_of_mmdetection(golden, geometry):
    expected = levels_of(golden("mmdet", "anchors"), geometry, "anchors")
    boxes = all_boxes(anchor_grid("mmdet", geometry))
    np.testing.assert_array_equal(boxes, np.concatenate(expected))


def test_octaves_are_those_of_mmdetection(golden):
    config = AnchorConfig(
        sizes=(32,), strides=(8,), scales_per_octave=3, cell_order="size_major"
    )
    (expected,) = levels_of(golden("mmdet", "anchors"), "octave", "anchors")
    boxes = all_boxes(rpn_jax.make_anchors(config, [(5, 7)]))
    np.testing.assert_array_equal(boxes, expected)


@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_offset_centres_are_those_of_mmdetection(golden, offset):
    config = AnchorConfig(
        sizes=((16, 28), (32, 56)),
        strides=(8, 16),
        aspect_ratios=(0.33, 1.0, 3.0),
        center_offset=offset,
    )
    expected = levels_of(golden("mmdet", "anchors"), f"odd_offset{offset}", "anchors")
    boxes = all_boxes(rpn_jax.make_anchors(config, [(5, 7), (3, 4)]))
    np.testing.assert_array_equal(boxes, np.concatenate(expected))


# --- box coding


def pixel_offset_of(peer):
    return 1.0 if peer in LEGACY_PEERS else 0.0


def float32(*arrays):
    return [np.asarray(array, np.float32) for array in arrays]


CODER_ROWS = 512  # as many as every file has, but for its extreme deltas


@functools.cache
def compiled(function, **settings):
    return jax.jit(functools.partial(function, **settings))


def pad_rows(array, number):
    """Zeros after the rows, so that arrays of several lengths share a program."""
    padding = [(0, number - len(array))] + [(0, 0)] * (array.ndim - 1)
    return np.pad(array, padding)


def best(file, name):
    """What a peer computed in float64, or in float32 if that is all."""
    return file.get(f"{name}_f64", file.get(f"{name}_f32"))


WEIGHTINGS = pytest.mark.parametrize(
    ("suffix", "weights"),
    [("", (1.0, 1.0, 1.0, 1.0)), ("_w10_10_5_5", (10.0, 10.0, 5.0, 5.0))],
    ids=["plain", "weighted"],
)


def require(file, name):
    if f"{name}_f32" not in file:
        pytest.skip(f"the file has no {name}")


@WEIGHTINGS
@pytest.mark.parametrize("peer", PEERS)
def test_encoding_is_that_of_the_peers(golden, peer, suffix, weights):
    file = golden(peer, "box_coder")
    require(file, f"encode{suffix}")
    boxes, anchors = float32(file["gt_boxes"], file["anchors"])
    encode = compiled(
        rpn_jax.encode_boxes, weights=weights, pixel_offset=pixel_offset_of(peer)
    )
    deltas = np.asarray(encode(boxes, anchors))
    expected = file[f"encode{suffix}_f32"]
    # Rows 2 and 3 are degenerate: the peers give infinities and NaN, we give 0.
    assert np.isfinite(deltas).all()
    rows = np.isfinite(expected).all(axis=1)
    # A small shift is the difference of two large centres: its error is absolute.
    np.testing.assert_allclose(deltas[rows], expected[rows], rtol=1e-5, atol=1e-5)


@WEIGHTINGS
@pytest.mark.parametrize("name", ["decode", "decode_extreme"])
@pytest.mark.parametrize("peer", PEERS)
def test_decoding_is_that_of_the_peers(golden, peer, name, suffix, weights):
    file = golden(peer, "box_coder")
    require(file, f"{name}{suffix}")
    prefix = name.removeprefix("decode").removeprefix("_")
    prefix = f"{prefix}_" if prefix else ""
    deltas, anchors = float32(file[f"{prefix}deltas"], file[f"{prefix}anchors"])
    decode = compiled(
        rpn_jax.decode_boxes,
        weights=weights,
        pixel_offset=pixel_offset_of(peer),
        max_log_scale=math.inf if peer in LEGACY_PEERS else math.log(1000 / 16),
        symmetric_log_scale=peer == "mmdet",
    )
    boxes = decode(pad_rows(deltas, CODER_ROWS), pad_rows(anchors, CODER_ROWS))
    boxes = np.asarray(boxes)[: len(deltas)]
    assert np.isfinite(boxes).all()
    expected = best(file, f"{name}{suffix}")
    # Where a delta is not finite, or makes a box beyond float32, we differ on purpose.
    rows = np.isfinite(deltas).all(axis=1) & (np.abs(expected) < 1e30).all(axis=1)
    scale = np.abs(expected[rows]).max(axis=1, keepdims=True) + 1.0
    np.testing.assert_allclose(boxes[rows] / scale, expected[rows] / scale, atol=1e-5)


@pytest.mark.parametrize("peer", ["torchvision", "jwyang", "pyfrcnn", "mmdet"])
def test_clipping_is_that_of_the_peers(golden, peer):
    file = golden(peer, "box_coder")
    boxes, image_size = float32(file["decode_f32"], file["image_hw"])
    clip = compiled(rpn_jax.clip_boxes, pixel_offset=pixel_offset_of(peer))
    clipped = clip(boxes, image_size)
    np.testing.assert_array_equal(clipped, file["decode_clipped_f32"])


# --- matching


SMALL_SCENES = ["random0", "ties", "tiny", "duplicates", "one", "nogt"]
SMALL = [("c4small", peer, scene) for peer in PEERS for scene in SMALL_SCENES]
SMALL += [("fpnsmall", *rest) for _, *rest in SMALL if rest[0] not in LEGACY_PEERS]
SMALL.remove(("c4small", "pyfrcnn", "nogt"))  # where py-faster-rcnn crashes
LARGE = [("c4", peer, scene) for peer in PEERS for scene in ("random0", "ties")]
LARGE += [("fpn", peer, "random0") for peer in PEERS if peer not in LEGACY_PEERS]


def mmdet_labels(gt_inds):
    """-2 and -1 ignored, 0 negative, above that positive."""
    return np.minimum(np.maximum(gt_inds, -1), 1)


def cases_of(peer, file):
    """`(config, expected labels, border, ignored rows)` of everything in a file."""
    if peer == "torchvision":
        yield TargetConfig(), file["labels_f32"], "", 0
    elif peer == "detectron2":
        for border in (None, 0, 16):
            config = TargetConfig(allowed_border=border, border_after_matching=True)
            name = -1 if border is None else border
            yield config, file[f"labels_boundary{name}_f32"], "", 0
    elif peer in LEGACY_PEERS:
        for name, labels in file.items():
            if name.startswith("labels_border") and not name.endswith("_f64"):
                border = name.split("_")[1].removeprefix("border")
                config = TargetConfig(
                    allowed_border=float(border),
                    pixel_offset=1.0,
                    clobber_positives="clobber" in name,
                )
                yield config, labels, f"_border{border}", 0
    else:
        yield from mmdet_cases(file)


def mmdet_cases(file):
    default = TargetConfig(retarget_forced=True, min_force_iou=0.3)
    for name, gt_inds in file.items():
        labels = mmdet_labels(gt_inds)
        if name.startswith("gt_inds_first2ignored"):
            over_anchors = name.endswith("1")
            config = dataclasses.replace(
                default, ignore_iof=0.5, ignore_wrt_candidates=over_anchors
            )
            yield config, labels, "", 2
        elif name.startswith("gt_inds_border"):
            _, _, border, minpos, *rest = name.split("_")
            border = float(border.removeprefix("border"))
            config = dataclasses.replace(
                default,
                allowed_border=border if border >= 0 else None,
                min_force_iou=float(minpos.removeprefix("minpos")),
                force_match="first" if rest else "ties",
            )
            yield config, labels, "", 0


ROWS = 20  # every image is padded to as many, so that its program is compiled once


def padded(gt_boxes, geometry):
    """`(gt_boxes, gt_valid, image_size)` of an image."""
    number = len(gt_boxes)
    boxes = np.full((ROWS, 4), np.nan, np.float32)
    boxes[:number] = gt_boxes
    size = np.array(GEOMETRIES[geometry][3], np.float32)
    return boxes, np.arange(ROWS) < number, size


def match_anchors(anchors, truth, config, ignored=0):
    """NumPy arrays of the matches; the first rows may be ignored regions."""
    match = compiled(rpn_jax.match_anchors, config=config)
    found = match(anchors, *truth, gt_ignore=np.arange(ROWS) < ignored)
    return jax.tree.map(np.asarray, found)


def anchors_of(peer, geometry, form):
    grid = anchor_grid(peer, geometry)
    return grid if form == "grid" else all_boxes(grid)


def assert_labels_equal(golden, geometry, peer, scene, form, only=None):
    file = golden(peer, f"match_{geometry}_{scene}")
    anchors = anchors_of(peer, geometry, form)
    truth = padded(file["gt_boxes"], geometry)
    for config, expected, border, ignored in list(cases_of(peer, file))[:only]:
        labels = match_anchors(anchors, truth, config, ignored).labels
        decisive = ~marked(file, peer, border, expected.shape)
        np.testing.assert_array_equal(labels[decisive], expected[decisive], str(config))


def marked(file, peer, border, shape):
    """Anchors whose label hangs on the last bit."""
    marks = file.get(f"fragile{border}", np.zeros(shape, bool))
    if peer in ("detectron2", "mmdet"):  # the sides of their anchors are irrational
        marks = marks | file["near_best"]
    return marks


@pytest.mark.parametrize(("geometry", "peer", "scene"), SMALL + LARGE)
def test_labels_are_those_of_the_peers(golden, geometry, peer, scene):
    """The grid, by the first settings that a file holds."""
    assert_labels_equal(golden, geometry, peer, scene, "grid", only=1)


@pytest.mark.parametrize(("geometry", "peer", "scene"), SMALL)
def test_labels_are_those_of_the_peers_under_all_settings(
    golden, geometry, peer, scene
):
    """Plain boxes, by every combination of settings that a file holds."""
    assert_labels_equal(golden, geometry, peer, scene, "boxes")


@pytest.mark.parametrize(
    "scene", ["c4small_random0", "c4small_ties", "fpnsmall_random0"]
)
def test_boxes_and_overlaps_are_those_of_torchvision(golden, scene):
    file = golden("torchvision", f"match_{scene}")
    geometry = scene.split("_")[0]
    grid, truth = (
        anchor_grid("torchvision", geometry),
        padded(file["gt_boxes"], geometry),
    )
    found = match_anchors(grid, truth, TargetConfig())
    np.testing.assert_allclose(found.max_iou, file["max_iou_per_anchor_f32"], rtol=1e-6)
    np.testing.assert_array_equal(found.gt_index, file["argmax_gt_per_anchor_f32"])
    rows, expected = file["pos_idx_f32"], file["pos_targets_f32"]
    pairs = truth[0][found.gt_index[rows]], np.asarray(all_boxes(grid))[rows]
    encode = compiled(
        rpn_jax.encode_boxes, weights=(1.0, 1.0, 1.0, 1.0), pixel_offset=0.0
    )
    deltas = np.asarray(encode(*(pad_rows(x, CODER_ROWS) for x in pairs)))[: len(rows)]
    np.testing.assert_allclose(deltas, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("form", ["grid", "boxes"])
@pytest.mark.parametrize("scene", ["random0", "duplicates", "ties"])
def test_forced_anchors_go_to_the_boxes_of_mmdetection(golden, scene, form):
    file = golden("mmdet", f"match_c4small_{scene}")
    anchors = anchors_of("mmdet", "c4small", form)
    config = TargetConfig(retarget_forced=True, min_force_iou=0.3)
    found = match_anchors(anchors, padded(file["gt_boxes"], "c4small"), config)
    expected = file["gt_inds_border-1_minpos0.3"]
    # Forced anchors are `near_best`, and marked: those of the last box are what counts.
    rows = (expected > 0) & (found.labels == 1)
    np.testing.assert_array_equal(found.gt_index[rows], expected[rows] - 1)


# --- losses


LOSSES = {
    "torchvision": {"": LossConfig()},
    "detectron2": {
        "beta0/": LossConfig(normalizer="fixed", beta=0.0),
        "beta1_9/": LossConfig(normalizer="fixed"),
        "beta0_w_cls2_loc05/": LossConfig(
            normalizer="fixed", beta=0.0, objectness_weight=2.0, box_weight=0.5
        ),
        "giou/": LossConfig(normalizer="fixed", box_loss="giou"),
    },
    "jwyang": {"": LossConfig(box_normalizer="image")},
    "mmdet": {
        "l1/": LossConfig(normalizer="batch_clamped", beta=0.0),
        "smoothl1_beta1_9/": LossConfig(normalizer="batch_clamped"),
    },
}
LOSS_NAMES = {
    "torchvision": ("loss_objectness", "loss_rpn_box_reg"),
    "detectron2": ("loss_rpn_cls", "loss_rpn_loc"),
    "jwyang": ("rpn_loss_cls", "rpn_loss_box"),
    "mmdet": ("loss_rpn_cls", "loss_rpn_bbox"),
}
BATCHES = {
    "torchvision": ["c4_random0", "c4small_random0", "c4small_tiny"],
    "detectron2": ["c4_random0", "c4small_random0", "c4small_tiny"],
    "jwyang": ["c4_random0", "c4small_random0", "c4small_tiny"],
    "mmdet": ["c4_random0", "c4small_random0", "c4small_tiny"],
}
for _peer, _names in BATCHES.items():
    _small = "c4small" if _peer in LEGACY_PEERS else "fpnsmall"
    _names += [f"{_small}_nogt", f"{_small}_random0+random1"]


@pytest.mark.parametrize(
    ("peer", "variant", "name"),
    [
        (peer, key, name)
        for peer in LOSSES
        for key in LOSSES[peer]
        for name in BATCHES[peer]
    ],
)
def test_losses_and_gradients_are_those_of_the_peers(golden, peer, variant, name):
    """From the sample of the peer, so that its random numbers do not matter."""
    file = golden(peer, f"loss_{name}_s0")
    classes = ("_bg", "_fg") if peer == "jwyang" else ("",)
    logits = stacked([file[f"logits{x}"] for x in classes])
    targets = Targets(
        file["labels_sampled"].astype(np.int32), file["targets_at_sampled_pos"]
    )
    output = RPNOutput(logits, file["deltas"])
    anchors = np.asarray(all_boxes(anchor_grid(peer, name.split("_")[0])))
    losses, gradient = losses_and_gradients_padded(
        output, targets, anchors, LOSSES[peer][variant]
    )
    objectness, box = (best(file, variant + loss) for loss in LOSS_NAMES[peer])
    np.testing.assert_allclose(losses.objectness, objectness, rtol=1e-5)
    np.testing.assert_allclose(losses.box, box, rtol=1e-5)
    logits = stacked([best(file, f"{variant}grad_logits{x}") for x in classes])
    assert_gradients_close(gradient.logits, logits)
    assert_gradients_close(gradient.deltas, best(file, f"{variant}grad_deltas"))


LOSS_ROWS = 21_546  # the most anchors of a file


def losses_and_gradients_padded(output, targets, anchors, config):
    """With anchors that are not sampled after those of a file, to share a program."""
    number = len(anchors)
    padding = LOSS_ROWS - number

    def pad(array):
        rest = [(0, 0)] * (array.ndim - 2)
        return np.pad(array, [(0, 0), (0, padding), *rest])

    output = jax.tree.map(pad, output)
    labels = np.where(np.arange(LOSS_ROWS) < number, pad(targets.labels), -1)
    targets = Targets(labels.astype(np.int32), pad(targets.deltas))
    anchors = pad_rows(anchors, LOSS_ROWS)
    losses, gradient = losses_and_gradients(output, targets, anchors, config=config)
    assert not any(np.asarray(x)[:, number:].any() for x in gradient)
    return losses, jax.tree.map(lambda x: np.asarray(x)[:, :number], gradient)


@functools.partial(jax.jit, static_argnames="config")
def losses_and_gradients(output, targets, anchors, *, config):
    loss = functools.partial(rpn_jax.rpn_loss, config=config)
    losses, pull_back = jax.vjp(lambda x: loss(x, targets, anchors=anchors), output)
    return losses, pull_back(jax.tree.map(jnp.ones_like, losses))[0]


def stacked(classes):
    """One array alone, or (background, object) as its last axis."""
    return classes[0] if len(classes) == 1 else np.stack(classes, axis=-1)


def assert_gradients_close(actual, expected):
    """To 1e-5 of each value, or of the largest where it is a difference of such."""
    atol = 1e-6 * np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=atol)


@pytest.mark.parametrize("sigma", [1, 3])
def test_smooth_l1_is_that_of_jwyang(golden, sigma):
    """Each coordinate as a box of its own, since the file weighs them one by one.

    The other three coordinates are predicted exactly, so they add nothing.
    """
    file = golden("jwyang", "smooth_l1")
    images = len(file["bbox_pred"])
    names = ("bbox_pred", "bbox_targets", "bbox_inside_weights")
    padding = ((0, 0), (0, 0), (0, 3))
    rows = [np.pad(file[name].reshape(images, -1, 1), padding) for name in names]
    predicted, target, inside = float32(*rows)
    labels = inside[..., 0].astype(np.int32)
    assert set(np.unique(file["bbox_outside_weights"])) == {1 / 256}
    config = LossConfig(
        normalizer="fixed",
        num_samples=256,
        beta=1 / sigma**2,
    )

    @jax.jit
    @jax.value_and_grad
    def box_loss(predicted):
        output = RPNOutput(np.zeros(labels.shape, np.float32), predicted)
        return rpn_jax.rpn_loss(output, Targets(labels, target), config=config).box

    loss, gradient = box_loss(predicted)
    np.testing.assert_allclose(loss, file[f"loss_sigma{sigma}_f64"], rtol=1e-5)
    expected = file[f"grad_sigma{sigma}_f64"].reshape(images, -1)
    assert_gradients_close(gradient[..., 0], expected)
