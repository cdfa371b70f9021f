"""The oracle: what every core function means, in NumPy, one step at a time.

Written from the definitions (the paper, the sources of the reference systems, the
docstrings of the configurations) and not from `rpn_jax`, which it never imports: a
configuration is only read for its attributes. Slow and obvious on purpose. Where the
rounding of float32 decides, as it does among tied anchors, the order of operations is
that of the references, in the dtype of the anchors.
"""

import math

import numpy as np

MAX_LOG_SCALE = math.log(1000 / 16)

# --- inputs


def random_boxes(rng, number, size=64.0, *, snap=4):
    """Proper boxes with a corner in `[0, size)`, on multiples of `1 / snap`.

    The areas of such boxes are exact in float32, so that no order of the operations,
    and no fusion of them, moves an overlap: labels have to be equal, not similar.
    """
    corner = rng.integers(0, int(size) * snap, (number, 2)) / snap
    sides = rng.integers(1, int(size) * snap, (number, 2)) / snap
    return np.concatenate([corner, corner + sides], axis=1).astype(np.float32)


# --- boxes


def size_of(box, pixel_offset=0.0):
    x0, y0, x1, y1 = box
    return x1 - x0 + pixel_offset, y1 - y0 + pixel_offset


def is_proper(box):
    """Whether a box is finite and has a positive width and height."""
    x0, y0, x1, y1 = box
    return bool(np.isfinite(box).all() and x1 > x0 and y1 > y0)


def area(boxes, pixel_offset=0.0):
    out = np.zeros(len(boxes))
    for i, box in enumerate(np.asarray(boxes, float)):
        width, height = size_of(box, pixel_offset)
        if np.isfinite(box).all() and width > 0 and height > 0:
            out[i] = width * height
    return out


def pairwise_iou(a, b, pixel_offset=0.0):
    """One pair at a time, in Python floats."""
    out = np.zeros((len(a), len(b)))
    area_a, area_b = area(a, pixel_offset), area(b, pixel_offset)
    for i, (ax0, ay0, ax1, ay1) in enumerate(np.asarray(a, float).tolist()):
        for j, (bx0, by0, bx1, by1) in enumerate(np.asarray(b, float).tolist()):
            if area_a[i] == 0.0 or area_b[j] == 0.0:
                continue  # inverted, without extent or not finite
            width = min(ax1, bx1) - max(ax0, bx0) + pixel_offset
            height = min(ay1, by1) - max(ay0, by0) + pixel_offset
            overlap = max(0.0, width) * max(0.0, height)
            out[i, j] = overlap / (area_a[i] + area_b[j] - overlap)
    return out


def encode_boxes(boxes, anchors, weights=(1, 1, 1, 1), pixel_offset=0.0):
    """Eq. 2 of the Faster R-CNN paper; a delta that does not exist is zero."""
    out = np.zeros((len(boxes), 4))
    for i, (box, anchor) in enumerate(zip(boxes, anchors, strict=True)):
        box, anchor = np.asarray(box, float), np.asarray(anchor, float)
        if not np.isfinite([*box, *anchor]).all():
            continue
        sides, anchor_sides = size_of(box, pixel_offset), size_of(anchor, pixel_offset)
        for axis, (side, anchor_side) in enumerate(
            zip(sides, anchor_sides, strict=True)
        ):
            if anchor_side > 0:
                center = box[axis] + side / 2
                anchor_center = anchor[axis] + anchor_side / 2
                out[i, axis] = (center - anchor_center) / anchor_side
                if side > 0:
                    out[i, 2 + axis] = math.log(side / anchor_side)
        out[i] *= weights
    return out


def decode_boxes(
    deltas,
    anchors,
    weights=(1, 1, 1, 1),
    pixel_offset=0.0,
    max_log_scale=MAX_LOG_SCALE,
    symmetric_log_scale=False,
):
    out = np.zeros((len(deltas), 4))
    for i, (delta, anchor) in enumerate(zip(deltas, anchors, strict=True)):
        dx, dy, dw, dh = np.asarray(delta, float) / weights
        anchor = np.asarray(anchor, float)
        width, height = size_of(anchor, pixel_offset)
        lowest = -max_log_scale if symmetric_log_scale else -math.inf
        dw, dh = (min(max(d, lowest), max_log_scale) for d in (dw, dh))
        x = anchor[0] + width / 2 + dx * width
        y = anchor[1] + height / 2 + dy * height
        half = math.exp(dw) * width / 2, math.exp(dh) * height / 2
        out[i] = x - half[0], y - half[1], x + half[0], y + half[1]
    return out


