"""The reference systems as `RPNConfig` values, each with its source.

Every preset gives what its authors meant. Where the original has a slip, or would break
on some input, the preset does not, and its docstring says so. Common to all:

* ground truth that is degenerate (`x1 <= x0`, not finite) counts as padding;
* a box that overlaps no anchor forces none: in torchvision, detectron2, py-faster-rcnn
  and mmdetection with `min_pos_iou=0` it turns every anchor without overlap positive;
* images without boxes, or without an anchor inside, have finite losses;
* proposals with a score or a delta that is not finite are dropped.
"""

import dataclasses

from .core.anchor_config import AnchorConfig
from .core.config import LossConfig, ProposalConfig, RPNConfig, TargetConfig


def py_faster_rcnn() -> RPNConfig:
    """rbgirshick/py-faster-rcnn (781a917), VGG16 end to end.

    Its head is `RPNHead(512, 9, num_logits=2)`.

    Deviations: `dw` and `dh` are clamped at `log(1000 / 16)`, where the original lets
        `exp` overflow; images without boxes train, where it crashes; `min_size` is 16
        pixels
    of the input image, where it is 16 pixels of the image before resizing.
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

    Its head is `RPNHead(512, 9, num_logits=2)`.

    Deviations: the box loss of an image is divided by that image's own number of
        samples, where the original takes the last image's for all of the batch; the
        border is judged by each image's own size, where it takes the first image's;
        `RPN_POSITIVE_WEIGHT` in (0, 1), here `box_positive_weight`, works, where it
        crashes;
    there may be any number of boxes, where it drops those after the 20th; `dw` and `dh`
    are clamped at `log(1000 / 16)`, where it lets `exp` overflow. It reads a minimum
    size of proposals but never applies it; nor does the preset. Of boxes with
    `x0 == x1` or `y0 == y1` it drops those with both; the preset drops either.
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

    As `jwyang_vgg16`, with a fourth anchor size of 64 pixels: its head is
    `RPNHead(1024, 12, hidden_features=512, num_logits=2)`. The original drops the boxes
    of an image after the 50th.
    """
    anchors = AnchorConfig(
        sizes=((64.0, 128.0, 256.0, 512.0),), strides=(16,), rounding="legacy"
    )
    return dataclasses.replace(jwyang_vgg16(), anchors=anchors)


def torchvision_fpn() -> RPNConfig:
    """`torchvision` 0.28, `fasterrcnn_resnet50_fpn`.

    Its head is `RPNHead(256, 3)`, with `num_convs=2` in the second version. torchvision
    computes the strides at run time, as image size // feature map: pass the padded
    image's size to `make_anchors` for the same.
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

    Its head is `RPNHead(1024, 15)`. The border filter is off, as there by default; its
    `BOUNDARY_THRESH` is `allowed_border` with `border_after_matching=True`.

    Deviation: detectron2 raises on predictions that are not finite in training; the
    preset drops them, as it does in testing.
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

    Its head is `RPNHead(256, 3)`. Otherwise as `detectron2_c4`.
    """
    return dataclasses.replace(
        detectron2_c4(),
        anchors=AnchorConfig(cell_order="size_major"),
        proposals=ProposalConfig(train_post_nms_top_k=1000),
    )


def mmdet_fpn() -> RPNConfig:
    """`mmdetection` 3.3.0, `faster-rcnn_r50_fpn`.

    Its head is `RPNHead(256, 3)`. A box forces anchors only from an IoU of 0.3, and
    they regress to it even if they overlap another one more.

    Deviation: mmdetection skips an image without an anchor inside; here its losses are
        0.
    """
    return RPNConfig(
        targets=TargetConfig(min_force_iou=0.3, retarget_forced=True),
        losses=LossConfig(normalizer="batch_clamped", beta=0.0),
        proposals=ProposalConfig(train_post_nms_top_k=1000, symmetric_log_scale=True),
    )


def tf_vision_fpn() -> RPNConfig:
    """TensorFlow Model Garden (official/vision), Mask R-CNN with FPN.

    Its head is `RPNHead(256, 3)`. Its aspect ratios are width over height and its
    centres lie in the middle of the cells; its boxes are `(y0, x0, y1, x1)`, these
    `(x0, y0, x1, y1)`. A box forces only the first of the anchors that tie for it. Its
    box loss is Huber's, which is `beta` times smooth L1, averaged over coordinates.

    Deviations: the original averages the box loss on each level by itself, over the
        coordinates whose target is not 0, and sums the levels; the preset averages it
        over all positives. If two boxes force one anchor, it goes to the last, there to
        the first.
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
    """Rules for a pyramid that learn from fewer steps than those of the references.

    Anchors are RetinaNet's, nine a cell from four strides on (Sec. 4 of "Focal Loss" by
    Lin et al., https://arxiv.org/abs/1708.02002): objects lie on finer maps than with
    eight strides and are located better. Anchors are positive from an IoU of 0.5, and
    the box loss is that of GIoU, averaged over positives, so that it does not depend on
    how few of the samples they are.
    """
    return RPNConfig(
        anchors=AnchorConfig(sizes=(16, 32, 64, 128, 256), scales_per_octave=3),
        targets=TargetConfig(positive_iou=0.5),
        losses=LossConfig(box_loss="giou", box_normalizer="positives", box_weight=2.0),
    )
