"""The side of torchvision in `training.py`: its RPN, trained on batches of rpn_jax."""

import importlib
import statistics
import time
from collections.abc import Iterator, Sequence, Set
from typing import Any

import numpy as np

from rpn_jax.data import ImageSource, eval_batches, train_batches
from rpn_jax.evaluate import ImageProposals, Report, evaluate
from rpn_jax.train import ResolvedConfig, make_schedule

torch: Any = importlib.import_module("torch")
torchvision: Any = importlib.import_module("torchvision")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Layers of MobileNetV2, with their channels.
LAYERS = {"3": 24, "6": 32, "13": 96, "17": 320}
NUM_FROZEN = 4  # layers 0 to 3 of MobileNetV2 are the first two stages


def train_theirs(
    config: ResolvedConfig, train: ImageSource, test: ImageSource
) -> tuple[float, Report]:
    """Trains torchvision. Returns images per second, and the recall."""
    torch.manual_seed(config.seed)
    backbone, rpn = make_torchvision(config)
    params = [p for m in (backbone, rpn) for p in m.parameters() if p.requires_grad]
    groups = make_groups(params, set(backbone.body.parameters()), config)
    rules = config.optimizer
    if rules.name == "sgd":
        optimizer = torch.optim.SGD(groups, lr=0.0, momentum=rules.momentum)
    else:
        betas = (rules.momentum, rules.beta2)
        optimizer = torch.optim.AdamW(groups, lr=0.0, betas=betas)
    schedule = make_schedule(rules, config.lr, config.steps or 0)
    batches = train_batches(
        train, config.pipeline, batch_size=config.batch_size, seed=config.seed
    )
    seconds = []
    for step in range(config.steps or 0):
        started = time.perf_counter()
        batch = next(batches)
        for group in optimizer.param_groups:
            group["lr"] = group["scale"] * np.asarray(schedule(step)).item()
        images = to_image_list(batch)
        keep = batch.gt_valid & ~batch.gt_ignore
        targets = [
            {"boxes": torch.from_numpy(boxes[rows])}
            for boxes, rows in zip(batch.gt_boxes, keep, strict=True)
        ]
        _, losses = rpn(images, backbone(images.tensors), targets)
        optimizer.zero_grad()
        (losses["loss_objectness"] + losses["loss_rpn_box_reg"]).backward()
        torch.nn.utils.clip_grad_norm_(params, rules.clip_norm)
        optimizer.step()
        seconds.append(time.perf_counter() - started)
    backbone.eval()
    rpn.eval()
    found = dict(predict_torchvision(backbone, rpn, config, test))
    truths = [test.truth(row) for row in found]
    report = evaluate(truths, list(found.values()))
    return config.batch_size / statistics.median(seconds), report


def make_groups(
    params: Sequence[Any], trunk: Set[Any], config: ResolvedConfig
) -> list[dict[str, Any]]:
    """Groups parameters by decay and by the factor of their learning rate."""
    groups: dict[tuple[float, float], list[Any]] = {}
    for x in params:
        decay = config.optimizer.weight_decay if x.ndim > 1 else 0.0
        scale = config.trunk_lr_scale if x in trunk else 1.0
        groups.setdefault((decay, scale), []).append(x)
    return [
        {"params": group, "weight_decay": decay, "scale": scale}
        for (decay, scale), group in groups.items()
    ]


def make_torchvision(config: ResolvedConfig) -> tuple[Any, Any]:
    """Makes the backbone with its pyramid, and the RPN on it."""
    frozen = torchvision.ops.FrozenBatchNorm2d
    trunk = torchvision.models.mobilenet_v2(weights=None, norm_layer=frozen)
    if config.init_weights is not None:
        with np.load(config.init_weights) as arrays:
            weights = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        trunk.load_state_dict(weights)
    for layer in list(trunk.features)[:NUM_FROZEN]:
        layer.requires_grad_(False)
    width = config.fpn_features or 256
    backbone = torchvision.models.detection.backbone_utils.BackboneWithFPN(
        trunk.features,
        {name: str(i) for i, name in enumerate(LAYERS)},
        list(LAYERS.values()),
        width,
    )
    module = torchvision.models.detection.rpn
    anchors, targets = config.rpn.anchors, config.rpn.targets
    generator = torchvision.models.detection.anchor_utils.AnchorGenerator(
        anchors.level_sizes, (anchors.aspect_ratios,) * len(anchors.sizes)
    )
    proposals = config.rpn.proposals
    rpn = module.RegionProposalNetwork(
        generator,
        module.RPNHead(width, anchors.anchors_per_cell),
        0.7,
        0.3,
        targets.num_samples,
        targets.positive_fraction,
        {"training": 2000, "testing": proposals.pre_nms_top_k},
        {"training": 2000, "testing": proposals.post_nms_top_k},
        proposals.iou_threshold,
    )
    return backbone, rpn


def to_image_list(batch: Any) -> Any:
    """Normalizes the images and sets their padding to zero."""
    pixels = torch.from_numpy(batch.images).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(x).reshape(1, 3, 1, 1) for x in (MEAN, STD))
    pixels = ((pixels - mean) / std).contiguous()
    sizes = [(int(height), int(width)) for height, width in batch.image_sizes]
    for image, (height, width) in zip(pixels, sizes, strict=True):
        image[:, height:] = 0
        image[:, :, width:] = 0
    image_list = torchvision.models.detection.image_list.ImageList
    return image_list(pixels, sizes)


def predict_torchvision(
    backbone: Any, rpn: Any, config: ResolvedConfig, source: ImageSource
) -> Iterator[tuple[int, ImageProposals]]:
    """Yields the proposals of every image, in pixels of the original."""
    for batch in eval_batches(source, config.pipeline, batch_size=config.batch_size):
        images = to_image_list(batch)
        with torch.no_grad():
            features = backbone(images.tensors)
            boxes, _ = rpn(images, features)
        for i, row in enumerate(batch.rows.tolist()):
            if row >= 0:
                found = boxes[i].numpy() / batch.scales[i, [1, 0, 1, 0]]
                # They are in the order of their scores, which are not returned.
                scores = np.linspace(1.0, 0.0, len(found), dtype=np.float32)
                yield row, ImageProposals(source.truth(row).image_id, found, scores)
