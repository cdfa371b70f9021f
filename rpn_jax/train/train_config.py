"""The settings of a training run, which are also the flags of `rpn-jax train`."""

import dataclasses
from typing import Literal

from ..core.config import RPNConfig
from ..data import PipelineConfig
from ..models.interop import SystemName
from .optimizer import OptimizerConfig

Preset = Literal[
    "jwyang_vgg16",
    "jwyang_res101_coco",
    "py_faster_rcnn",
    "torchvision_fpn",
    "detectron2_c4",
    "detectron2_fpn",
    "mmdet_fpn",
    "tf_vision_fpn",
    "pyramid",
]
BackboneName = Literal[
    "tiny_fpn",
    "mobilenet_v2_fpn",
    "mobilenet_v3_large_fpn",
    "resnet18_fpn",
    "resnet34_fpn",
    "resnet50_fpn",
    "resnet101_fpn",
    "resnet18_c4",
    "resnet34_c4",
    "resnet50_c4",
    "resnet101_c4",
    "vgg16",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A training run: data, model, schedule, and where its results go.

    What is None is chosen from the data and the backbone. On the command line,
    `--config FILE` reads all of it from a JSON file, such as the `config.json` of
    another run, and flags overrule the file.

    Attributes:
        data: a COCO JSON file, a folder with VOC XML, or `scenes`, drawn on the fly.
        images: folder of the images; None looks beside the annotations.
        split: of a VOC folder, the list `ImageSets/Main/<split>.txt`; None takes
            `train` where there is one, else everything.
        val_data: what to evaluate on, as `data`; None takes the `val` list of a VOC
            folder, other scenes for `scenes`, and else sets a tenth of `data` aside.
        val_images: folder of its images; None takes `images`.
        val_split: of a VOC folder, the list to evaluate on.
        preset: the reference system whose rules to follow; None takes `pyramid`
            for a pyramid, detectron2's for a C4 backbone and jwyang's for VGG16.
        backbone: None takes `tiny_fpn` for scenes and `mobilenet_v2_fpn` for the rest.
        init_weights: a file of pretrained weights; None starts from nothing.
        weights_system: whose weights these are; None guesses it from their names.
        frozen_stages: how many early stages keep their pretrained weights; None freezes
            2 with `init_weights` and none without.
        fpn_features: channels of the pyramid's maps; None takes the backbone's own.
        dtype: of the network's arithmetic. Parameters, losses and boxes are float32.
        batch_size: images of a step, over all devices; None takes 8, and for scenes 4,
            rounded up to what the devices and `accumulate` share evenly.
        accumulate: in how many parts a step takes them, to save memory.
        steps: how many updates to make; or give `epochs`. None of both makes 1,000 on
            scenes and 12 epochs else, but at least 500 steps.
        epochs: how often to see every image.
        lr: the highest learning rate; None takes 0.02 for SGD, and for the others 0.003
            on scenes and 0.001 else.
        seed: of the weights, the order of images and the samples.
        out: folder of the run.
        resume: goes on from the newest checkpoint in `out`, if there is one.
        checkpoint_every: steps between two checkpoints; None saves ten in a run.
        log_every: steps between two lines of `metrics.jsonl`.
        max_skipped: stops after this many steps in a row without finite gradients.
        optimizer: how gradients become updates; None takes AdamW with `init_weights`
            and Muon, which learns in fewer steps from nothing, without.
        pipeline: how images become batches; None resizes them to a shorter side of 240
            pixels for scenes and of 480 for the rest.
        rpn: the rules of the network; None takes those of `preset`.
    """

    data: str = "scenes"
    images: str | None = None
    split: str | None = None
    val_data: str | None = None
    val_images: str | None = None
    val_split: str | None = None
    preset: Preset | None = None
    backbone: BackboneName | None = None
    init_weights: str | None = None
    weights_system: SystemName | None = None
    frozen_stages: int | None = None
    fpn_features: int | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    batch_size: int | None = None
    accumulate: int = 1
    steps: int | None = None
    epochs: float | None = None
    lr: float | None = None
    seed: int = 0
    out: str = "runs/rpn"
    resume: bool = False
    checkpoint_every: int | None = None
    log_every: int = 10
    max_skipped: int = 20
    optimizer: OptimizerConfig | None = None
    pipeline: PipelineConfig | None = None
    rpn: RPNConfig | None = None

    def __post_init__(self) -> None:
        counts = {
            "batch_size": self.batch_size,
            "accumulate": self.accumulate,
            "log_every": self.log_every,
            "max_skipped": self.max_skipped,
            "steps": self.steps,
            "epochs": self.epochs,
            "checkpoint_every": self.checkpoint_every,
            "lr": self.lr,
        }
        wrong = {k: v for k, v in counts.items() if v is not None and v <= 0}
        if wrong:
            raise ValueError(f"TrainConfig needs numbers above 0, got {wrong}.")
        if self.steps is not None and self.epochs is not None:
            raise ValueError(
                "TrainConfig needs steps or epochs, not both, got "
                f"{self.steps} and {self.epochs}."
            )
        if self.batch_size is not None and self.batch_size % self.accumulate:
            raise ValueError(
                "TrainConfig needs a batch_size that accumulate divides, got "
                f"{self.batch_size} and {self.accumulate}."
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResolvedConfig(TrainConfig):
    """A `TrainConfig` in which nothing is left to choose but what the data tells.

    Attributes:
        backbone: name of the backbone.
        frozen_stages: how many of its stages are not trained.
        batch_size: images of a step.
        lr: the highest learning rate.
        optimizer: how gradients become updates.
        pipeline: how images become batches.
        rpn: the rules of the network.
    """

    backbone: BackboneName = "tiny_fpn"
    frozen_stages: int = 0
    batch_size: int = 8
    lr: float = 0.02
    optimizer: OptimizerConfig = OptimizerConfig()
    pipeline: PipelineConfig = PipelineConfig()
    rpn: RPNConfig = RPNConfig()
