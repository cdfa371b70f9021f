"""A data set in memory, for the tests of the pipeline."""

import itertools

import numpy as np

from rpn_jax.data import (
    CopyPasteConfig,
    Decoded,
    GroundTruth,
    ImageError,
    ImageSource,
    IoUCropConfig,
    MosaicConfig,
    PhotometricConfig,
    PipelineConfig,
    Problems,
    ZoomOutConfig,
    train_batches,
)

PLAIN = PipelineConfig(min_side=32, max_side=64, size_multiple=16, flip_probability=0)
VARIED = PipelineConfig(
    min_side=32, max_side=64, size_multiple=16, scale_jitter=(0.5, 1.5)
)
COMPOSED = PipelineConfig(
    min_side=32,
    max_side=64,
    size_multiple=16,
    photometric=PhotometricConfig(probability=0.5),
    zoom_out=ZoomOutConfig(probability=0.5),
    iou_crop=IoUCropConfig(probability=0.8),
    mosaic=MosaicConfig(probability=0.5),
    copy_paste=CopyPasteConfig(probability=0.5),
)
MIXED = [(40, 60), (60, 40), (50, 50), (41, 60), (60, 44), (30, 60), (48, 50)]


class FakeSource(ImageSource):
    """Images of one colour, which identifies their row."""

    def __init__(self, sizes, boxes=(), ignored=(), unreadable=(), truncated=()):
        self.problems = Problems()
        self.image_sizes = np.array(sizes)
        self.boxes = [np.array(boxes, np.float32).reshape(-1, 4)] * len(sizes)
        self.ignored = np.zeros(len(self.boxes[0]), bool)
        self.ignored[list(ignored)] = True
        self.num_boxes = np.array([len(b) for b in self.boxes])
        self.unreadable, self.truncated = set(unreadable), set(truncated)

    def __len__(self):
        return len(self.image_sizes)

    def truth(self, row):
        height, width = self.image_sizes[row].tolist()
        boxes = self.boxes[row]
        areas = np.ones(len(boxes), np.float32)
        return GroundTruth(
            row, (height, width), boxes, self.ignored, areas, f"{row}.png"
        )

    def decode(self, row):
        if row in self.unreadable:
            raise ImageError(f"{row}.png")
        pixels = np.full((*self.image_sizes[row], 3), row + 1, np.uint8)
        return Decoded(pixels, row in self.truncated)


def take(source, config, number, **options):
    defaults = {"batch_size": 2, "seed": 0}
    return list(
        itertools.islice(train_batches(source, config, **(defaults | options)), number)
    )