def clip_boxes(boxes, image_size, pixel_offset=0.0):
    height, width = image_size
    out = np.array(boxes, float)
    for box in out:
        for k, limit in enumerate((width, height, width, height)):
            box[k] = min(max(box[k], 0.0), limit - pixel_offset)
    return out


# --- anchors


def cell_anchors(config):
    """The anchors of every level around its cell's origin, float32 `[a, 4]` each."""
    cells = []
    for sizes in config.sizes:
        sizes = sizes if isinstance(sizes, tuple) else (sizes,)
        steps = range(config.scales_per_octave)
        octaves = [2 ** (step / config.scales_per_octave) for step in steps]
        sizes = [size * octave for size in sizes for octave in octaves]
        if config.cell_order == "ratio_major":
            shapes = [(size, ratio) for ratio in config.aspect_ratios for size in sizes]
        else:
            shapes = [(size, ratio) for size in sizes for ratio in config.aspect_ratios]
        one = _legacy_anchor if config.rounding == "legacy" else _centred_anchor
        cells.append(np.array([one(*shape, config) for shape in shapes], np.float32))
    return cells


def _centred_anchor(size, ratio, config):
    width = math.sqrt(size * size / ratio)
    height = width * ratio
    corners = [-width / 2, -height / 2, width / 2, height / 2]
    if config.rounding == "corners":
        return [float(round(corner)) for corner in corners]  # half to even
    return corners


def _legacy_anchor(size, ratio, config):
    """`generate_anchors` of py-faster-rcnn: ratios first, rounded, inclusive pixels."""
    base, scale = config.base_size, size / config.base_size
    width = round(math.sqrt(base * base / ratio))
    height = round(width * ratio)
    center = 0.5 * (base - 1)
    half_width, half_height = 0.5 * (width * scale - 1), 0.5 * (height * scale - 1)
    return [
        center - half_width,
        center - half_height,
        center + half_width,
        center + half_height,
    ]


def make_anchors(config, feature_shapes, image_size=None):
    """All anchors of an image, in the order (level, y, x, anchor in cell).

    With `image_size`, the padded one, a level's stride is `image_size // shape`.
    """
    offset = 0.0 if config.rounding == "legacy" else config.center_offset
    out = []
    for cell, stride, shape in zip(
        cell_anchors(config), config.strides, feature_shapes, strict=True
    ):
        step_y, step_x = stride if isinstance(stride, tuple) else (stride, stride)
        if image_size is not None:
            step_y, step_x = image_size[0] // shape[0], image_size[1] // shape[1]
        for y in range(shape[0]):
            for x in range(shape[1]):
                shift_x, shift_y = (x + offset) * step_x, (y + offset) * step_y
                shift = np.array([shift_x, shift_y, shift_x, shift_y], np.float32)
                out.append(cell + shift)
    return np.concatenate(out)


def cell_corners(config, feature_shapes):
    """`(x, y)` where the cell of every anchor begins, for `ignore_padding`."""
    out = []
    for cell, stride, (height, width) in zip(
        cell_anchors(config), config.strides, feature_shapes, strict=True
    ):
        step_y, step_x = stride if isinstance(stride, tuple) else (stride, stride)
        for y in range(height):
            for x in range(width):
                out += [(x * step_x, y * step_y)] * len(cell)
    return np.array(out, float)


# --- matching


