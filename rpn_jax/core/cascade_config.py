"""The settings of the first stage of Cascade RPN."""

import dataclasses

from ._arguments import lenient_settings
from ._checks import require
from .anchor_config import AnchorConfig
from .rule_configs import RegionConfig
from .target_config import TargetConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class CascadeConfig:
    """How the first stage of a `CascadeHead` learns to move the anchors.

    It learns the boxes of its positives by the `box_loss` of `LossConfig`, and no
    objectness. All other settings belong to the second stage.

    Attributes:
        region: the region rule that labels the anchors of the first stage.
        first_box_weight: factor of the first stage's box loss, beside that of both
            stages, `LossConfig.box_weight`.

    >>> from rpn_jax import presets
    >>> presets.cascade_rpn().cascade.region.center_ratio
    0.2
    """

    region: RegionConfig = RegionConfig()
    first_box_weight: float = 1.0

    def __post_init__(self) -> None:
        require(
            self.first_box_weight >= 0.0,
            "CascadeConfig needs a first_box_weight of at least 0, got "
            f"{self.first_box_weight}.",
        )

    def first_targets(self, second: TargetConfig) -> TargetConfig:
        """The rules of the first stage.

        mmdetection trains on all positives of an image. Here at most `num_samples` of
        them are sampled.

        Args:
            second: the rules of the second stage, whose borders, ignored regions and
                number of samples hold for both.
        """
        return TargetConfig(
            assigner="region",
            region=self.region,
            allowed_border=second.allowed_border,
            border_after_matching=second.border_after_matching,
            ignore_iof=second.ignore_iof,
            ignore_wrt_candidates=second.ignore_wrt_candidates,
            num_samples=second.num_samples,
            positive_fraction=1.0,
        )


lenient_settings(CascadeConfig)


def check_cascade(targets: TargetConfig, anchors: AnchorConfig) -> None:
    """Raises a `ValueError` where settings of an `RPNConfig` do not fit a cascade."""
    require(
        anchors.anchors_per_cell == 1 and not anchors.strides_from_image,
        'RPNConfig needs one anchor per cell and fixed strides for head="cascade", got '
        f"{anchors.anchors_per_cell} per cell and strides_from_image="
        f"{anchors.strides_from_image}. Set one size per level and one of "
        "aspect_ratios, or use presets.cascade_rpn().",
    )
    require(
        targets.assigner not in ("region", "sim_ota"),
        'RPNConfig needs a rule for any boxes in targets for head="cascade", whose '
        f'moved anchors are no grid, got assigner="{targets.assigner}". Pass '
        '"max_iou", "atss", "task_aligned" or "centerness".',
    )
    usual = TargetConfig()
    for name in ("pixel_offset", "delta_weights", "ignore_padding"):
        value, needed = getattr(targets, name), getattr(usual, name)
        require(
            value == needed,
            f'RPNConfig needs targets.{name}={needed} for head="cascade", got {value}.',
        )
