"""The settings of the rules that `TargetConfig.assigner` names, one class per rule.

`"max_iou"` has none here: `TargetConfig` itself holds its thresholds.
"""

import dataclasses

from ._arguments import lenient_settings
from ._checks import require


@dataclasses.dataclass(frozen=True, kw_only=True)
class AtssConfig:
    """Settings of ATSS, described in `matching/atss.py`.

    Attributes:
        top_k: number of candidates of each shape, on each level, for a box: the anchors
            whose centres are nearest to its own.

    >>> from rpn_jax import TargetConfig
    >>> TargetConfig(assigner="atss", atss=AtssConfig(top_k=15)).atss.top_k
    15
    """

    top_k: int = 9

    def __post_init__(self) -> None:
        require(
            self.top_k >= 1, f"AtssConfig needs top_k of at least 1, got {self.top_k}."
        )


lenient_settings(AtssConfig)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskAlignedConfig:
    """Settings of task-aligned assignment, described in `matching/task_aligned.py`.

    Attributes:
        top_k: number of candidates for a box: the anchors with the highest alignment.
        alpha: exponent of the score in the alignment.
        beta: exponent of the IoU in the alignment.

    >>> from rpn_jax import TargetConfig
    >>> rules = TargetConfig(
    ...     assigner="task_aligned", task_aligned=TaskAlignedConfig(beta=4.0)
    ... )
    >>> rules.task_aligned.top_k
    13
    """

    top_k: int = 13
    alpha: float = 1.0
    beta: float = 6.0

    def __post_init__(self) -> None:
        require(
            self.top_k >= 1 and self.alpha >= 0.0 and self.beta >= 0.0,
            "TaskAlignedConfig needs top_k of at least 1 and alpha and beta of at "
            f"least 0, got {self.top_k}, {self.alpha} and {self.beta}.",
        )


lenient_settings(TaskAlignedConfig)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimOTAConfig:
    """Settings of SimOTA, described in `matching/sim_ota.py`.

    Attributes:
        center_radius: half the side of a box's centre region, in strides of the level.
        candidate_top_k: number of IoUs whose sum tells how many anchors a box takes.
        iou_weight: factor of the IoU cost, `-log(IoU)`.
        objectness_weight: factor of the objectness cost, `-log(score)`.

    >>> from rpn_jax import TargetConfig
    >>> wider = SimOTAConfig(center_radius=3.5)
    >>> TargetConfig(assigner="sim_ota", sim_ota=wider).sim_ota.candidate_top_k
    10
    """

    center_radius: float = 2.5
    candidate_top_k: int = 10
    iou_weight: float = 3.0
    objectness_weight: float = 1.0

    def __post_init__(self) -> None:
        weights = (self.iou_weight, self.objectness_weight)
        require(
            self.center_radius > 0.0
            and self.candidate_top_k >= 1
            and min(weights) >= 0,
            "SimOTAConfig needs center_radius above 0, candidate_top_k of at least 1 "
            f"and weights of at least 0, got {self.center_radius}, "
            f"{self.candidate_top_k} and {weights}.",
        )


lenient_settings(SimOTAConfig)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RegionConfig:
    """Settings of the region rule, described in `matching/region.py`.

    Attributes:
        center_ratio: side of the region of positives, as a share of the box's side.
        ignore_ratio: side of the region around it, where anchors are ignored.

    >>> from rpn_jax import TargetConfig
    >>> rules = TargetConfig(assigner="region", region=RegionConfig(center_ratio=0.4))
    >>> rules.region.ignore_ratio
    0.5
    """

    center_ratio: float = 0.2
    ignore_ratio: float = 0.5

    def __post_init__(self) -> None:
        require(
            0.0 <= self.center_ratio <= self.ignore_ratio <= 1.0,
            "RegionConfig needs 0 <= center_ratio <= ignore_ratio <= 1, got "
            f"{self.center_ratio} and {self.ignore_ratio}.",
        )


lenient_settings(RegionConfig)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CenternessConfig:
    """Settings of the centerness rule, described in `matching/centerness.py`.

    Attributes:
        positive_iou: an anchor is positive if its IoU with some box is at least this.
        negative_iou: an anchor is negative if its IoU with every box is below this.
        background: whether anchors may be negative, as in OLN's code. False ignores
            them, as OLN's paper does, so that positives alone are sampled.

    >>> from rpn_jax import TargetConfig
    >>> as_in_paper = CenternessConfig(background=False)
    >>> rules = TargetConfig(assigner="centerness", centerness=as_in_paper)
    >>> rules.centerness.positive_iou
    0.3
    """

    positive_iou: float = 0.3
    negative_iou: float = 0.1
    background: bool = True

    def __post_init__(self) -> None:
        require(
            0.0 <= self.negative_iou <= self.positive_iou <= 1.0,
            "CenternessConfig needs 0 <= negative_iou <= positive_iou <= 1, got "
            f"{self.negative_iou} and {self.positive_iou}.",
        )


lenient_settings(CenternessConfig)


@dataclasses.dataclass(frozen=True, kw_only=True)
class IouBalanceConfig:
    """Settings of the IoU-balanced sample of negatives, described in `samplers.py`.

    Attributes:
        floor_iou: IoU below which negatives are not balanced.
        floor_fraction: share of the negatives that is taken below `floor_iou`.
        num_bins: number of equal intervals of IoU that share the others.

    >>> from rpn_jax import TargetConfig
    >>> finer = IouBalanceConfig(num_bins=5)
    >>> TargetConfig(negative_sampler="iou_balanced", iou_balance=finer).num_samples
    256
    """

    floor_iou: float = 0.0
    floor_fraction: float = 0.0
    num_bins: int = 3

    def __post_init__(self) -> None:
        shares = (self.floor_iou, self.floor_fraction)
        require(
            all(0.0 <= share <= 1.0 for share in shares) and self.num_bins >= 1,
            "IouBalanceConfig needs floor_iou and floor_fraction in [0, 1] and "
            f"num_bins of at least 1, got {shares} and {self.num_bins}.",
        )


lenient_settings(IouBalanceConfig)
