"""The settings of every stage: frozen and hashable, so `jit` can take them static."""

import copy
import dataclasses
import math
from typing import Any, Literal

from ._arguments import lenient_settings
from ._checks import require
from ._typing import DeltaWeights
from .anchor_config import AnchorConfig
from .cascade_config import CascadeConfig, check_cascade
from .loss_config import LossConfig as LossConfig
from .target_config import TargetConfig as TargetConfig

MAX_LOG_SCALE = math.log(1000.0 / 16.0)
Head = Literal["plain", "cascade"]
_SHARED = ("pixel_offset", "delta_weights", "num_samples")  # by all stages


class _TakenOver(int):
    """A `num_samples` that a stage took over from `targets`, and not from its user.

    So `dataclasses.replace` may give an `RPNConfig` other `targets`.
    """


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
        soft_iou_threshold: a box that `iou_threshold` suppresses stays with a lower
            score, unless its IoU with a better box that stays exceeds this too. Such
            boxes fill the ranks after the sure objects with second guesses, as
            Soft-NMS does (https://arxiv.org/abs/1704.04503). None drops them.
        soft_factor: what the probability of such a box is multiplied by.
        vote_iou_threshold: a box that `iou_threshold` keeps moves to the mean of the
            boxes of its level whose IoU with it is at least this, weighted by their
            probabilities: the box voting of Gidaris and Komodakis
            (https://arxiv.org/abs/1505.01749). Boxes that moved may overlap by more
            than `iou_threshold`. None moves no box.
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

    >>> ProposalConfig(train_post_nms_top_k=500).for_training().post_nms_top_k
    500
    """

    pre_nms_top_k: int = 1000
    post_nms_top_k: int = 1000
    train_pre_nms_top_k: int | None = 2000
    train_post_nms_top_k: int | None = 2000
    per_level: bool = True
    iou_threshold: float = 0.7
    inclusive_threshold: bool = False
    soft_iou_threshold: float | None = None
    soft_factor: float = 0.03
    vote_iou_threshold: float | None = None
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
        require(
            0.0 <= self.min_size < math.inf,
            f"ProposalConfig needs a finite min_size >= 0, got {self.min_size}.",
        )
        soft, vote = self.soft_iou_threshold, self.vote_iou_threshold
        require(
            soft is None or self.iou_threshold <= soft <= 1.0,
            "ProposalConfig needs soft_iou_threshold from iou_threshold to 1, or None, "
            f"got {soft} with an iou_threshold of {self.iou_threshold}.",
        )
        require(
            0.0 < self.soft_factor < 1.0 and (vote is None or 0.0 < vote <= 1.0),
            "ProposalConfig needs soft_factor in (0, 1) and vote_iou_threshold in "
            f"(0, 1] or None, got {self.soft_factor} and {vote}.",
        )

    def for_training(self) -> "ProposalConfig":
        """The same settings with the training limits in force."""
        return dataclasses.replace(
            self,
            pre_nms_top_k=self.train_pre_nms_top_k or self.pre_nms_top_k,
            post_nms_top_k=self.train_post_nms_top_k or self.post_nms_top_k,
        )


lenient_settings(ProposalConfig)


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
        num_convs: number of 3x3 convolutions of a plain head. The second version of
            torchvision's detector has 2.
        num_pointwise: number of 1x1 convolutions that follow them.
        head: `"plain"` is the `RPNHead` of Faster R-CNN, `"cascade"` the `CascadeHead`
            of Cascade RPN. With a cascade, `targets` labels the moved anchors.
        cascade: settings of the first stage of a cascade.

    Raises:
        ValueError: `losses` or `proposals` set a shared value to something else, or the
            settings do not fit a cascade.

    >>> RPNConfig(targets=TargetConfig(num_samples=64)).losses.num_samples
    64
    """

    anchors: AnchorConfig = AnchorConfig()
    targets: TargetConfig = TargetConfig()
    losses: LossConfig = LossConfig()
    proposals: ProposalConfig = ProposalConfig()
    num_logits: Literal[1, 2] = 1
    num_convs: int = 1
    num_pointwise: int = 0
    head: Head = "plain"
    cascade: CascadeConfig = CascadeConfig()

    def __post_init__(self) -> None:
        if self.head == "cascade":
            check_cascade(self.targets, self.anchors)
        require(
            self.head == "cascade" or self.cascade == CascadeConfig(),
            'RPNConfig needs head="cascade" for settings of cascade, got '
            f"head={self.head!r} with {self.cascade}.",
        )
        require(
            self.num_convs >= 1 and self.num_pointwise >= 0,
            "RPNConfig needs num_convs of at least 1 and num_pointwise of at least 0, "
            f"got {self.num_convs} and {self.num_pointwise}.",
        )
        for name in ("losses", "proposals"):
            shared = self._shared_with(name)
            stage = dataclasses.replace(getattr(self, name), **shared)
            object.__setattr__(self, name, stage)  # the only way on a frozen dataclass

    @property
    def grid_targets(self) -> TargetConfig:
        """The rules that label the anchors of the grid.

        These are `targets`, or in a cascade those of its first stage.
        """
        if self.head == "cascade":
            return self.cascade.first_targets(self.targets)
        return self.targets

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
                    own in (field.default, value) or isinstance(own, _TakenOver),
                    f"RPNConfig needs one {field.name} for all stages, got {value} in "
                    f"targets and {own} in {name}. Set it in targets; {name} takes it "
                    f"over if it has the default of {field.default}.",
                )
                is_number = field.name == "num_samples"
                shared[field.name] = _TakenOver(value) if is_number else value
        return shared


lenient_settings(RPNConfig)


def open_shares(config: RPNConfig) -> RPNConfig:
    """A copy in which the stages have not yet taken over what `targets` sets.

    The flags of `rpn-jax train` change such a copy field by field, and then make an
    `RPNConfig` of the parts. It is not for use as it is.
    """
    opened = copy.copy(config)
    for name in ("losses", "proposals"):
        stage = getattr(config, name)
        shared = [x for x in dataclasses.fields(stage) if x.name in _SHARED]
        defaults = {field.name: field.default for field in shared}
        object.__setattr__(opened, name, dataclasses.replace(stage, **defaults))
    return opened
