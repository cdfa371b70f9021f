"""Oracles of the assignment rules: loops written from the papers, one pair at a time.

Like `reference.py`, this never imports `rpn_jax`. Every oracle returns
`(labels, gt_index, max_iou)` of all anchors, and takes the anchors as float boxes, the
ground truth with its masks, and which anchors are kept. Arithmetic is in float64, so
labels can differ where rounding decides. `is_open` collects those anchors: callers pass
a set, and compare the others.
"""

import math

import numpy as np

from . import reference

MARGIN = 0.01  # of mmdetection: pixels from a centre to the edge of its box
EPSILON = 1e-5  # differences below it are left to rounding


def objects_of(truth):
    """The rows that are objects."""
    gt_boxes, gt_valid, gt_ignore = truth
    return [
        j
        for j, box in enumerate(np.asarray(gt_boxes))
        if gt_valid[j] and not gt_ignore[j] and reference.is_proper(box)
    ]


def kept(anchors, truth, image_size, config):
    """Which anchors take part, by the border and by ignored regions."""
    gt_boxes, gt_valid, gt_ignore = truth
    out = np.ones(len(anchors), bool)
    if config.allowed_border is not None:
        out &= reference.within_border(anchors, image_size, config.allowed_border)
    for j, box in enumerate(np.asarray(gt_boxes)):
        is_region = gt_valid[j] and gt_ignore[j] and reference.is_proper(box)
        if is_region and config.ignore_iof is not None:
            over = "anchor" if config.ignore_wrt_candidates else "box"
            share = reference.overlaps(anchors, box, config.pixel_offset, over)
            out &= share <= np.float32(config.ignore_iof)
    return out


def center_of(box, offset):
    return (box[0] + box[2] + offset) / 2, (box[1] + box[3] + offset) / 2


def depth_in(point, box, offset):
    """Pixels to the nearest edge of the box, negative outside."""
    (x, y), (x0, y0, x1, y1) = point, np.asarray(box, float)
    return min(x - x0, y - y0, x1 + offset - x, y1 + offset - y)


def give_to_highest(claims, is_kept, max_iou, is_open):
    """An anchor claimed by `(iou, row)` belongs to the highest IoU, or lowest row."""
    labels = np.where(is_kept, 0, -1)
    gt_index = np.zeros(len(is_kept), int)
    for i, bids in claims.items():
        ranked = sorted(bids, key=lambda bid: (-bid[0], bid[1]))
        labels[i], gt_index[i] = 1, ranked[0][1]
        if len(ranked) > 1 and 0 < ranked[0][0] - ranked[1][0] < EPSILON:
            is_open.add(i)
    return labels, gt_index, max_iou


def atss(anchors, shapes, truth, is_kept, config, is_open):
    """Algorithm 1 of ATSS. `shapes` are lists of anchors, per level and shape."""
    gt_boxes, offset = np.asarray(truth[0], float), config.pixel_offset
    claims, objects = {}, objects_of(truth)
    for j in objects:
        iou = reference.pairwise_iou(gt_boxes[j][None], anchors, offset)[0]
        middle, candidates = center_of(gt_boxes[j], offset), []
        for shape in shapes:
            found = []
            for i in shape:
                x, y = center_of(anchors[i].astype(float), offset)
                if is_kept[i]:
                    found.append(((x - middle[0]) ** 2 + (y - middle[1]) ** 2, i))
            candidates += [i for _, i in sorted(found)[: config.atss.top_k]]
        if not candidates:
            continue
        values = iou[candidates]
        spread = values.std(ddof=1) if len(values) > 1 else 0.0
        threshold = values.mean() + spread
        for i in candidates:
            point = center_of(anchors[i].astype(float), offset)
            is_inside = depth_in(point, gt_boxes[j], offset) > MARGIN
            if is_inside and iou[i] >= threshold:
                claims.setdefault(i, []).append((iou[i], j))
            if is_inside and abs(iou[i] - threshold) < EPSILON:
                is_open.add(i)
    max_iou = highest_iou(anchors, gt_boxes, objects, is_kept, offset)
    return give_to_highest(claims, is_kept, max_iou, is_open)


def highest_iou(boxes, gt_boxes, objects, is_kept, offset):
    out = np.zeros(len(boxes))
    for j in objects:
        out = np.maximum(out, reference.pairwise_iou(gt_boxes[j][None], boxes, offset))
    return np.where(is_kept, out, 0).reshape(-1)


def task_aligned(anchors, predicted, truth, is_kept, config, is_open):
    """Sec. 3.2.1 of TOOD, with one class. `predicted` is boxes and scores."""
    gt_boxes, rules = np.asarray(truth[0], float), config.task_aligned
    offset, claims, objects = config.pixel_offset, {}, objects_of(truth)
    boxes, scores = predicted
    for j in objects:
        iou = reference.pairwise_iou(gt_boxes[j][None], boxes, offset)[0] * is_kept
        alignment = scores**rules.alpha * iou**rules.beta
        ranked = sorted(range(len(anchors)), key=lambda i: (-alignment[i], i))
        last = alignment[ranked[: rules.top_k][-1]]
        for i in range(len(anchors)):
            if last > 0 and 0 < abs(alignment[i] / last - 1) < 1e-4:
                is_open.add(i)
        for i in ranked[: rules.top_k]:
            point = center_of(anchors[i].astype(float), offset)
            is_inside = depth_in(point, gt_boxes[j], offset) > MARGIN
            if alignment[i] > 0 and is_inside:
                claims.setdefault(i, []).append((iou[i], j))
    max_iou = highest_iou(boxes, gt_boxes, objects, is_kept, offset)
    return give_to_highest(claims, is_kept, max_iou, is_open)