def overlaps(anchors, box, pixel_offset=0.0, over="union"):
    """IoU of every anchor with one box, or the share of the anchor or of the box.

    In the dtype of `anchors`, operation by operation as the references have it: the
    area of each, the overlap, and one division.
    """
    one = anchors.dtype.type
    offset = one(pixel_offset)
    box = box.astype(anchors.dtype)
    left = np.maximum(anchors[:, 0], box[0])
    top = np.maximum(anchors[:, 1], box[1])
    right = np.minimum(anchors[:, 2], box[2])
    bottom = np.minimum(anchors[:, 3], box[3])
    overlap = np.maximum(right - left + offset, one(0))
    overlap = overlap * np.maximum(bottom - top + offset, one(0))
    width, height = size_of(anchors.T, offset)
    area_of_box = math.prod(size_of(box, offset))
    area_of_anchor = width * height
    divisor = {
        "union": area_of_anchor + area_of_box - overlap,
        "anchor": area_of_anchor,
        "box": np.full_like(overlap, area_of_box),
    }[over]
    valid = (width > 0) & (height > 0) & np.isfinite(anchors).all(1)
    return np.where(valid, overlap / np.where(valid, divisor, one(1)), one(0))


def within_border(anchors, image_size, border):
    """`x0 >= -b`, `y0 >= -b`, `x1 < width + b`, `y1 < height + b`, as in all peers."""
    height, width = image_size
    reaches = (anchors[:, 2] < width + border) & (anchors[:, 3] < height + border)
    return (anchors[:, 0] >= -border) & (anchors[:, 1] >= -border) & reaches


def match_anchors(
    anchors,
    gt_boxes,
    gt_valid,
    image_size=(math.inf, math.inf),
    gt_ignore=None,
    corners=None,
    *,
    config,
):
    """`(labels, gt_index, max_iou)` of all anchors; `corners` are `cell_corners`."""
    number = len(anchors)
    gt_boxes = np.asarray(gt_boxes)
    gt_ignore = np.zeros(len(gt_boxes), bool) if gt_ignore is None else gt_ignore
    proper = [j for j, box in enumerate(gt_boxes) if gt_valid[j] and is_proper(box)]
    objects = [j for j in proper if not gt_ignore[j]]
    regions = [j for j in proper if gt_ignore[j]]

    # Anchors that do not take part.
    takes_part = np.ones(number, bool)
    inside = np.ones(number, bool)
    if config.allowed_border is not None:
        inside = within_border(anchors, image_size, config.allowed_border)
        if not config.border_after_matching:
            takes_part &= inside
    if config.ignore_padding:
        takes_part &= (corners < np.array([image_size[1], image_size[0]])).all(1)
    if config.ignore_iof is not None:
        over = "anchor" if config.ignore_wrt_candidates else "box"
        for j in regions:
            share = overlaps(anchors, gt_boxes[j], config.pixel_offset, over)
            takes_part &= ~(share > anchors.dtype.type(config.ignore_iof))

    # What every anchor overlaps most; the lowest row wins ties.
    iou = {}
    max_iou = np.zeros(number, anchors.dtype)
    gt_index = np.zeros(number, int)
    for j in objects:
        iou[j] = np.where(
            takes_part, overlaps(anchors, gt_boxes[j], config.pixel_offset), 0
        )
        gt_index = np.where(iou[j] > max_iou, j, gt_index)
        max_iou = np.maximum(max_iou, iou[j])

    # What every box forces.
    forced = np.zeros(number, bool)
    forced_by = gt_index.copy()
    for j in objects:
        best = iou[j].max()
        if config.force_match == "none" or best == 0 or best < config.min_force_iou:
            continue
        ties = np.flatnonzero((iou[j] == best) & takes_part)
        claimed = ties[:1] if config.force_match == "first" else ties
        forced_by[claimed] = j  # the last box takes it
        forced[claimed] = True
    if config.retarget_forced:
        gt_index = forced_by

    labels = np.full(number, -1)
    is_negative = takes_part & (max_iou < anchors.dtype.type(config.negative_iou))
    is_positive = takes_part & (max_iou >= anchors.dtype.type(config.positive_iou))
    labels[is_negative] = 0
    labels[forced] = 1
    labels[is_positive] = 1
    if config.clobber_positives:
        labels[is_negative] = 0
    if config.border_after_matching:
        labels[~inside] = -1
    return labels, gt_index, max_iou


