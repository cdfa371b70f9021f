"""Reference systems as `RPNConfig` values, each with its source, and `pyramid`.

Every reference preset does what its authors meant. Where the original has a slip, or
fails on some input, the preset does not, and its docstring lists the deviation. These
deviations are common to all:

* Degenerate ground truth (`x1 <= x0`, or not finite) counts as padding.
* A box that overlaps no anchor forces none. In torchvision, detectron2, py-faster-rcnn,
  and mmdetection with `min_pos_iou=0`, it turns every anchor without overlap positive.
* Images without boxes, or without an anchor inside, have finite losses.
* Proposals with a score or a delta that is not finite are dropped.

`pyramid` follows no single system: it is what `rpn-jax train` uses for a pyramid.
"""

import dataclasses

from .core.anchor_config import AnchorConfig
from .core.config import LossConfig, ProposalConfig, RPNConfig, TargetConfig


def py_faster_rcnn() -> RPNConfig:
    """rbgirshick/py-faster-rcnn (781a917), VGG16 end to end.

    Its head is `RPNHead(512, 9, num_logits=2)`. Deviations:

    * `dw` and `dh` are clamped at `log(1000 / 16)`. The original lets `exp` overflow.
    * Images without boxes train. The original crashes.
    * `min_size` is 16 pixels of the input image. In the original it is 16 pixels of the
      image before resizing.

    >>> py_faster_rcnn().proposals.min_size
    16.0
    """
    legacy = jwyang_vgg16()
    return dataclasses.replace(
        legacy,
        proposals=dataclasses.replace(
            legacy.proposals,
            min_size=16.0,
            exclusive_min_size=False,
            filter_before_top_k=True,
        ),
    )


def jwyang_vgg16() -> RPNConfig:
    """jwyang/faster-rcnn.pytorch (f9d984d), VGG16 for VOC.

    Its head is `RPNHead(512, 9, num_logits=2)`. Deviations:

    * The box loss of an image is divided by the number of samples in that image. The
      original divides every image of the batch by the number in the last one.
    * The border is judged by the size of each image. The original uses the first one's.
    * `RPN_POSITIVE_WEIGHT` in (0, 1), here `box_positive_weight`, works. The original
      crashes.
    * There may be any number of boxes. The original drops those after the 20th.
    * `dw` and `dh` are clamped at `log(1000 / 16)`. The original lets `exp` overflow.
    * A ground truth box with `x0 == x1` or `y0 == y1` is dropped. The original drops
      it only if both hold.

    The original reads a minimum size of proposals but never applies it. Neither does
    the preset.

    >>> jwyang_vgg16().anchors.anchors_per_cell
    9
    """
    return RPNConfig(
        anchors=AnchorConfig(
            sizes=((128.0, 256.0, 512.0),), strides=(16,), rounding="legacy"
        ),
        num_logits=2,
        targets=TargetConfig(allowed_border=0.0, pixel_offset=1.0),
        losses=LossConfig(normalizer="batch", box_normalizer="image", beta=1.0 / 9.0),
        proposals=ProposalConfig(
            pre_nms_top_k=6000,
            post_nms_top_k=300,
            train_pre_nms_top_k=12000,
            train_post_nms_top_k=2000,
            per_level=False,
            exclusive_min_size=False,
        ),
    )


def jwyang_res101_coco() -> RPNConfig:
    """jwyang/faster-rcnn.pytorch (f9d984d), ResNet-101 for COCO.

    It is `jwyang_vgg16` with a fourth anchor size of 64 pixels. Its head is
    `RPNHead(1024, 12, hidden_features=512, num_logits=2)`. The original drops the boxes
    of an image after the 50th.

    >>> jwyang_res101_coco().anchors.sizes
    ((64.0, 128.0, 256.0, 512.0),)
    """
    anchors = AnchorConfig(
        sizes=((64.0, 128.0, 256.0, 512.0),), strides=(16,), rounding="legacy"
    )
    return dataclasses.replace(jwyang_vgg16(), anchors=anchors)


def torchvision_fpn() -> RPNConfig:
    """`torchvision` 0.28, `fasterrcnn_resnet50_fpn`.

    Its head is `RPNHead(256, 3)`, with `num_convs=2` in the second version. torchvision
    computes strides at run time, as image size // feature map. `strides_from_image`
    makes the models of this library do so; for `make_anchors`, pass the size of the
    padded image.

    >>> torchvision_fpn().anchors.rounding
    'corners'
    """
    return RPNConfig(
        anchors=AnchorConfig(rounding="corners", strides_from_image=True),
        losses=LossConfig(normalizer="batch", beta=1.0 / 9.0),
        proposals=ProposalConfig(
            train_post_nms_top_k=2000,
            min_size=1e-3,
            exclusive_min_size=False,
            score_threshold=0.0,
        ),
    )


def detectron2_c4() -> RPNConfig:
    """detectron2 (02b5c4e) `Base-RCNN-C4`: five sizes on one level.

    Its head is `RPNHead(1024, 15)`. The border filter is off, as it is there by
    default. `BOUNDARY_THRESH` is `allowed_border` with `border_after_matching=True`.

    Deviation: in training, detectron2 raises an error on predictions that are not
    finite. The preset drops them, as detectron2 does in testing.

    >>> detectron2_c4().anchors.anchors_per_cell
    15
    """
    return RPNConfig(
        anchors=AnchorConfig(
            sizes=((32.0, 64.0, 128.0, 256.0, 512.0),),
            strides=(16,),
            cell_order="size_major",
        ),
        targets=TargetConfig(border_after_matching=True),
        losses=LossConfig(normalizer="fixed", beta=0.0),
        proposals=ProposalConfig(
            pre_nms_top_k=6000,
            post_nms_top_k=1000,
            train_pre_nms_top_k=12000,
            train_post_nms_top_k=2000,
        ),
    )


