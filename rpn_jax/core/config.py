"""Settings of every stage: frozen and hashable, so that `jit` may take them static."""

import dataclasses
import math
from typing import Literal

from ._typing import DeltaWeights

Rounding = Literal["none", "corners", "legacy"]
CellOrder = Literal["ratio_major", "size_major"]
ForceMatch = Literal["ties", "first", "none"]
BoxLoss = Literal["smooth_l1", "giou", "diou", "ciou"]
Normalizer = Literal["batch", "image", "fixed", "batch_clamped", "positives"]

MAX_LOG_SCALE = math.log(1000.0 / 16.0)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnchorConfig:
    """Shapes and spacing of the anchors, one entry of `sizes` and `strides` per level.

    Attributes:
        sizes: side in pixels of the square anchor, for each level; a tuple of several
            sides gives a level anchors of several sizes.
        strides: pixels of the image between two cells, for each level; a pair is
            `(vertical, horizontal)`.
        aspect_ratios: height over width, shared by all levels; the area is kept.
        scales_per_octave: every size `s` yields this many, `s * 2 ** (i / number)`.
        center_offset: where in its cell an anchor's centre lies, in strides: 0 is the
            cell's top left corner and 0.5 its middle. Not used by `"legacy"` rounding.
        rounding: `"none"` keeps real-valued anchors, as detectron2 and mmdetection do;
            `"corners"` rounds the corners around each centre, half to even, as
            torchvision does; `"legacy"` enumerates them as py-faster-rcnn does, from a
            square of `base_size` pixels with rounded, inclusive sides.
        cell_order: whether the ratio (`"ratio_major"`) or the size (`"size_major"`) is
            the slow index of the anchors inside a cell.
        base_size: side in pixels of the square that `"legacy"` rounding starts from.
            It is 16 in py-faster-rcnn and jwyang, whatever the stride.
    """

    sizes: tuple[float | tuple[float, ...], ...] = (32, 64, 128, 256, 512)
    strides: tuple[int | tuple[int, int], ...] = (4, 8, 16, 32, 64)
    aspect_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    scales_per_octave: int = 1
    center_offset: float = 0.0
    rounding: Rounding = "none"
    cell_order: CellOrder = "ratio_major"
    base_size: int = 16

    def __post_init__(self) -> None:
        _require(
            len(self.sizes) == len(self.strides) > 0,
            "AnchorConfig needs one entry of sizes per stride, at least one, got "
            f"{len(self.sizes)} sizes {self.sizes} and {len(self.strides)} strides "
            f"{self.strides}. For several sizes on one level, nest them in a tuple.",
        )
        _require(
            self.scales_per_octave >= 1 and self.base_size >= 1,
            "AnchorConfig needs scales_per_octave and base_size of at least 1, got "
            f"{self.scales_per_octave} and {self.base_size}.",
        )
        sides = [side for level in self.level_sizes for side in level]
        steps = [step for level in self.level_strides for step in level]
        _require(
            all(map(len, self.level_sizes)) and len(self.aspect_ratios) > 0,
            "AnchorConfig needs at least one size on every level and one aspect ratio, "
            f"got sizes {self.sizes} and aspect_ratios {self.aspect_ratios}.",
        )
        _require(
            all(0 < x < math.inf for x in (*sides, *steps, *self.aspect_ratios)),
            "AnchorConfig needs finite sizes, strides and aspect_ratios above 0, got "
            f"{self.sizes}, {self.strides} and {self.aspect_ratios}.",
        )

    @property
    def level_sizes(self) -> tuple[tuple[float, ...], ...]:
        """The sides of every level, octave scales included."""
        octave = [
            2.0 ** (i / self.scales_per_octave) for i in range(self.scales_per_octave)
        ]
        nested = [s if isinstance(s, tuple) else (s,) for s in self.sizes]
        return tuple(
            tuple(s * scale for s in sizes for scale in octave) for sizes in nested
        )

    @property
    def level_strides(self) -> tuple[tuple[int, int], ...]:
        """The `(vertical, horizontal)` stride of every level."""
        return tuple(s if isinstance(s, tuple) else (s, s) for s in self.strides)

    @property
    def anchors_per_cell(self) -> int:
        """Number of anchors in a cell, which one head shares among all levels.

        Raises:
            ValueError: the levels have different numbers of sizes.
        """
        counts = {len(sizes) * len(self.aspect_ratios) for sizes in self.level_sizes}
        _require(
            len(counts) == 1,
            "AnchorConfig needs as many sizes on every level for one head to serve "
            f"them all, got {self.sizes}.",
        )
        return counts.pop()


