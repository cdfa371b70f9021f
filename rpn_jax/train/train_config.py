"""The settings of a training run, which are also the flags of `rpn-jax train`."""

import dataclasses
import math
from typing import Literal

from ..core._arguments import lenient_settings
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
    "cascade_rpn",
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
_ABOVE_ZERO = (
    *("batch_size", "accumulate", "log_every", "max_skipped", "seeds", "steps"),
    *("epochs", "checkpoint_every", "eval_every", "patience", "lr", "trunk_lr_scale"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A training run: its data, model and schedule, and the folder of its results.

    Settings that are None are chosen from the data and the backbone. On the command
    line, `--config FILE` reads all settings from a JSON file, such as the `config.json`
    of another run. Flags take precedence over the file.

    Attributes:
        data: a COCO JSON file, a folder with VOC XML, the `data.yaml` or folder of a
            YOLO set, or `scenes`, which are synthetic images drawn during training.
        images: folder of the images, or of the paths in a `data.yaml`; None looks
            beside the annotations.
        split: list `ImageSets/Main/<split>.txt` of a VOC folder, or a folder in it; for
            a YOLO set an entry of its `data.yaml`, or a list or folder. None uses
            `train`, else `trainval`, else the only list; if there are other splits, one
            has to be chosen. Without splits it uses all images.
        val_data: data to evaluate on, in any form of `data`. None uses the `val` or
            `valid` split of a VOC or YOLO set or other scenes, and otherwise sets a
            tenth aside.
        val_images: folder of the images of `val_data`; None uses `images`.
        val_split: split of a VOC or YOLO set to evaluate on. None uses `val`, `valid`
            or `validation`, and for `val_data` also `test`.
        train_categories: names or numbers of the categories to train on; None takes all
            but `test_categories`. VOC has no numbers. The recall of these and of the
            other categories is counted separately.
        test_categories: names or numbers of the categories that are held out of
            training. None takes all but `train_categories`. Objects of neither are
            ignored regions in the evaluation.
        other_categories: what objects that are not trained on are in training:
            `"background"`, as in OLN, or `"ignored"` regions.
        preset: reference system whose rules are used. None uses `pyramid` for a
            backbone with a pyramid, `detectron2_c4` for C4, `jwyang_vgg16` for VGG16.
        backbone: network that computes the feature maps. None uses `tiny_fpn` for
            scenes and `mobilenet_v2_fpn` for other data.
        init_weights: file of pretrained weights; None trains from scratch.
        weights_system: system that the pretrained weights come from; None guesses it
            from the names of the tensors.
        frozen_stages: number of early stages that keep their pretrained weights. None
            freezes 2 with `init_weights`, and none without.
        fpn_features: channels of the pyramid's maps; None uses the backbone's default.
        dtype: precision of the network's arithmetic. Parameters, losses and boxes are
            always float32.
        batch_size: images per step, over all devices. None uses 4 for scenes and 8 for
            other data, rounded up to what the devices and `accumulate` share evenly.
        accumulate: number of parts into which a batch is split to save memory.
        shard_parameters: spreads the parameters and the state of the optimizer over the
            devices, instead of a copy on each, to save memory. The weights then agree
            up to float32 rounding.
        remat: computes the inside of the backbone's blocks again in the backward pass,
            instead of keeping it, to save memory. The weights then agree up to float32
            rounding.
        deterministic: computes images one at a time, and adds their gradients in the
            order of the batch. The weights are then the same to the bit on any number
            of devices and processes, for which it takes more time and memory. Needs
            1, 2, 4, ... devices; not for `shard_parameters` and cascades.
        steps: number of updates, as an alternative to `epochs`. With neither, 1,000
            steps on scenes; on other data 12 epochs, but at least 500 steps.
        epochs: number of times that every image is seen.
        lr: peak learning rate. None uses 0.02 for SGD, 0.002 for AdamW and 0.001 for
            Muon; on scenes 0.003 and 0.007 for the last two; and 0.001 for AdamW if
            `init_weights` have a head.
        trunk_lr_scale: factor of the learning rate of the trunk, which is the backbone
            without its pyramid. None uses 0.2 for AdamW with `init_weights`, so that it
            changes pretrained weights less than new ones, and otherwise 1.
        seed: seed of the weights, the order of images and the sampled anchors.
        seeds: number of runs, with the seeds `seed`, `seed + 1` and so on. Each has a
            folder in `out`; `seeds.json` and the table have the mean of their recall
            with a 95 % confidence interval.
        seeds_mode: `"in_turn"` makes the runs of `seeds` one after the other;
            `"together"` makes a step of all runs in one program, which keeps all in
            memory. None uses `"together"` on an accelerator and `"in_turn"` on a CPU.
        ignore_crowds: sets `rpn.targets.ignore_iof` to 0.5, with any preset, if it is
            None and the training images have ignored regions: crowds in COCO, difficult
            objects in VOC, objects that augmentation cuts. The log reports it. False
            lets these regions have no effect.
        out: folder of the run.
        resume: continues from the newest checkpoint in `out`, if there is one.
        checkpoint_every: number of steps between checkpoints; None saves ten per run.
        ema: decay of an exponential moving average of the weights, such as 0.999. The
            averaged weights are then evaluated and used. The decay rises to this value
            in the first steps. None uses the weights of the last step.
        eval_every: number of steps between evaluations on the validation images. The
            checkpoint with the best AR@100 is kept in the folder `best`. None does not
            evaluate during training.
        patience: number of evaluations in a row without a better AR@100 after which
            training stops; None makes all steps.
        log_every: number of steps between lines of `metrics.jsonl`.
        max_skipped: the run stops after this many consecutive steps with non-finite
            gradients.
        optimizer: settings of the optimizer. None uses AdamW with a `beta2` of 0.99 for
            `init_weights`, and Muon without, which needs fewer steps from scratch.
        pipeline: how images become batches. None resizes the shorter side to 240 pixels
            for scenes and to 480 for other data.
        rpn: settings of anchors, targets, losses and proposals; None uses `preset`.

    >>> TrainConfig(data="photos.json", epochs=12).batch_size is None
    True
    """

    data: str = "scenes"
    images: str | None = None
    split: str | None = None
    val_data: str | None = None
    val_images: str | None = None
    val_split: str | None = None
    train_categories: tuple[str, ...] | None = None
    test_categories: tuple[str, ...] | None = None
    other_categories: Literal["background", "ignored"] = "background"
    preset: Preset | None = None
    backbone: BackboneName | None = None
    init_weights: str | None = None
    weights_system: SystemName | None = None
    frozen_stages: int | None = None
    fpn_features: int | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    batch_size: int | None = None
    accumulate: int = 1
    shard_parameters: bool = False
    remat: bool = False
    deterministic: bool = False
    steps: int | None = None
    epochs: float | None = None
    lr: float | None = None
    trunk_lr_scale: float | None = None
    seed: int = 0
    seeds: int = 1
    seeds_mode: Literal["in_turn", "together"] | None = None
    ignore_crowds: bool = True
    out: str = "runs/rpn"
    resume: bool = False
    checkpoint_every: int | None = None
    ema: float | None = None
    eval_every: int | None = None
    patience: int | None = None
    log_every: int = 10
    max_skipped: int = 20
    optimizer: OptimizerConfig | None = None
    pipeline: PipelineConfig | None = None
    rpn: RPNConfig | None = None

    def __post_init__(self) -> None:
        given = {name: getattr(self, name) for name in _ABOVE_ZERO}
        wrong = {k: v for k, v in given.items() if not (v is None or 0 < v < math.inf)}
        if wrong:
            raise ValueError(f"TrainConfig needs finite numbers above 0, got {wrong}.")
        if self.steps is not None and self.epochs is not None:
            raise ValueError(
                "TrainConfig needs steps or epochs, not both, got "
                f"{self.steps} and {self.epochs}."
            )
        if self.deterministic and self.shard_parameters:
            raise ValueError(
                "--deterministic needs all parameters on every device, got "
                "--shard-parameters too. Choose one of them."
            )
        if self.ema is not None and not 0.0 < self.ema < 1.0:
            raise ValueError(
                f"TrainConfig needs an ema between 0 and 1, got {self.ema}."
            )
        if self.seeds_mode is not None and self.seeds == 1:
            raise ValueError(
                f"TrainConfig needs seeds above 1 beside seeds_mode, got {self.seeds}. "
                "Set both, or neither."
            )
        if self.patience is not None and self.eval_every is None:
            raise ValueError(
                "TrainConfig needs eval_every beside patience, which counts "
                "evaluations, got none. Set both."
            )
        if self.batch_size is not None and self.batch_size % self.accumulate:
            raise ValueError(
                "TrainConfig needs a batch_size that accumulate divides, got "
                f"{self.batch_size} and {self.accumulate}."
            )


lenient_settings(TrainConfig)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResolvedConfig(TrainConfig):
    """A `TrainConfig` in which every setting has a value.

    The exceptions depend on the data (`steps`, `split`, `val_data`) or may stay None.

    Attributes:
        backbone: network that computes the feature maps.
        frozen_stages: number of early stages that are not trained.
        batch_size: images per step, over all devices.
        lr: peak learning rate.
        trunk_lr_scale: factor of the learning rate of the trunk.
        optimizer: settings of the optimizer.
        pipeline: how images become batches.
        rpn: settings of anchors, targets, losses and proposals.
    """

    backbone: BackboneName = "tiny_fpn"
    frozen_stages: int = 0
    batch_size: int = 8
    lr: float = 0.02
    trunk_lr_scale: float = 1.0
    optimizer: OptimizerConfig = OptimizerConfig()
    pipeline: PipelineConfig = PipelineConfig()
    rpn: RPNConfig = RPNConfig()


lenient_settings(ResolvedConfig)
