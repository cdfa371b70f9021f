"""Names and shapes of the weights of other systems, written down from their code."""

import numpy as np

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
INSIDE, OUTSIDE = (64, 128, 256, 512), (256, 512, 1024, 2048)


def conv(name, outputs, inputs, size, bias=True):
    layout = {f"{name}.weight": (outputs, inputs, size, size)}
    return layout | ({f"{name}.bias": (outputs,)} if bias else {})


def norm(name, width):
    leaves = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{leaf}": (width,) for leaf in leaves}


def bottlenecks(stage, name, depth, *, between, shortcut):
    """The blocks of a stage; `between` is what comes before `1`, `2`, `3` of a norm."""
    layout, inputs = {}, (64, *OUTSIDE)[stage]
    inside, outputs = INSIDE[stage], OUTSIDE[stage]
    for i in range(BLOCKS[depth][stage]):
        block = f"{name}.{i}"
        shapes = ((inside, inputs, 1), (inside, inside, 3), (outputs, inside, 1))
        for n, shape in enumerate(shapes, start=1):
            layout |= conv(f"{block}.conv{n}", *shape, bias=False)
            layout |= norm(between.format(block=block, n=n), shape[0])
        if i == 0:
            layout |= conv(f"{block}.{shortcut[0]}", outputs, inputs, 1, bias=False)
            layout |= norm(f"{block}.{shortcut[1]}", outputs)
        inputs = outputs
    return layout


def detectron2(depth, *, has_fpn):
    """`GeneralizedRCNN` or `ProposalNetwork` of detectron2 with a ResNet."""
    trunk = "backbone.bottom_up" if has_fpn else "backbone"
    layout = conv(f"{trunk}.stem.conv1", 64, 3, 7, bias=False)
    layout |= norm(f"{trunk}.stem.conv1.norm", 64)
    for stage in range(4 if has_fpn else 3):
        layout |= bottlenecks(
            stage,
            f"{trunk}.res{stage + 2}",
            depth,
            between="{block}.conv{n}.norm",
            shortcut=("shortcut", "shortcut.norm"),
        )
    for stage in range(4 if has_fpn else 0):
        layout |= conv(f"backbone.fpn_lateral{stage + 2}", 256, OUTSIDE[stage], 1)
        layout |= conv(f"backbone.fpn_output{stage + 2}", 256, 256, 3)
    width, anchors = (256, 3) if has_fpn else (1024, 15)
    head = "proposal_generator.rpn_head"
    layout |= conv(f"{head}.conv", width, width, 3)
    layout |= conv(f"{head}.objectness_logits", anchors, width, 1)
    return layout | conv(f"{head}.anchor_deltas", 4 * anchors, width, 1)


def mmdetection():
    """`rpn_r50_fpn` of mmdetection 3."""
    layout = conv("backbone.conv1", 64, 3, 7, bias=False) | norm("backbone.bn1", 64)
    for stage in range(4):
        layout |= bottlenecks(
            stage,
            f"backbone.layer{stage + 1}",
            50,
            between="{block}.bn{n}",
            shortcut=("downsample.0", "downsample.1"),
        )
    for i, width in enumerate(OUTSIDE):
        layout |= conv(f"neck.lateral_convs.{i}.conv", 256, width, 1)
        layout |= conv(f"neck.fpn_convs.{i}.conv", 256, 256, 3)
    layout |= conv("rpn_head.rpn_conv", 256, 256, 3)
    layout |= conv("rpn_head.rpn_cls", 3, 256, 1)
    return layout | conv("rpn_head.rpn_reg", 12, 256, 1)


def jwyang_head(inputs, anchors):
    return (
        conv("RCNN_rpn.RPN_Conv", 512, inputs, 3)
        | conv("RCNN_rpn.RPN_cls_score", 2 * anchors, 512, 1)
        | conv("RCNN_rpn.RPN_bbox_pred", 4 * anchors, 512, 1)
    )


def jwyang_vgg16():
    """faster-rcnn.pytorch with VGG16, for VOC."""
    layout, inputs, number = {}, 3, 0
    for width, convs in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(convs):
            layout |= conv(f"RCNN_base.{number}", width, inputs, 3)
            inputs, number = width, number + 2
        number += 1
    return layout | jwyang_head(512, 9)


def jwyang_resnet101():
    """faster-rcnn.pytorch with ResNet-101, for COCO; layer4 is its second stage's."""
    layout = conv("RCNN_base.0", 64, 3, 7, bias=False) | norm("RCNN_base.1", 64)
    for stage in range(3):
        layout |= bottlenecks(
            stage,
            f"RCNN_base.{stage + 4}",
            101,
            between="{block}.bn{n}",
            shortcut=("downsample.0", "downsample.1"),
        )
    return layout | jwyang_head(1024, 12)


LAYOUTS = {
    "detectron2_fpn": detectron2(50, has_fpn=True),
    "detectron2_fpn of 101 layers": detectron2(101, has_fpn=True),
    "detectron2_c4": detectron2(50, has_fpn=False),
    "mmdetection": mmdetection(),
    "jwyang_vgg16": jwyang_vgg16(),
    "jwyang_resnet": jwyang_resnet101(),
}


def random_weights(layout, seed=0):
    """Weights of a layout that keep maps of the same order of magnitude."""
    rng = np.random.default_rng(seed)
    weights = {}
    for name, shape in LAYOUTS[layout].items():
        fan_in = np.prod(shape[1:]) if len(shape) == 4 else 100.0
        values = rng.standard_normal(shape, np.float32) * np.sqrt(2.0 / fan_in)
        is_scale = len(shape) == 1 and name.endswith(("weight", "running_var"))
        weights[name] = (np.abs(values) + 0.5 if is_scale else values).astype("f4")
    return weights