@dataclasses.dataclass(frozen=True, kw_only=True)
class TargetConfig:
    """How anchors are labelled, sampled and given a box to regress to.

    Attributes:
        positive_iou: an anchor that overlaps some box by at least this is positive.
        negative_iou: an anchor that overlaps every box by less is negative.
        force_match: which anchors a box makes positive although they overlap it by less
            than `positive_iou`: `"ties"`, all that share its best IoU; `"first"`, the
            lowest index of those; or `"none"`. A best IoU of 0 forces nothing.
        min_force_iou: a box whose best IoU is lower forces nothing.
        retarget_forced: sends a forced anchor to the box that forced it, the last one
            if several did, instead of the box that it overlaps most.
        clobber_positives: lets `negative_iou` overrule the forced matches.
        allowed_border: how many pixels an anchor may reach beyond the image before it
            is ignored; None keeps all. Negative values shrink the image.
        border_after_matching: applies `allowed_border` after matching, as detectron2,
            so that a box may lose its anchors, instead of before.
        ignore_padding: ignores the anchors of cells that begin beyond the image.
        ignore_iof: ignores anchors of which more than this share lies in a region of
            `gt_ignore` (intersection over foreground); None ignores none.
        ignore_wrt_candidates: whether the anchor (True) or the region (False) is the
            foreground of `ignore_iof`.
        num_samples: how many anchors of an image the losses see.
        positive_fraction: the largest share of positives among them.
        pixel_offset: what a box is wider than `x1 - x0`: 1.0 in the legacy convention.
        delta_weights: factors of the encoded `(dx, dy, dw, dh)`.
    """

    positive_iou: float = 0.7
    negative_iou: float = 0.3
    force_match: ForceMatch = "ties"
    min_force_iou: float = 0.0
    retarget_forced: bool = False
    clobber_positives: bool = False
    allowed_border: float | None = None
    border_after_matching: bool = False
    ignore_padding: bool = False
    ignore_iof: float | None = None
    ignore_wrt_candidates: bool = True
    num_samples: int = 256
    positive_fraction: float = 0.5
    pixel_offset: float = 0.0
    delta_weights: DeltaWeights = (1.0, 1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        _require(
            0.0 <= self.negative_iou <= self.positive_iou <= 1.0,
            "TargetConfig needs 0 <= negative_iou <= positive_iou <= 1, got "
            f"{self.negative_iou} and {self.positive_iou}.",
        )
        _require(
            0.0 <= self.min_force_iou <= 1.0,
            f"TargetConfig needs min_force_iou in [0, 1], got {self.min_force_iou}.",
        )
        _require(
            self.ignore_iof is None or 0.0 <= self.ignore_iof <= 1.0,
            f"TargetConfig needs ignore_iof in [0, 1] or None, got {self.ignore_iof}.",
        )
        _require(
            self.num_samples >= 1 and 0.0 <= self.positive_fraction <= 1.0,
            "TargetConfig needs num_samples >= 1 and positive_fraction in [0, 1], got "
            f"{self.num_samples} and {self.positive_fraction}.",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossConfig:
    """How predictions and targets become the two losses.

    A normalizer names what a sum over anchors is divided by:

    * `"batch"`: the sampled anchors of the whole batch;
    * `"image"`: the sampled anchors of each image, then the mean over images;
    * `"fixed"`: `num_samples` times the number of images, whatever was sampled;
    * `"batch_clamped"`: as `"batch"`, where an image counts at least one positive and
      one negative (mmdetection);
    * `"positives"`: the sampled positives of the whole batch.

    Each is at least 1, so that a batch without a sample has losses of 0.

    Attributes:
        normalizer: of the objectness loss.
        box_normalizer: of the box loss; None takes `normalizer`.
        num_samples: what `"fixed"` multiplies, `TargetConfig.num_samples` as a rule.
        box_loss: `"smooth_l1"` on the deltas, or `"giou"`, `"diou"`, `"ciou"` on the
            decoded boxes.
        beta: where smooth L1 turns from a parabola into a line; 0 is L1. The `sigma` of
            py-faster-rcnn is `beta = 1 / sigma ** 2`.
        focal_gamma: the focusing exponent of focal loss in place of plain cross
            entropy.
        focal_alpha: the weight of positives in focal loss, and one minus that of
            negatives; None weighs both alike.
        objectness_positive_weight: with `p`, the positives of an image share the weight
            `p` and its negatives `1 - p` in the objectness loss, in place of
            `normalizer`, and images are averaged.
        box_positive_weight: the same for the box loss, which is what
            `RPN_POSITIVE_WEIGHT` of py-faster-rcnn does.
        inside_weights: factors of the four deltas inside smooth L1.
        objectness_weight: factor of the objectness loss.
        box_weight: factor of the box loss.
        delta_weights: the `TargetConfig.delta_weights` that the deltas were encoded
            with; the IoU losses decode with them.
    """

    normalizer: Normalizer = "batch"
    box_normalizer: Normalizer | None = None
    num_samples: int = 256
    box_loss: BoxLoss = "smooth_l1"
    beta: float = 1.0 / 9.0
    focal_gamma: float | None = None
    focal_alpha: float | None = 0.25
    objectness_positive_weight: float | None = None
    box_positive_weight: float | None = None
    inside_weights: DeltaWeights = (1.0, 1.0, 1.0, 1.0)
    objectness_weight: float = 1.0
    box_weight: float = 1.0
    delta_weights: DeltaWeights = (1.0, 1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        _require(
            self.num_samples >= 1 and 0.0 <= self.beta < math.inf,
            "LossConfig needs num_samples >= 1 and a finite beta >= 0, got "
            f"{self.num_samples} and {self.beta}.",
        )
        shares = (
            self.objectness_positive_weight,
            self.box_positive_weight,
            self.focal_alpha,
        )
        _require(
            all(share is None or 0.0 <= share <= 1.0 for share in shares),
            "LossConfig needs objectness_positive_weight, box_positive_weight and "
            f"focal_alpha in [0, 1] or None, got {shares}.",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProposalConfig:
    """How predictions become proposals.

    Attributes:
        pre_nms_top_k: how many boxes of the highest score enter suppression, of each
            level, or of the image if not `per_level`.
        post_nms_top_k: how many proposals an image has at most.
        train_pre_nms_top_k: `pre_nms_top_k` in training; None takes the same.
        train_post_nms_top_k: `post_nms_top_k` in training; None takes the same.
        per_level: selects `pre_nms_top_k` on each level and suppresses only boxes of
            one level by each other; otherwise over all anchors of the image.
        iou_threshold: a box that overlaps a kept one by more is suppressed.
        inclusive_threshold: also suppresses at equality, as TensorFlow's does.
        min_size: pixels of width and of height below which a box is dropped.
        exclusive_min_size: also drops boxes of exactly `min_size`.
        filter_before_top_k: drops small boxes before the selection by score, as
            py-faster-rcnn does, instead of after.
        score_threshold: the lowest probability of a proposal; None takes all.
        pixel_offset: what a box is wider than `x1 - x0`: 1.0 in the legacy convention.
        delta_weights: factors that the deltas were encoded with.
        max_log_scale: largest `dw` and `dh` that are decoded; infinity for no limit.
        symmetric_log_scale: also limits them from below, as mmdetection does.
    """

    pre_nms_top_k: int = 1000
    post_nms_top_k: int = 1000
    train_pre_nms_top_k: int | None = 2000
    train_post_nms_top_k: int | None = 2000
    per_level: bool = True
    iou_threshold: float = 0.7
    inclusive_threshold: bool = False
    min_size: float = 0.0
    exclusive_min_size: bool = True
    filter_before_top_k: bool = False
    score_threshold: float | None = None
    pixel_offset: float = 0.0
    delta_weights: DeltaWeights = (1.0, 1.0, 1.0, 1.0)
    max_log_scale: float = MAX_LOG_SCALE
    symmetric_log_scale: bool = False

    def __post_init__(self) -> None:
        limits = (
            self.pre_nms_top_k,
            self.post_nms_top_k,
            self.train_pre_nms_top_k,
            self.train_post_nms_top_k,
        )
        _require(
            all(limit is None or limit >= 1 for limit in limits),
            "ProposalConfig needs pre_nms_top_k, post_nms_top_k and their training "
            f"limits of at least 1, got {limits}.",
        )
        _require(
            0.0 <= self.iou_threshold <= 1.0,
            f"ProposalConfig needs iou_threshold in [0, 1], got {self.iou_threshold}.",
        )

    def for_training(self) -> "ProposalConfig":
        """The same settings with the limits of training in force."""
        return dataclasses.replace(
            self,
            pre_nms_top_k=self.train_pre_nms_top_k or self.pre_nms_top_k,
            post_nms_top_k=self.train_post_nms_top_k or self.post_nms_top_k,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class RPNConfig:
    """The settings of all stages of one system.

    Attributes:
        anchors: shapes and spacing of the anchors.
        targets: labels, sampling and box targets.
        losses: the two losses.
        proposals: decoding, selection and suppression.
    """

    anchors: AnchorConfig = AnchorConfig()
    targets: TargetConfig = TargetConfig()
    losses: LossConfig = LossConfig()
    proposals: ProposalConfig = ProposalConfig()

    def __post_init__(self) -> None:
        stages = (self.targets, self.losses, self.proposals)
        weights = [stage.delta_weights for stage in stages]
        _require(
            len(set(weights)) == 1,
            "RPNConfig needs the same delta_weights in targets, losses and proposals, "
            f"got {weights}. What encodes the deltas must decode them: give all three "
            "the same.",
        )
        offsets = [self.targets.pixel_offset, self.proposals.pixel_offset]
        _require(
            len(set(offsets)) == 1,
            "RPNConfig needs the same pixel_offset in targets and proposals, got "
            f"{offsets}. Give both the convention of the ground truth, 0.0 or 1.0.",
        )
        counts = [self.targets.num_samples, self.losses.num_samples]
        _require(
            len(set(counts)) == 1,
            f"RPNConfig needs one num_samples in targets and losses, got {counts}. "
            "Set both to the same number.",
        )
