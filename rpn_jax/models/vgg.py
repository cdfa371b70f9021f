"""VGG-16: the trunk of the original Faster R-CNN, up to conv5_3."""

import functools

import jax
from flax import nnx

from .layers import Builder, Layer
from .pooling import max_pool
from .trunk import Step, Trunk

WIDTHS = (64, 128, 256, 512, 512)
NUM_CONVS = (2, 2, 3, 3, 3)
POOL = functools.partial(max_pool, size=2, stride=2)


def vgg16(build: Builder) -> Trunk:
    """The first 30 layers of torchvision's `vgg16().features`, named by their numbers.

    See "Very Deep Convolutional Networks" by Simonyan and Zisserman
    (https://arxiv.org/abs/1409.1556). Stages 1 to 5 are conv1 to conv5. The pooling
    after a stage belongs to the next stage. There are no norms.

    Args:
        build: makes the layers.

    Returns:
        The trunk; its last map has a stride of 16.
    """
    layers: dict[str, Layer] = {}
    stages: list[tuple[Step, ...]] = []
    # torchvision numbers poolings and ReLUs like convolutions, so `number` counts all,
    # though only convolutions become layers with a name.
    inputs, number = 3, 0
    for width, num_convs in zip(WIDTHS, NUM_CONVS, strict=True):
        stage: list[Step] = [POOL] if stages else []
        number += len(stage)
        for _ in range(num_convs):
            layers[str(number)] = build.conv(inputs, width, use_bias=True)
            stage += [str(number), jax.nn.relu]
            inputs, number = width, number + 2
        stages.append(tuple(stage))
    return Trunk(
        layers=nnx.Dict(layers),
        stages=tuple(stages),
        widths=WIDTHS,
        strides=(1, 2, 4, 8, 16),
    )
