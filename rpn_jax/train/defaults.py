"""The default settings of a training run, in one place."""

import dataclasses

from .optimizer import OptimizerConfig
from .train_config import BackboneName, TrainConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataDefaults:
    """Settings that depend on the kind of data.

    Attributes:
        backbone: name of the backbone.
        min_side: pixels to which the shorter side of an image is resized.
        max_side: pixels that the longer side does not exceed.
        batch_size: images per step, before rounding up to what devices share evenly.
        adamw_lr: peak learning rate of AdamW.
        muon_lr: peak learning rate of Muon.
    """

    backbone: BackboneName
    min_side: int
    max_side: int
    batch_size: int
    adamw_lr: float
    muon_lr: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class StartDefaults:
    """Settings that depend on whether pretrained weights are loaded.

    Attributes:
        optimizer: settings of the optimizer.
        frozen_stages: number of early stages that keep their weights.
        trunk_lr_scale: factor of the trunk's learning rate with AdamW.
    """

    optimizer: OptimizerConfig
    frozen_stages: int
    trunk_lr_scale: float


# Scenes are small pictures of simple shapes, so small images and a small network do.
SCENES = DataDefaults(
    backbone="tiny_fpn",
    min_side=240,
    max_side=320,
    batch_size=4,
    adamw_lr=3e-3,
    muon_lr=7e-3,
)

# Photographs get a trunk that a CPU can train. A shorter side of 480 instead of the 600
# or 800 of the reference systems trades recall of small objects for speed.
FILES = DataDefaults(
    backbone="mobilenet_v2_fpn",
    min_side=480,
    max_side=800,
    batch_size=8,
    adamw_lr=2e-3,
    muon_lr=1e-3,
)

# The length of a run without --steps and --epochs. Scenes never repeat; 1,000 steps
# reach an AR@100 of 0.69 on the validation scenes. Files are seen 12 times, the "1x"
# schedule of detectron2 and mmdetection, but a small data set needs more repetitions.
SCENES_STEPS = 1000
FILES_EPOCHS = 12
FILES_MIN_STEPS = 500

# From scratch, Muon needs half of AdamW's steps on scenes.
FROM_SCRATCH = StartDefaults(
    optimizer=OptimizerConfig(name="muon"), frozen_stages=0, trunk_lr_scale=1.0
)
# With the full rate, the trunk would soon lose what its weights know. In a short run,
# second moments follow the gradients sooner with 0.99 than with the usual 0.999.
FROM_WEIGHTS = StartDefaults(
    optimizer=OptimizerConfig(name="adamw", beta2=0.99),
    frozen_stages=2,
    trunk_lr_scale=0.2,
)

# torchvision, detectron2 and mmdetection use this rate with 16 images per step, for the
# trunk as well.
SGD_LR = 0.02

# The rate of AdamW if the weights hold a trained head, which needs smaller steps.
FINE_TUNING_LR = 1e-3

# Share of an anchor in an ignored region above which the anchor is ignored. A lower
# share loses negatives around these regions; a higher one makes negatives of anchors on
# objects that the region holds.
IGNORE_IOF = 0.5


def data_defaults(config: TrainConfig) -> DataDefaults:
    """The row of the table for the data that a run trains on."""
    return SCENES if config.data == "scenes" else FILES


def start_defaults(config: TrainConfig) -> StartDefaults:
    """The row of the table for the weights that a run starts from."""
    return FROM_SCRATCH if config.init_weights is None else FROM_WEIGHTS
