"""The settings of the two losses."""

import dataclasses
import math
from typing import Literal

from ._arguments import lenient_settings
from ._checks import require
from ._typing import DeltaWeights

Objectness = Literal["label", "iou", "centerness", "oln_iou", "oln_centerness"]
QualityLoss = Literal["quality_focal", "varifocal"]
BoxLoss = Literal["smooth_l1", "giou", "diou", "ciou"]
Normalizer = Literal["batch", "image", "fixed", "batch_clamped", "positives"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossConfig:
    """How predictions and targets become the two losses.

    A normalizer names the number that a sum over anchors is divided by:

    * `"batch"`: the sampled anchors of the whole batch (torchvision);
    * `"image"`: the sampled anchors of each image, followed by the mean over images;
    * `"fixed"`: `num_samples` times the number of images, however many were sampled
      (detectron2);
    * `"batch_clamped"`: like `"batch"`, but an image counts at least one positive and
      one negative (mmdetection);
    * `"positives"`: the sampled positives of the whole batch.

    The divisor is at least 1, so a batch without a sample has losses of 0.

    `objectness` names what the objectness logit learns. Its sigmoid, which ranks the
    proposals, then is an estimate of that:

    * `"label"`: the probability that the anchor is positive (Faster R-CNN);
    * `"iou"`: the IoU of the predicted box with the ground truth of its anchor, and 0
      for negatives, by quality focal loss (GFL, https://arxiv.org/abs/2006.04388);
    * `"centerness"`: how central the centre of the anchor lies in its ground-truth box
      (FCOS, https://arxiv.org/abs/1904.01355), and 0 for negatives, by the same loss;
    * `"oln_iou"` and `"oln_centerness"`: these two by the L1 loss of OLN
      (https://arxiv.org/abs/2108.06753), to which negatives add nothing.

    For OLN the paper is followed. It samples anchors above an IoU of 0.3 and no
    background, where its code fills a sample without enough of them with negatives. The
    IoU in its code is the anchor's; here it is the predicted box's, as in GFL.

    Attributes:
        objectness: what the objectness logit learns.
        normalizer: divides the objectness loss if `objectness` is `"label"`.
        quality_normalizer: divides the objectness loss otherwise. GFL and VarifocalNet
            divide by the positives; OLN's code does by all samples,
            `"batch_clamped"`.
        box_normalizer: divides the box loss; None uses `normalizer`.
        num_samples: number of samples per image that `"fixed"` assumes. An `RPNConfig`
            takes it from its `targets`.
        box_loss: `"smooth_l1"` on the deltas, or `"giou"`, `"diou"`, `"ciou"` on the
            decoded boxes.
        beta: absolute difference at which smooth L1 turns from a parabola into a line.
            With 0 it is L1. The `sigma` of py-faster-rcnn is `beta = 1 / sigma ** 2`.
        quality_loss: loss of `"iou"` and `"centerness"`: `"quality_focal"` or
            `"varifocal"` (VarifocalNet, https://arxiv.org/abs/2008.13367).
        quality_beta: focusing exponent of either loss: `beta` of quality focal loss and
            `gamma` of varifocal loss. With 0, quality focal loss is cross entropy.
        varifocal_alpha: weight of negatives in varifocal loss.
        oln_beta: like `beta`, in the objectness loss of OLN.
        focal_gamma: focusing exponent of focal loss, for an `objectness` of `"label"`;
            None uses cross entropy.
        focal_alpha: weight of positives in focal loss, where negatives weigh
            `1 - focal_alpha`; None weighs both by 1.
        box_positive_weight: `RPN_POSITIVE_WEIGHT` of py-faster-rcnn. With a value `p`,
            the positives of an image share the weight `p` in the box loss, and its
            negatives `1 - p`. Images are averaged, and `box_normalizer` has no effect.
        objectness_weight: factor of the objectness loss.
        box_weight: factor of the box loss.
        delta_weights: factors that the deltas were encoded with; the IoU losses decode
            with them. An `RPNConfig` takes them from its `targets`.

    >>> LossConfig(box_loss="giou", box_weight=2.0).normalizer
    'batch'
    """

    objectness: Objectness = "label"
    normalizer: Normalizer = "batch"
    quality_normalizer: Normalizer = "positives"
    box_normalizer: Normalizer | None = None
    num_samples: int = 256
    box_loss: BoxLoss = "smooth_l1"
    beta: float = 1.0 / 9.0
    quality_loss: QualityLoss = "quality_focal"
    quality_beta: float = 2.0
    varifocal_alpha: float = 0.75
    oln_beta: float = 0.0
    focal_gamma: float | None = None
    focal_alpha: float | None = 0.25
    box_positive_weight: float | None = None
    objectness_weight: float = 1.0
    box_weight: float = 1.0
    delta_weights: DeltaWeights = (1.0, 1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        require(
            self.num_samples >= 1 and 0.0 <= self.beta < math.inf,
            "LossConfig needs num_samples >= 1 and a finite beta >= 0, got "
            f"{self.num_samples} and {self.beta}.",
        )
        factors = (self.objectness_weight, self.box_weight, self.focal_gamma or 0.0)
        require(
            all(0.0 <= factor < math.inf for factor in factors),
            "LossConfig needs a finite objectness_weight, box_weight and focal_gamma "
            f"of at least 0, got {factors}.",
        )
        shares = (self.box_positive_weight, self.focal_alpha)
        require(
            all(share is None or 0.0 <= share <= 1.0 for share in shares),
            "LossConfig needs box_positive_weight and focal_alpha in [0, 1] or None, "
            f"got {shares}.",
        )
        self._check_quality()

    def _check_quality(self) -> None:
        is_gfl = self.objectness in ("iou", "centerness")
        require(
            self.quality_loss == "quality_focal" or is_gfl,
            'LossConfig needs an objectness of "iou" or "centerness" for a '
            f"quality_loss of {self.quality_loss!r}, got {self.objectness!r}.",
        )
        require(
            self.focal_gamma is None or self.objectness == "label",
            f"LossConfig needs focal_gamma None with an objectness of "
            f"{self.objectness!r}, got {self.focal_gamma}. Set quality_beta, or choose "
            'the objectness "label".',
        )
        # The derivative of x ** beta at 0 is infinite for other exponents.
        beta = self.quality_beta
        require(
            beta == 0.0 or 1.0 <= beta < math.inf,
            f"LossConfig needs a quality_beta of 0, or at least 1, got {beta}.",
        )
        numbers = (self.varifocal_alpha, self.oln_beta)
        require(
            all(0.0 <= number < math.inf for number in numbers),
            "LossConfig needs finite varifocal_alpha and oln_beta of at least 0, got "
            f"{numbers}.",
        )


lenient_settings(LossConfig)
