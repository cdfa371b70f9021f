"""Names and shapes of the weights of other systems, taken from their code."""

import functools

import numpy as np

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
INSIDE, OUTSIDE = (64, 128, 256, 512), (256, 512, 1024, 2048)


def conv(name, outputs, inputs, size, bias=True):
    layout = {f"{name}.weight": (outputs, inputs, size, size)}
    return layout | ({f"{name}.bias": (outputs,)} if bias else {})


def norm(name, width):
    leaves = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{leaf}": (width,) for leaf in leaves}


def torchvision_names(block, part):
    """Names of the convolution and of the norm in part 1, 2, 3 or the shortcut."""
    if part == "shortcut":
        return f"{block}.downsample.0", f"{block}.downsample.1"
    return f"{block}.conv{part}", f"{block}.bn{part}"


def detectron2_names(block, part):
    name = f"{block}.shortcut" if part == "shortcut" else f"{block}.conv{part}"
    return name, f"{name}.norm"


def bottlenecks(stage, depth):
    """Yields the block's number, the part and the shape of each convolution."""
    inputs, inside, outputs = (64, *OUTSIDE)[stage], INSIDE[stage], OUTSIDE[stage]
    for block in range(BLOCKS[depth][stage]):
        yield block, 1, (inside, inputs, 1)
        yield block, 2, (inside, inside, 3)
        yield block, 3, (outputs, inside, 1)
        if block == 0:
            yield block, "shortcut", (outputs, inputs, 1)
        inputs = outputs


def resnet(depth, names, stem, stages):
    layout = conv(stem[0], 64, 3, 7, bias=False) | norm(stem[1], 64)
    for stage, name in enumerate(stages):
        for block, part, shape in bottlenecks(stage, depth):
            conv_name, norm_name = names(f"{name}.{block}", part)
            layout |= conv(conv_name, *shape, bias=False) | norm(norm_name, shape[0])
    return layout


def detectron2_trunk(depth, prefix, stages):
    """A ResNet of detectron2."""
    stem = (f"{prefix}stem.conv1", f"{prefix}stem.conv1.norm")
    names = [f"{prefix}res{i + 2}" for i in range(stages)]
    return resnet(depth, detectron2_names, stem, names)


def detectron2(depth, *, has_fpn):
    """`GeneralizedRCNN` or `ProposalNetwork` of detectron2 with a ResNet."""
    prefix = "backbone.bottom_up." if has_fpn else "backbone."
    layout = detectron2_trunk(depth, prefix, 4 if has_fpn else 3)
    for stage in range(4 if has_fpn else 0):
        layout |= conv(f"backbone.fpn_lateral{stage + 2}", 256, OUTSIDE[stage], 1)
        layout |= conv(f"backbone.fpn_output{stage + 2}", 256, 256, 3)
    width, anchors = (256, 3) if has_fpn else (1024, 15)
    head = "proposal_generator.rpn_head"
    layout |= conv(f"{head}.conv", width, width, 3)
    layout |= conv(f"{head}.objectness_logits", anchors, width, 1)
    return layout | conv(f"{head}.anchor_deltas", 4 * anchors, width, 1)


def detectron2_msra(depth):
    """`ImageNetPretrained/MSRA/R-50.pkl`, which came from Caffe2, without `fc1000`."""
    leaves = ("gamma", "beta", "running_mean", "running_var")
    layout = {"conv1_w": (64, 3, 7, 7)}
    layout |= {f"res_conv1_bn_{leaf}": (64,) for leaf in leaves}
    branches = {1: "branch2a", 2: "branch2b", 3: "branch2c", "shortcut": "branch1"}
    for stage in range(4):
        for block, part, (outputs, inputs, size) in bottlenecks(stage, depth):
            name = f"res{stage + 2}_{block}_{branches[part]}"
            layout[f"{name}_w"] = (outputs, inputs, size, size)
            layout |= {f"{name}_bn_{leaf}": (outputs,) for leaf in leaves}
    return layout


def mmdetection():
    """`rpn_r50_fpn` of mmdetection 3."""
    stem = ("backbone.conv1", "backbone.bn1")
    stages = [f"backbone.layer{i + 1}" for i in range(4)]
    layout = resnet(50, torchvision_names, stem, stages)
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
    """faster-rcnn.pytorch with ResNet-101, for COCO. The RPN does not use `layer4`."""
    stages = [f"RCNN_base.{i + 4}" for i in range(3)]
    trunk = resnet(101, torchvision_names, ("RCNN_base.0", "RCNN_base.1"), stages)
    return trunk | jwyang_head(1024, 12)


LAYOUTS = {
    "detectron2_fpn": detectron2(50, has_fpn=True),
    "detectron2_fpn of 101 layers": detectron2(101, has_fpn=True),
    "detectron2_c4": detectron2(50, has_fpn=False),
    "detectron2_msra": detectron2_msra(50),
    "detectron2_torchvision": detectron2_trunk(50, "", 4),
    "mmdetection": mmdetection(),
    "jwyang_vgg16": jwyang_vgg16(),
    "jwyang_resnet": jwyang_resnet101(),
}


def random_weights(layout):
    """Random weights of a layout, scaled so that all maps are of similar magnitude.

    The arrays are shared and cannot be changed; the dictionary can.
    """
    return dict(_drawn(layout))


@functools.lru_cache(maxsize=2)  # a layout has 60 to 180 MB
def _drawn(layout):
    rng, weights = np.random.default_rng(0), {}
    for name, shape in LAYOUTS[layout].items():
        fan_in = np.prod(shape[1:]) if len(shape) == 4 else 100.0
        values = rng.standard_normal(shape, np.float32)
        values *= np.float32(np.sqrt(2.0 / fan_in))
        if len(shape) == 1 and name.endswith(("weight", "gamma", "running_var")):
            values = np.abs(values) + np.float32(0.5)
        values.flags.writeable = False
        weights[name] = values
    return weights


def assert_close(actual, expected):
    """Asserts that two networks agree to 1e-4 of the largest number."""
    assert actual.shape == expected.shape
    scale = np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4 * scale)
