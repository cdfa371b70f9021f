"""Files whose tensors do not tell which settings they need, known by their hash."""

import hashlib
import pathlib
from collections.abc import Mapping
from types import MappingProxyType

# Files that torchvision publishes, by the part of their SHA-256 that ends their names.
# This is every file of torchvision 0.28 whose names of tensors are those of a system,
# but whose settings are not:
#
# * When three detectors were trained, batch norms added nothing to variances. In
#   torchvision, `overwrite_eps` does the same for these.
# * One detector takes small images and proposes few boxes.
# * A VGG16 came from SSD, where images were not divided by a standard deviation.
PUBLISHED: Mapping[str, str] = MappingProxyType(
    {
        "258fb6c6": "torchvision_coco_v1",  # fasterrcnn_resnet50_fpn_coco
        "bf2d0c1e": "torchvision_coco_v1",  # maskrcnn_resnet50_fpn_coco
        "fc266e95": "torchvision_coco_v1",  # keypointrcnn_resnet50_fpn_coco
        "907ea3f9": "torchvision_320",  # fasterrcnn_mobilenet_v3_large_320_fpn
        "88682ab5": "torchvision_ssd_features",  # vgg16_features-amdegroot
    }
)


def published_system(path: str | pathlib.Path) -> str | None:
    """The system of a published file whose names of tensors do not identify it.

    Args:
        path: file of weights, under any name.

    Returns:
        A name in `SYSTEMS`; None for all other files.
    """
    with pathlib.Path(path).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return PUBLISHED.get(digest[:8])
