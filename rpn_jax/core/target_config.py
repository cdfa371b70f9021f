"""The settings of the targets: frozen and hashable, so `jit` can take them static."""

import dataclasses
import math
from typing import Literal, get_args

from ._arguments import lenient_settings
from ._checks import require
from ._typing import DeltaWeights
from .rule_configs import (
    AtssConfig,
    CenternessConfig,
    IouBalanceConfig,
    RegionConfig,
    SimOTAConfig,
    TaskAlignedConfig,
)

Assigner = Literal["max_iou", "atss", "task_aligned", "sim_ota", "region", "centerness"]
ForceMatch = Literal["ties", "first", "none"]
PositiveSampler = Literal["uniform", "hardest", "instance_balanced"]
NegativeSampler = Literal["uniform", "hardest", "iou_balanced"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TargetConfig:
    """How anchors are labelled, sampled and given a box to regress to.

    `pixel_offset`, `delta_weights` and `num_samples` are set here for all stages: an
    `RPNConfig` passes them on to its losses and proposals.

    Attributes:
        assigner: rule that labels the anchors; `matching/__init__.py` lists them.
            `"max_iou"` is that of Faster R-CNN. The settings from `positive_iou` to
            `clobber_positives` belong to it, and have no effect on the other rules.
        atss: settings of the rule of this name; each may only be set with its rule.
        task_aligned: settings of the rule of this name.
        sim_ota: settings of the rule of this name.
        region: settings of the rule of this name.
        centerness: settings of the rule of this name.
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
        positive_sampler: which positives are sampled if there are too many: any
            (`"uniform"`), those of highest objectness loss (`"hardest"`), or equally
            many of each box (`"instance_balanced"`).
        negative_sampler: the same for negatives: `"uniform"`, `"hardest"`, or equally
            many of each interval of IoU (`"iou_balanced"`).
        iou_balance: settings of the `"iou_balanced"` sampler.
        pixel_offset: added to `x1 - x0` to get the width; 1.0 in the legacy inclusive
            convention of py-faster-rcnn and jwyang.
        delta_weights: factors of the encoded `(dx, dy, dw, dh)`; `BBOX_REG_WEIGHTS` of
            detectron2.

    >>> rules = TargetConfig(assigner="atss", negative_sampler="iou_balanced")
    >>> rules.atss.top_k, rules.num_samples
    (9, 256)
    """

    assigner: Assigner = "max_iou"
    atss: AtssConfig = AtssConfig()
    task_aligned: TaskAlignedConfig = TaskAlignedConfig()
    sim_ota: SimOTAConfig = SimOTAConfig()
    region: RegionConfig = RegionConfig()
    centerness: CenternessConfig = CenternessConfig()
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
    positive_sampler: PositiveSampler = "uniform"
    negative_sampler: NegativeSampler = "uniform"
    iou_balance: IouBalanceConfig = IouBalanceConfig()
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
        require(
            0.0 <= self.pixel_offset < math.inf
            and all(0.0 < weight < math.inf for weight in self.delta_weights),
            "TargetConfig needs a finite pixel_offset >= 0 and finite delta_weights "
            f"> 0, got {self.pixel_offset} and {self.delta_weights}.",
        )
        self._refuse_unused_rules()

    def _refuse_unused_rules(self) -> None:
        """Settings of a rule that is not chosen would be ignored silently."""
        for field in dataclasses.fields(self):
            is_rule = field.name in get_args(Assigner) and field.name != self.assigner
            require(
                not is_rule or getattr(self, field.name) == field.default,
                f'TargetConfig needs assigner="{field.name}" for settings of '
                f'{field.name}, got assigner="{self.assigner}" with '
                f"{getattr(self, field.name)}.",
            )
        require(
            self.negative_sampler == "iou_balanced"
            or self.iou_balance == IouBalanceConfig(),
            'TargetConfig needs negative_sampler="iou_balanced" for settings of '
            f'iou_balance, got negative_sampler="{self.negative_sampler}" with '
            f"{self.iou_balance}.",
        )
        require(
            (self.assigner, self.negative_sampler) != ("centerness", "iou_balanced"),
            'TargetConfig needs another negative_sampler for assigner="centerness", '
            'which gives no IoUs, got "iou_balanced". Pass "uniform" or "hardest".',
        )

    @property
    def assigner_reads_predictions(self) -> bool:
        """Whether labels depend on what the head predicts."""
        return self.assigner in ("task_aligned", "sim_ota")

    @property
    def reads_predictions(self) -> bool:
        """Whether labels or samples depend on what the head predicts."""
        samplers = (self.positive_sampler, self.negative_sampler)
        return self.assigner_reads_predictions or "hardest" in samplers

    def before_training(self) -> "TargetConfig":
        """The same settings without the rule that reads predictions, if it is one.

        The rule of Faster R-CNN takes its place.
        """
        if not self.assigner_reads_predictions:
            return self
        return dataclasses.replace(
            self,
            assigner="max_iou",
            task_aligned=TaskAlignedConfig(),
            sim_ota=SimOTAConfig(),
        )


lenient_settings(TargetConfig)