def sim_ota(anchors, strides, predicted, truth, is_kept, config, is_open):
    """Sec. 2.1 of YOLOX and its `SimOTAAssigner`, with one class."""
    gt_boxes, rules = np.asarray(truth[0], float), config.sim_ota
    offset, objects = config.pixel_offset, objects_of(truth)
    boxes, scores = predicted
    near, both = np.zeros(len(anchors), bool), {}
    for j in objects:
        middle = center_of(gt_boxes[j], offset)
        both[j] = np.zeros(len(anchors), bool)
        for i, anchor in enumerate(anchors.astype(float)):
            x, y = center_of(anchor, offset)
            height, width = (rules.center_radius * stride for stride in strides[i])
            in_box = depth_in((x, y), gt_boxes[j], offset) > 0
            in_center = abs(x - middle[0]) < width and abs(y - middle[1]) < height
            near[i] |= in_box or in_center
            both[j][i] = in_box and in_center
    near &= is_kept
    costs, takers = {}, {}
    for j in objects:
        iou = reference.pairwise_iou(gt_boxes[j][None], boxes, offset)[0]
        loss = np.minimum(-np.log(np.maximum(scores, 1e-300)), 100.0)
        costs[j] = rules.objectness_weight * loss - rules.iou_weight * np.log(
            iou + 1e-7
        )
        costs[j] = costs[j] + np.where(both[j], 0.0, 100_000.0)
        costs[j] = np.where(near, costs[j], math.inf)
        total = sum(sorted(iou[near], reverse=True)[: rules.candidate_top_k])
        if abs(total - round(total)) < 1e-4 and total > 0.5:
            is_open.update(range(len(anchors)))
        ranked = sorted(np.flatnonzero(near), key=lambda i: (costs[j][i], i))
        for i in ranked[: max(int(total), 1)]:
            takers.setdefault(i, []).append(j)
        for i in ranked[1:]:  # float32 cannot tell high costs apart
            edge = costs[j][ranked[min(max(int(total), 1), len(ranked)) - 1]]
            if costs[j][i] > 50_000 and abs(costs[j][i] - edge) < 0.05:
                is_open.add(i)
    labels, gt_index = np.where(is_kept, 0, -1), np.zeros(len(anchors), int)
    for i, rows in takers.items():
        labels[i], gt_index[i] = 1, rows[0]
        if len(rows) > 1:
            gt_index[i] = min(objects, key=lambda j: (costs[j][i], j))
    return labels, gt_index, highest_iou(boxes, gt_boxes, objects, is_kept, offset)


def region(anchors, levels, truth, is_kept, config):
    """Guided anchoring, Sec. 3.2. `levels` are `(indices, stride, shape, side)`."""
    gt_boxes, rules = np.asarray(truth[0], np.float32), config.region
    offset, objects = config.pixel_offset, objects_of(truth)
    labels, gt_index = np.zeros(len(anchors), int), np.zeros(len(anchors), int)
    adjacent = np.zeros(len(anchors), bool)
    for j in objects:
        width, height = reference.size_of(gt_boxes[j].astype(float), offset)
        own = 0
        while own + 1 < len(levels) and width * height >= (
            levels[own][3] * levels[own + 1][3]
        ):
            own += 1
        for at, (indices, stride, shape, _) in enumerate(levels):
            if abs(at - own) > 1:
                continue
            for i in indices:
                point = center_of(anchors[i].astype(float), offset)
                place = (point[0] / stride[1], point[1] / stride[0])
                is_near, is_central = (
                    _in_middle(place, gt_boxes[j], ratio, stride, shape, offset)
                    for ratio in (rules.ignore_ratio, rules.center_ratio)
                )
                if at != own:
                    adjacent[i] |= is_near
                elif is_near:
                    labels[i], gt_index[i] = (1, j) if is_central else (-1, 0)
    labels[adjacent | ~is_kept] = -1
    gt_index[labels != 1] = 0
    max_iou = highest_iou(anchors, gt_boxes.astype(float), objects, is_kept, offset)
    return labels, gt_index, max_iou


def _in_middle(place, box, ratio, stride, shape, offset):
    """Whether a place in cells lies in the middle of a box, rounded to cells."""
    share = (1.0 - ratio) / 2.0
    for axis in (0, 1):  # x, then y
        start = float(box[axis]) / stride[1 - axis]
        end = (float(box[axis + 2]) + offset) / stride[1 - axis]
        low = round((1.0 - share) * start + share * end)  # half to even
        high = round(share * start + (1.0 - share) * end)
        low, high = (min(max(edge, 0), shape[1 - axis]) for edge in (low, high))
        if not low <= place[axis] <= high:
            return False
    return True


def centerness(anchor, box, offset=0.0):
    """Eq. 3 of FCOS; 0 for a centre that is not inside."""
    (x, y), (x0, y0, x1, y1) = center_of(np.asarray(anchor, float), offset), box
    left, right, top, bottom = x - x0, x1 + offset - x, y - y0, y1 + offset - y
    if min(left, right, top, bottom) <= 0:
        return 0.0
    shares = (min(a, b) / max(a, b) for a, b in ((left, right), (top, bottom)))
    return math.sqrt(math.prod(shares))
