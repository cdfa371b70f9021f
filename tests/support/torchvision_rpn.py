"""What the RPN of a torchvision detector computes, stage by stage."""

import importlib
from typing import NamedTuple

import numpy as np
import pytest

from rpn_jax import RPNOutput

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")
image_list = importlib.import_module("torchvision.models.detection.image_list")


class Stages(NamedTuple):
    """The results of every stage for one image; maps have channels last."""

    features: list[np.ndarray]
    output: RPNOutput
    boxes: np.ndarray


def normalize(images):
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    normal = ((images / 255 - mean) / std).astype(np.float32)
    return torch.tensor(normal).permute(0, 3, 1, 2)


def to_numpy(maps):
    return [x.permute(0, 2, 3, 1).numpy() for x in maps]


def run_stages(peer, images):
    """Runs backbone and RPN of a detector on one image without padding."""
    normal = normalize(images)
    with torch.no_grad():
        features = peer.backbone(normal)
        logits, deltas = map(to_numpy, peer.rpn.head(list(features.values())))
        listed = image_list.ImageList(normal, [images.shape[1:3]])
        boxes, _ = peer.rpn(listed, features)
    output = RPNOutput(
        np.concatenate([x.reshape(1, -1) for x in logits], axis=1),
        np.concatenate([x.reshape(1, -1, 4) for x in deltas], axis=1),
    )
    return Stages(to_numpy(features.values()), output, boxes[0].numpy())
