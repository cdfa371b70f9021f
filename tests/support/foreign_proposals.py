"""Anchors and proposals of other systems, in plain NumPy, from their definitions."""

import functools

import numpy as np

RATIOS = (0.5, 1.0, 2.0)
SIZES, STRIDES = (32, 64, 128, 256, 512), (4, 8, 16, 32, 64)


def detectron2_cell(sizes):
    """`generate_cell_anchors`: centered on the corner of the cell, size by size."""
    sides = [(s / r**0.5, s * r**0.5) for s in sizes for r in RATIOS]
    return np.array([(-w / 2, -h / 2, w / 2, h / 2) for w, h in sides])


def mmdetection_cell(stride):
    """`AnchorGenerator` with `scales=[8]` and a `center_offset` of 0."""
    sides = [(8 * stride / r**0.5, 8 * stride * r**0.5) for r in RATIOS]
    return np.array([(-w / 2, -h / 2, w / 2, h / 2) for w, h in sides])


def jwyang_cell(scales):
    """`generate_anchors`: whole pixels in the inclusive convention, in cells of 16."""
    cell = []
    for ratio in RATIOS:
        width = np.round(np.sqrt(16 * 16 / ratio))
        height = np.round(width * ratio)
        for scale in scales:
            w, h = (width * scale - 1) / 2, (height * scale - 1) / 2
            cell.append((7.5 - w, 7.5 - h, 7.5 + w, 7.5 + h))
    return np.array(cell)


def spread(cell, stride, shape):
    """The anchors of a level, cell by cell."""
    return np.array(
        [
            anchor + stride * np.array([x, y, x, y])
            for y in range(shape[0])
            for x in range(shape[1])
            for anchor in cell
        ]
    )


def decode(deltas, anchors, *, limits=(-np.inf, np.inf), offset=0.0):
    """Boxes, not clipped. `offset` is 1 in the inclusive convention."""
    sides = anchors[:, 2:] - anchors[:, :2] + offset
    centres = anchors[:, :2] + 0.5 * sides + deltas[:, :2] * sides
    sides = sides * np.exp(np.clip(deltas[:, 2:], *limits))
    return np.concatenate([centres - 0.5 * sides, centres + 0.5 * sides], axis=1)


def suppress(boxes, offset=0.0):
    """Rows of the boxes, best first, that greedy suppression at an IoU of 0.7 keeps."""
    sides = boxes[:, 2:] - boxes[:, :2] + offset
    areas, rest, kept = sides.prod(axis=1), np.arange(len(boxes)), []
    while len(rest):
        best, rest = rest[0], rest[1:]
        kept.append(best)
        first = np.maximum(boxes[best, :2], boxes[rest, :2])
        last = np.minimum(boxes[best, 2:], boxes[rest, 2:])
        overlap = np.maximum(last - first + offset, 0.0).prod(axis=1)
        rest = rest[overlap / (areas[best] + areas[rest] - overlap) <= 0.7]
    return np.array(kept, int)


def multi_level(outputs, image_size, *, cells, strides, limits, pre, post):
    """The proposals of detectron2 and mmdetection, which have the same steps."""
    end = np.array([*image_size[::-1]] * 2, float)
    found, scores = [], []
    levels = zip(outputs.features, outputs.logits, outputs.deltas, strict=True)
    for cell, stride, (x, logits, deltas) in zip(cells, strides, levels, strict=True):
        best = np.argsort(-logits, kind="stable")[:pre]
        anchors = spread(cell, stride, x.shape[1:3])[best]
        boxes = np.clip(
            decode(deltas[best].astype(float), anchors, limits=limits), 0, end
        )
        has_area = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        boxes, best = boxes[has_area], best[has_area]
        kept = suppress(boxes)
        found.append(boxes[kept])
        scores.append(logits[best[kept]])
    boxes, scores = np.concatenate(found), np.concatenate(scores)
    best = np.argsort(-scores, kind="stable")[:post]
    return boxes[best], 1 / (1 + np.exp(-scores[best].astype(float)))


def jwyang(outputs, image_size, *, scales):
    """`_ProposalLayer` in tests: 6,000 boxes before suppression and 300 after it."""
    (x,), (logits,), (deltas,) = outputs
    odds = np.exp(logits[:, 1].astype(float) - logits[:, 0])
    scores = odds / (1 + odds)
    best = np.argsort(-scores, kind="stable")[:6000]
    anchors = spread(jwyang_cell(scales), 16, x.shape[1:3])[best]
    end = np.array([*image_size[::-1]] * 2, float) - 1
    boxes = np.clip(decode(deltas[best].astype(float), anchors, offset=1.0), 0, end)
    kept = suppress(boxes, offset=1.0)[:300]
    return boxes[kept], scores[best[kept]]


LIMIT = np.log(1000 / 16)
detectron2_fpn = functools.partial(
    multi_level,
    cells=[detectron2_cell([size]) for size in SIZES],
    strides=STRIDES,
    limits=(-np.inf, LIMIT),
    pre=1000,
    post=1000,
)
PROPOSALS = {
    "detectron2_fpn": detectron2_fpn,
    "detectron2_fpn of 101 layers": detectron2_fpn,
    "detectron2_c4": functools.partial(
        multi_level,
        cells=[detectron2_cell(SIZES)],
        strides=[16],
        limits=(-np.inf, LIMIT),
        pre=6000,
        post=1000,
    ),
    "mmdetection": functools.partial(
        multi_level,
        cells=[mmdetection_cell(stride) for stride in STRIDES],
        strides=STRIDES,
        limits=(-LIMIT, LIMIT),
        pre=1000,
        post=1000,
    ),
    "jwyang_vgg16": functools.partial(jwyang, scales=(8, 16, 32)),
    "jwyang_resnet": functools.partial(jwyang, scales=(4, 8, 16, 32)),
}