def detectron2_fpn() -> RPNConfig:
    """detectron2 (02b5c4e) `Base-RCNN-FPN`: one size on each of P2 to P6.

    Its head is `RPNHead(256, 3)`. All else is as in `detectron2_c4`.

    >>> detectron2_fpn().losses.normalizer
    'fixed'
    """
    return dataclasses.replace(
        detectron2_c4(),
        anchors=AnchorConfig(cell_order="size_major"),
        proposals=ProposalConfig(train_post_nms_top_k=1000),
    )


def mmdet_fpn() -> RPNConfig:
    """`mmdetection` 3.3.0, `faster-rcnn_r50_fpn`.

    Its head is `RPNHead(256, 3)`. A box forces anchors only from an IoU of 0.3. A
    forced anchor regresses to the box that forced it, even if it overlaps another one
    more.

    Deviation: mmdetection skips an image without an anchor inside. Here its losses are
    0.

    >>> mmdet_fpn().targets.min_force_iou
    0.3
    """
    return RPNConfig(
        targets=TargetConfig(min_force_iou=0.3, retarget_forced=True),
        losses=LossConfig(normalizer="batch_clamped", beta=0.0),
        proposals=ProposalConfig(train_post_nms_top_k=1000, symmetric_log_scale=True),
    )


def tf_vision_fpn() -> RPNConfig:
    """TensorFlow Model Garden (official/vision), Mask R-CNN with FPN.

    Its head is `RPNHead(256, 3)`. How its conventions appear here:

    * Its aspect ratios are width over height; these are height over width.
    * Its centres lie in the middle of the cells, so `center_offset` is 0.5.
    * Its boxes are `(y0, x0, y1, x1)`; these are `(x0, y0, x1, y1)`.
    * A box forces only the first of the anchors that tie for it.
    * Its box loss is Huber's, which is `beta` times smooth L1, averaged over
      coordinates.

    Deviations:

    * The original averages the box loss on each level separately, over the coordinates
      whose target is not 0, and sums the levels. The preset averages over all
      positives.
    * If two boxes force one anchor, the preset gives it to the last one, the original
      to the first.

    >>> tf_vision_fpn().targets.force_match
    'first'
    """
    return RPNConfig(
        anchors=AnchorConfig(aspect_ratios=(2.0, 1.0, 0.5), center_offset=0.5),
        targets=TargetConfig(force_match="first", retarget_forced=True),
        losses=LossConfig(
            normalizer="fixed",
            box_normalizer="positives",
            beta=1.0 / 9.0,
            box_weight=1.0 / 36.0,
        ),
        proposals=ProposalConfig(
            train_post_nms_top_k=1000,
            inclusive_threshold=True,
            score_threshold=0.0,
        ),
    )


def pyramid() -> RPNConfig:
    """Default rules of `rpn-jax train` for a pyramid, which learn in few steps.

    * Anchors are RetinaNet's, nine per cell with sides from four strides on (Sec. 4 of
      "Focal Loss" by Lin et al., https://arxiv.org/abs/1708.02002).
    * Anchors are positive from an IoU of 0.5. An image has 512 samples.
    * Sampled positives are balanced between objects, and negatives between intervals of
      IoU, as in "Libra R-CNN" by Pang et al. (https://arxiv.org/abs/1904.02701).
    * The score estimates the IoU of the predicted box with its object, by quality focal
      loss (https://arxiv.org/abs/2006.04388), so boxes that fit come first.
    * The box loss is GIoU, averaged over positives, however few of the samples are.
    * A box that loses at an IoU of 0.75 stays behind the others up to one of 0.95, and
      those that win are means of boxes around them; see `docs/benchmarks.md`.

    >>> pyramid().losses.box_loss
    'giou'
    """
    return RPNConfig(
        anchors=AnchorConfig(sizes=(16, 32, 64, 128, 256), scales_per_octave=3),
        targets=TargetConfig(
            positive_iou=0.5,
            num_samples=512,
            positive_sampler="instance_balanced",
            negative_sampler="iou_balanced",
        ),
        losses=LossConfig(
            objectness="iou",
            box_loss="giou",
            box_normalizer="positives",
            box_weight=2.0,
        ),
        proposals=ProposalConfig(
            iou_threshold=0.75,
            soft_iou_threshold=0.95,
            soft_factor=0.3,
            vote_iou_threshold=0.8,
        ),
    )


def cascade_rpn() -> RPNConfig:
    """Cascade RPN by Vu et al. (https://arxiv.org/abs/1909.06720).

    Its head is `CascadeHead(256, config.anchors)`. The rules are those of mmdetection
    3.3.0, `crpn_faster-rcnn_r50-caffe_fpn_1x_coco`. Deviations:

    * The box loss is GIoU instead of the IoU loss, in both stages, and it is averaged
      over positives.
    * The first stage learns from at most `num_samples` positives of an image. The
      original takes all.
    * Proposals are suppressed within each level.

    >>> cascade_rpn().head
    'cascade'
    """
    return RPNConfig(
        head="cascade",
        anchors=AnchorConfig(aspect_ratios=(1.0,)),
        targets=TargetConfig(
            positive_iou=0.7,
            negative_iou=0.7,
            min_force_iou=0.3,
            retarget_forced=True,
        ),
        losses=LossConfig(
            normalizer="batch",
            box_loss="giou",
            box_normalizer="positives",
            box_weight=2.0,
        ),
        proposals=ProposalConfig(pre_nms_top_k=2000, iou_threshold=0.8),
    )
