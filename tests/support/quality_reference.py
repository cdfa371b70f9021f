"""The oracle of objectness as quality: one anchor at a time, in Python floats.

Written from the papers: GFL (arXiv 2006.04388), VarifocalNet (2008.13367) and OLN
(2108.06753). Centerness is that of the assignment rules. Boxes are decoded from their
anchors first, where the library works without anchors.
"""

import math

import numpy as np

from . import assigners, reference


def cross_entropy(logit, target):
    """Minus `target * log(p) + (1 - target) * log(1 - p)` with a logit of `p`."""
    positive, negative = (reference.cross_entropy(logit, label) for label in (1, 0))
    return target * positive + (1.0 - target) * negative


def probability(logit):
    return math.exp(-reference.cross_entropy(logit, 1))


def quality_focal_loss(logit, target, beta):
    """GFL, Eq. 4."""
    return abs(target - probability(logit)) ** beta * cross_entropy(logit, target)


def varifocal_loss(logit, target, alpha, gamma):
    """VarifocalNet, Eq. 2."""
    if target > 0.0:
        return target * cross_entropy(logit, target)
    return alpha * probability(logit) ** gamma * cross_entropy(logit, 0.0)


def loss_of_anchor(logit, quality, config):
    if config.objectness.startswith("oln"):
        return reference.smooth_l1(probability(logit) - quality, config.oln_beta)
    if config.quality_loss == "varifocal":
        alpha = config.varifocal_alpha
        return varifocal_loss(logit, quality, alpha, config.quality_beta)
    return quality_focal_loss(logit, quality, config.quality_beta)


def qualities(output, targets, anchors, config):
    """The target of every anchor `[b, n]`."""
    out = np.zeros(np.shape(targets.labels))
    for i, n in np.argwhere(np.asarray(targets.labels) == 1):
        rows = np.array([output.deltas[i, n], targets.deltas[i, n]], float)
        boxes = reference.decode_boxes(rows, anchors[[n, n]], config.delta_weights)
        if config.objectness.endswith("iou"):
            out[i, n] = reference.pairwise_iou(boxes[:1], boxes[1:])[0, 0]
        else:
            out[i, n] = assigners.centerness(anchors[n], boxes[1])
    return out


def objectness_terms(logits, quality, labels, config):
    """What every anchor adds to the objectness loss, `[b, n]`."""
    labels = np.asarray(labels)
    normalizer = config.quality_normalizer
    weights = reference.sample_weights(labels, normalizer, config.num_samples)
    counted = labels == 1 if config.objectness.startswith("oln") else labels >= 0
    out = np.zeros(labels.shape)
    for i, n in np.argwhere(counted):
        logit = np.asarray(logits[i, n], float)
        loss = loss_of_anchor(logit, quality[i, n], config)
        out[i, n] = config.objectness_weight * weights[i, n] * loss
    return out