def decisive(anchors, gt_boxes, gt_valid, config, margin=1e-6):
    """Anchors whose label does not hang on the rounding of float32.

    False where the best IoU is within `margin` of a threshold, or an IoU within
    `margin` of a box's best one.
    """
    out = np.ones(len(anchors), bool)
    best = np.zeros(len(anchors))
    for box, valid in zip(np.asarray(gt_boxes), gt_valid, strict=True):
        if valid and is_proper(box):
            iou = overlaps(anchors.astype(float), box, config.pixel_offset)
            out &= abs(iou - iou.max()) > margin
            best = np.maximum(best, iou)
    for threshold in (config.positive_iou, config.negative_iou):
        out &= abs(best - threshold) > margin
    return out


# --- sampling and targets


def sample_counts(labels, num_samples, positive_fraction):
    """How many positives and negatives a sample of `labels` holds."""
    most = int(num_samples * positive_fraction)
    positives = min(int((np.asarray(labels) == 1).sum()), most)
    negatives = min(int((np.asarray(labels) == 0).sum()), num_samples - positives)
    return positives, negatives


def target_deltas(labels, gt_index, anchors, gt_boxes, config):
    """Deltas of sampled positives to their box, 0 elsewhere."""
    out = np.zeros((len(anchors), 4))
    for i in np.flatnonzero(np.asarray(labels) == 1):
        boxes, one = gt_boxes[gt_index[i]][None], anchors[i][None]
        out[i] = encode_boxes(boxes, one, config.delta_weights, config.pixel_offset)[0]
    return out


# --- losses


def cross_entropy(logit, label):
    """Minus the log-probability of `label`, for one logit or (background, object)."""
    if np.ndim(logit) == 0:
        logit = np.array([0.0, logit])
    highest = max(logit)
    return highest + math.log(sum(math.exp(x - highest) for x in logit)) - logit[label]


def focal_loss(logit, label, gamma, alpha):
    """Lin et al. 2017, Eq. 5."""
    loss = cross_entropy(logit, label)
    weight = 1.0 if alpha is None else (alpha if label == 1 else 1.0 - alpha)
    return weight * (1.0 - math.exp(-loss)) ** gamma * loss


def smooth_l1(x, beta):
    x = abs(x)
    return 0.5 * x * x / beta if x < beta else x - 0.5 * beta


def iou_loss(a, b, kind):
    """`1 - GIoU`, `1 - DIoU` or `1 - CIoU` of two proper boxes."""
    iou = pairwise_iou(a[None], b[None])[0, 0]
    hull = np.array([*np.minimum(a[:2], b[:2]), *np.maximum(a[2:], b[2:])])
    (wa, ha), (wb, hb), (wc, hc) = size_of(a), size_of(b), size_of(hull)
    if kind == "giou":
        union = (wa * ha + wb * hb) / (1 + iou)
        return 1 - iou + (wc * hc - union) / (wc * hc)
    centers = (a[:2] + a[2:]) / 2 - (b[:2] + b[2:]) / 2
    loss = 1 - iou + (centers**2).sum() / (wc**2 + hc**2)
    if kind == "ciou":
        v = 4 / math.pi**2 * (math.atan(wb / hb) - math.atan(wa / ha)) ** 2
        loss += v * v / (1 - iou + v) if v > 0 else 0.0
    return loss


def sample_weights(labels, normalizer, num_samples, positive_weight=None):
    """What the loss of every sampled anchor `[b, n]` is multiplied by."""
    labels = np.asarray(labels)
    positive, negative = labels == 1, labels == 0
    images = len(labels)
    out = np.zeros(labels.shape)
    for i in range(images):
        if positive_weight is not None:
            p, share = positive_weight, 1.0 / images
            out[i] += positive[i] * p * share / max(positive[i].sum(), 1)
            out[i] += negative[i] * (1 - p) * share / max(negative[i].sum(), 1)
            continue
        clamped = np.maximum(positive.sum(1), 1) + np.maximum(negative.sum(1), 1)
        divisor = {
            "batch": max((positive | negative).sum(), 1),
            "image": images * max((positive | negative)[i].sum(), 1),
            "fixed": images * num_samples,
            "batch_clamped": clamped.sum(),
            "positives": max(positive.sum(), 1),
        }[normalizer]
        out[i] = (positive | negative)[i] / divisor
    return out


