"""Mosaics of four pictures, as in YOLOv4 and YOLOv5.

The four pictures meet at a random point of the canvas, each with a corner. What reaches
beyond the canvas is cut off, and what is left free has the colour `FILL`. Ultralytics'
YOLOv5 (https://github.com/ultralytics/yolov5) makes a canvas of twice the size and
shrinks it at random; here the pictures shrink instead, and the canvas has the size of
one image. See "YOLOv4: Optimal Speed and Accuracy of Object Detection" by Bochkovskiy
et al. (https://arxiv.org/abs/2004.10934).
"""

from collections.abc import Sequence

import numpy as np

from .augment_config import MosaicConfig
from .collage import Collage, Part, Picture, rect_of_size
from .pipeline_config import PipelineConfig, resized_sizes, resizing_factors


def lay_mosaic(
    pictures: Sequence[Picture],
    config: PipelineConfig,
    rng: np.random.Generator,
) -> Collage:
    """Lays four pictures around a random point of a canvas.

    Args:
        pictures: four pictures. The first one decides the size of the canvas.
        config: the size that pictures have alone, and the settings of the mosaic.
        rng: source of randomness.

    Returns:
        The mosaic, in the pixels of a resized image. Each picture takes one of the four
        places at random.
    """
    settings: MosaicConfig = config.mosaic
    first = np.array(pictures[0].size)
    canvas = rect_of_size(tuple(resized_sizes(first[None], config, 1.0)[0]))
    center = rng.uniform(*settings.center, 2) * canvas[2:]
    scale = rng.uniform(*settings.scale)
    order = rng.permutation(4).tolist()
    # The corners at the centre, as shares of a picture: a picture at the top left
    # has its bottom right corner there.
    corners = ((1.0, 1.0), (0.0, 1.0), (1.0, 0.0), (0.0, 0.0))
    parts = []
    for picture, place in zip(pictures, order, strict=True):
        size = np.array(picture.size)
        sides = size[::-1] * (resizing_factors(size[None], config)[0] * scale)
        start = center - sides * corners[place]
        rect = rect_of_size(picture.size)
        parts.append(Part(picture, rect, np.concatenate([start, start + sides])))
    return Collage(tuple(parts), canvas)
