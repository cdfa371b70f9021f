"""The settings of every stage: frozen and hashable, so `jit` can take them static."""

import dataclasses
import math
from typing import Any, Literal

from ._checks import require
from ._typing import DeltaWeights
from .anchor_config import AnchorConfig
from .loss_config import LossConfig as LossConfig

ForceMatch = Literal["ties", "first", "none"]

MAX_LOG_SCALE = math.log(1000.0 / 16.0)
_SHARED = ("pixel_offset", "delta_weights", "num_samples")  # by all stages


@dataclasses.dataclass(frozen=True, kw_only=True)
class TargetConfig:
    """How anchors are labelled, sampled and given a box to regress to.

    `pixel_offset`, `delta_weights` and `num_samples` are set here for all stages: an
    `RPNConfig` passes them on to its losses and proposals.

    Attributes:
        positive_iou: an anchor is positive if its IoU with some box is at least this.
        negative_iou: an anchor is negative if its IoU with every box is below this.
        force_match: which anchors a box forces positive although their IoU is below
            `positive_iou`: `"ties"`, all that share the box's best IoU; `"first"`, the
            one with the lowest index among those; or `"none"`. A best IoU of 0 forces
            nothing.
        min_force_iou: a box whose best IoU is below this forces nothing; 0.3 in
            mmdetection.
        retarget_forced: assigns a forced anchor to the box that forced it (the last one
            if there are several) instead of the box with the highest IoU. mmdetection
            and TensorFlow do.
        clobber_positives: lets `negative_iou` overrule forced matches, as
            `RPN_CLOBBER_POSITIVES` of py-faster-rcnn does.
        allowed_border: number of pixels by which an anchor may extend beyond the image
            before it is ignored; None keeps all anchors. Negative values shrink the
            image. jwyang and py-faster-rcnn use 0.
        border_after_matching: applies `allowed_border` after matching, as detectron2
            does, so a box may lose the anchors that it forced. False applies it before.
        ignore_padding: ignores the anchors of cells that begin beyond the image.
        ignore_iof: ignores every anchor whose intersection with an ignored region is
            more than this share of the foreground. None gives ignored regions no
            effect. If the data has crowds and this is None, `rpn-jax train` sets 0.5
            and says so; a value that was set is kept, and `--no-ignore-crowds` keeps
            None.
        ignore_wrt_candidates: which area is the foreground of `ignore_iof`: the
            anchor's (True) or the ignored region's (False).
        num_samples: number of anchors per image that the losses see.
        positive_fraction: largest share of positives among them.
        pixel_offset: added to `x1 - x0` to get the width; 1.0 in the legacy inclusive
            convention of py-faster-rcnn and jwyang.
        delta_weights: factors of the encoded `(dx, dy, dw, dh)`; `BBOX_REG_WEIGHTS` of
            detectron2.
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
        require(
            0.0 <= self.negative_iou <= self.positive_iou <= 1.0,
            "TargetConfig needs 0 <= negative_iou <= positive_iou <= 1, got "
            f"{self.negative_iou} and {self.positive_iou}.",
        )
        require(
            0.0 <= self.min_force_iou <= 1.0,
            f"TargetConfig needs min_force_iou in [0, 1], got {self.min_force_iou}.",
        )
        require(
            self.ignore_iof is None or 0.0 <= self.ignore_iof <= 1.0,
            f"TargetConfig needs ignore_iof in [0, 1] or None, got {self.ignore_iof}.",
        )
        require(
            self.num_samples >= 1 and 0.0 <= self.positive_fraction <= 1.0,
            "TargetConfig needs num_samples >= 1 and positive_fraction in [0, 1], got "
            f"{self.num_samples} and {self.positive_fraction}.",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProposalConfig:
    """How predictions become proposals.

    Attributes:
        pre_nms_top_k: number of boxes with the highest scores that enter suppression,
            per level if `per_level`, else per image.
        post_nms_top_k: largest number of proposals per image.
        train_pre_nms_top_k: `pre_nms_top_k` in training; None uses the same.
        train_post_nms_top_k: `post_nms_top_k` in training; None uses the same.
        per_level: applies `pre_nms_top_k` to each level and lets only boxes of the same
            level suppress each other; False treats all anchors of an image as one set.
        iou_threshold: a box is suppressed if its IoU with a kept one exceeds this.
        inclusive_threshold: also suppresses at equality, as TensorFlow does.
        min_size: width and height in pixels below which a box is dropped.
        exclusive_min_size: also drops boxes of exactly `min_size`.
        filter_before_top_k: drops small boxes before the selection by score, as
            py-faster-rcnn does, instead of after it.
        score_threshold: lowest probability of a proposal; None keeps all.
        pixel_offset: added to `x1 - x0` to get the width; 1.0 in the legacy inclusive
            convention. An `RPNConfig` takes it from its `targets`.
        delta_weights: factors that the deltas were encoded with. An `RPNConfig` takes
            them from its `targets`.
        max_log_scale: upper limit of the decoded `dw` and `dh`; infinity for none.
        symmetric_log_scale: also limits `dw` and `dh` from below, as mmdetection does.
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
        require(
            all(limit is None or limit >= 1 for limit in limits),
            "ProposalConfig needs pre_nms_top_k, post_nms_top_k and their training "
            f"limits of at least 1, got {limits}.",
        )
        require(
            0.0 <= self.iou_threshold <= 1.0,
            f"ProposalConfig needs iou_threshold in [0, 1], got {self.iou_threshold}.",
        )

    def for_training(self) -> "ProposalConfig":
        """The same settings with the training limits in force."""
        return dataclasses.replace(
            self,
            pre_nms_top_k=self.train_pre_nms_top_k or self.pre_nms_top_k,
            post_nms_top_k=self.train_post_nms_top_k or self.post_nms_top_k,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class RPNConfig:
    """The settings of all stages of one system.

    What several stages must agree on is set once, in `targets`: `pixel_offset`,
    `delta_weights` and `num_samples`. `losses` and `proposals` take these values over.

    Attributes:
        anchors: shapes and spacing of the anchors.
        targets: labels, sampling and box targets.
        losses: the two losses.
        proposals: decoding, selection and suppression.
        num_logits: objectness logits per anchor: 1 for a sigmoid, or 2 for a softmax
            over (background, object), as in py-faster-rcnn and jwyang.

    Raises:
        ValueError: `losses` or `proposals` set a shared value to something else.

    >>> RPNConfig(targets=TargetConfig(num_samples=64)).losses.num_samples
    64
    """

    anchors: AnchorConfig = AnchorConfig()
    targets: TargetConfig = TargetConfig()
    losses: LossConfig = LossConfig()
    proposals: ProposalConfig = ProposalConfig()
    num_logits: Literal[1, 2] = 1

    def __post_init__(self) -> None:
        for name in ("losses", "proposals"):
            shared = self._shared_with(name)
            stage = dataclasses.replace(getattr(self, name), **shared)
            object.__setattr__(self, name, stage)  # the only way on a frozen dataclass

    def _shared_with(self, name: str) -> dict[str, Any]:
        """The values of `targets` that a stage takes over."""
        stage, shared = getattr(self, name), {}
        for field in dataclasses.fields(stage):
            if field.name in _SHARED:
                own, value = (
                    getattr(stage, field.name),
                    getattr(self.targets, field.name),
                )
                require(
                    own in (field.default, value),
                    f"RPNConfig needs one {field.name} for all stages, got {value} in "
                    f"targets and {own} in {name}. Set it in targets; {name} takes it "
                    f"over if it has the default of {field.default}.",
                )
                shared[field.name] = value
        return shared
