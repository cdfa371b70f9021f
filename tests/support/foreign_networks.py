"""The networks of other systems, in torch, with the operations of their own code.

Each takes weights by name and RGB bytes, `[1 h w 3]`. It returns its feature maps, and
the logits and deltas of every level in the order of its anchors.
"""

import functools
from typing import NamedTuple

import numpy as np
import pytest

from support.foreign_layouts import BLOCKS, detectron2_names, torchvision_names

torch = pytest.importorskip("torch")
f = torch.nn.functional


class Outputs(NamedTuple):
    """The outputs of a network for one image, level by level.

    Attributes:
        features: feature maps, `[1 h w c]` per level.
        logits: `[n]` per level, or `[n 2]` if the objectness is a softmax.
        deltas: `[n 4]` per level.
    """

    features: list
    logits: list
    deltas: list


class Network:
    """Applies layers, which are found by the names of their weights."""

    def __init__(self, weights):
        self.weights = {name: torch.tensor(x) for name, x in weights.items()}

    def conv(self, x, name, stride=1):
        weight = self.weights[f"{name}.weight"]
        bias = self.weights.get(f"{name}.bias")
        return f.conv2d(x, weight, bias, stride, weight.shape[-1] // 2)

    def conv_norm(self, x, names, stride=1):
        leaves = ("running_mean", "running_var", "weight", "bias")
        statistics = [self.weights[f"{names[1]}.{leaf}"] for leaf in leaves]
        return f.batch_norm(self.conv(x, names[0], stride), *statistics)

    def resnet(self, x, depth, *, names, stem, stages, stride_in_1x1, pool):
        """The feature maps of all stages after the stem."""
        x, maps = pool(self.conv_norm(x, stem, 2).relu()), []
        for name, number in zip(stages, BLOCKS[depth], strict=False):
            for i in range(number):
                stride = 2 if i == 0 and maps else 1
                strides = (stride, 1, 1) if stride_in_1x1 else (1, stride, 1)
                block, y = functools.partial(names, f"{name}.{i}"), x
                for part, step in enumerate(strides, start=1):
                    y = self.conv_norm(y, block(part), step)
                    y = y.relu() if part < 3 else y
                if i == 0:
                    x = self.conv_norm(x, block("shortcut"), stride)
                x = (x + y).relu()
            maps.append(x)
        return maps

    def pyramid(self, maps, laterals, outputs):
        """Five levels. The last one has every second cell of the one before."""
        levels, top = [], None
        for x, lateral, output in list(zip(maps, laterals, outputs, strict=True))[::-1]:
            x = self.conv(x, lateral)
            if top is not None:
                x += f.interpolate(top, size=x.shape[2:], mode="nearest")
            top = x
            levels.insert(0, self.conv(x, output))
        return [*levels, f.max_pool2d(levels[-1], kernel_size=1, stride=2)]

    def head(self, levels, conv, logits, deltas):
        """The outputs of a head whose channels have the order of a cell's anchors."""
        hidden = [self.conv(x, conv).relu() for x in levels]
        return Outputs(
            [channels_last(x) for x in levels],
            [channels_last(self.conv(x, logits)).reshape(-1) for x in hidden],
            [channels_last(self.conv(x, deltas)).reshape(-1, 4) for x in hidden],
        )


def channels_last(x):
    return x.permute(0, 2, 3, 1).numpy()


def subtract(images, mean):
    """Caffe's preprocessing: BGR from 0 to 255, minus the mean."""
    bgr = images[..., ::-1].astype(np.float32) - np.array(mean, np.float32)
    return torch.tensor(bgr).permute(0, 3, 1, 2)


def detectron2(weights, images, *, depth, has_fpn):
    network, trunk = Network(weights), "backbone.bottom_up." * has_fpn or "backbone."
    maps = network.resnet(
        subtract(images, (103.530, 116.280, 123.675)),
        depth,
        names=detectron2_names,
        stem=(f"{trunk}stem.conv1", f"{trunk}stem.conv1.norm"),
        stages=[f"{trunk}res{i}" for i in ((2, 3, 4, 5) if has_fpn else (2, 3, 4))],
        stride_in_1x1=True,
        pool=functools.partial(f.max_pool2d, kernel_size=3, stride=2, padding=1),
    )
    levels = maps[-1:]
    if has_fpn:
        laterals = [f"backbone.fpn_lateral{i}" for i in (2, 3, 4, 5)]
        outputs = [f"backbone.fpn_output{i}" for i in (2, 3, 4, 5)]
        levels = network.pyramid(maps, laterals, outputs)
    parts = ("conv", "objectness_logits", "anchor_deltas")
    names = [f"proposal_generator.rpn_head.{part}" for part in parts]
    return network.head(levels, *names)


def mmdetection(weights, images):
    network = Network(weights)
    mean, std = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
    normal = torch.tensor(((images - mean) / std).astype(np.float32))
    maps = network.resnet(
        normal.permute(0, 3, 1, 2),
        50,
        names=torchvision_names,
        stem=("backbone.conv1", "backbone.bn1"),
        stages=[f"backbone.layer{i}" for i in (1, 2, 3, 4)],
        stride_in_1x1=False,
        pool=functools.partial(f.max_pool2d, kernel_size=3, stride=2, padding=1),
    )
    laterals = [f"neck.lateral_convs.{i}.conv" for i in range(4)]
    outputs = [f"neck.fpn_convs.{i}.conv" for i in range(4)]
    levels = network.pyramid(maps, laterals, outputs)
    return network.head(levels, "rpn_head.rpn_conv", *MMDETECTION_HEAD)


MMDETECTION_HEAD = ("rpn_head.rpn_cls", "rpn_head.rpn_reg")
JWYANG_MEAN = (102.9801, 115.9465, 122.7717)


def jwyang_head(network, x):
    """The RPN head. Its softmax pairs channel `a` with channel `A + a`."""
    parts = ("RPN_Conv", "RPN_cls_score", "RPN_bbox_pred")
    names = [f"RCNN_rpn.{part}" for part in parts]
    outputs = network.head([x], *names)
    split = outputs.logits[0].reshape(x.shape[2] * x.shape[3], 2, -1)
    return outputs._replace(logits=[split.swapaxes(1, 2).reshape(-1, 2)])


def jwyang_vgg16(weights, images):
    network, x = Network(weights), subtract(images, JWYANG_MEAN)
    for i in (0, 2, "pool", 5, 7, "pool", 10, 12, 14, "pool", 17, 19, 21, "pool"):
        pool = functools.partial(f.max_pool2d, kernel_size=2)
        x = pool(x) if i == "pool" else network.conv(x, f"RCNN_base.{i}").relu()
    for i in (24, 26, 28):
        x = network.conv(x, f"RCNN_base.{i}").relu()
    return jwyang_head(network, x)


def jwyang_resnet(weights, images):
    network = Network(weights)
    maps = network.resnet(
        subtract(images, JWYANG_MEAN),
        101,
        names=torchvision_names,
        stem=("RCNN_base.0", "RCNN_base.1"),
        stages=[f"RCNN_base.{i}" for i in (4, 5, 6)],
        stride_in_1x1=True,
        pool=functools.partial(f.max_pool2d, kernel_size=3, stride=2, ceil_mode=True),
    )
    return jwyang_head(network, maps[-1])


NETWORKS = {
    "detectron2_fpn": functools.partial(detectron2, depth=50, has_fpn=True),
    "detectron2_fpn of 101 layers": functools.partial(
        detectron2, depth=101, has_fpn=True
    ),
    "detectron2_c4": functools.partial(detectron2, depth=50, has_fpn=False),
    "mmdetection": mmdetection,
    "jwyang_vgg16": jwyang_vgg16,
    "jwyang_resnet": jwyang_resnet,
}


@torch.no_grad()
def run_network(layout, weights, images):
    """The outputs of the network of a layout."""
    return NETWORKS[layout](weights, images)