def rpn_loss(output, targets, anchors=None, *, config):
    """`(objectness, box)` of an `RPNOutput` and `Targets`, both with a batch axis."""
    labels = np.asarray(targets.labels)
    weights = sample_weights(labels, config.normalizer, config.num_samples)
    box_weights = sample_weights(
        labels,
        config.box_normalizer or config.normalizer,
        config.num_samples,
        config.box_positive_weight,
    )
    logits, deltas = (np.asarray(x, float) for x in output)
    objectness = box = 0.0
    for i, n in np.argwhere(labels >= 0):
        label = int(labels[i, n])
        if config.focal_gamma is None:
            loss = cross_entropy(logits[i, n], label)
        else:
            gamma, alpha = config.focal_gamma, config.focal_alpha
            loss = focal_loss(logits[i, n], label, gamma, alpha)
        objectness += weights[i, n] * loss
        if label == 1:
            anchor = None if anchors is None else anchors[n]
            loss = _box_loss(deltas[i, n], targets.deltas[i, n], anchor, config)
            box += box_weights[i, n] * loss
    return config.objectness_weight * objectness, config.box_weight * box


def _box_loss(delta, target, anchor, config):
    if config.box_loss == "smooth_l1":
        return sum(smooth_l1(x, config.beta) for x in delta - target)
    if anchor is None:
        anchor = np.array([0.0, 0.0, 1.0, 1.0])
    rows = np.stack([delta, target]).astype(float)
    a, b = decode_boxes(rows, np.stack([anchor] * 2), config.delta_weights)
    return iou_loss(a, b, config.box_loss)


def overlaps_by_hand(box, others, pixel_offset=0.0):
    """IoU of one box with others, operation by operation as the references have it."""
    offset = np.float32(pixel_offset)

    def area(x0, y0, x1, y1):
        width, height = x1 - x0 + offset, y1 - y0 + offset
        return np.maximum(width, np.float32(0)) * np.maximum(height, np.float32(0))

    x0, y0 = np.maximum(others[:, 0], box[0]), np.maximum(others[:, 1], box[1])
    x1, y1 = np.minimum(others[:, 2], box[2]), np.minimum(others[:, 3], box[3])
    overlap = area(x0, y0, x1, y1)
    union = area(*others.T) + area(*box) - overlap
    return np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)


def nms_by_hand(
    boxes,
    scores,
    *,
    iou_threshold,
    max_outputs=None,
    valid=None,
    groups=None,
    inclusive_threshold=False,
    pixel_offset=0.0,
):
    """One box after the other against all that were kept."""
    boxes, scores = np.asarray(boxes, np.float32), np.asarray(scores, np.float32)
    exists = np.isfinite(boxes).all(axis=1) & (scores > -np.inf)
    if valid is not None:
        exists &= valid
    groups = np.zeros(len(boxes), int) if groups is None else np.asarray(groups)
    kept, number = np.zeros(len(boxes), int), 0
    for i in sorted(np.flatnonzero(exists), key=lambda i: -scores[i]):
        rivals = kept[:number][groups[kept[:number]] == groups[i]]
        iou = overlaps_by_hand(boxes[i], boxes[rivals], pixel_offset)
        if inclusive_threshold:
            suppressed = (iou >= np.float32(iou_threshold)) & (iou > 0)
        else:
            suppressed = exceeds(iou, iou_threshold)
        if not suppressed.any():
            kept[number] = i
            number += 1
    return kept[:number][:max_outputs].tolist()


def exceeds(iou, threshold):
    """Compares with the number that was written, not with the nearest float32."""
    return iou.astype(float) > threshold


def feature_between(x, row, column):
    """The feature at a point between cells, as `deform_conv2d` interpolates it.

    Args:
        x: `[h w c]` a map, with zeros beyond it.
        row: ordinate of the point in cells.
        column: abscissa of the point in cells.
    """
    total = np.zeros(x.shape[-1])
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            share = max(0.0, 1.0 - abs(row - i)) * max(0.0, 1.0 - abs(column - j))
            total += share * x[i, j]
    return total
