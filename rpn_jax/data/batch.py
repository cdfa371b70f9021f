"""From a row of a source to one place in a batch."""

import enum
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from .augment import UNCHANGED, Augmentation, PipelineConfig, augment
from .image_source import Decoded, ImageError, ImageSource, is_endless

_MOST_ROWS = 400  # of ground truth that the default gives


class ReadProblem(enum.IntEnum):
    """What was wrong with an image when it was read."""

    NONE = 0
    TRUNCATED = 1  # damaged, its lower part is missing
    UNREADABLE = 2  # another one is in its place in training, none in evaluation


class Batch(NamedTuple):
    """Images of one shape with their boxes, `b` of them, `m` rows of boxes for each.

    Attributes:
        images: `[b, h, w, 3]` RGB from 0 to 255; 0 below and right of the image.
        image_sizes: `[b, 2]` `(height, width)` of the image without the padding.
        gt_boxes: `[b, m, 4]` in pixels of `images`, regions to ignore last.
        gt_valid: `[b, m]` which rows hold a box; the others are zeros.
        gt_ignore: `[b, m]` which of the valid rows are regions to ignore.
        rows: `[b]` row of the image in its source; -1 for no image.
        scales: `[b, 2]` vertical and horizontal size relative to the original.
        problems: `[b]` a `ReadProblem`.
        dropped_boxes: `[b]` how many boxes there was no row for.
    """

    images: UInt8[np.ndarray, "b h w 3"]
    image_sizes: Float[np.ndarray, "b 2"]
    gt_boxes: Float[np.ndarray, "b m 4"]
    gt_valid: Bool[np.ndarray, "b m"]
    gt_ignore: Bool[np.ndarray, "b m"]
    rows: Int[np.ndarray, " b"]
    scales: Float[np.ndarray, "b 2"]
    problems: Int[np.ndarray, " b"]
    dropped_boxes: Int[np.ndarray, " b"]


def num_gt_rows(source: ImageSource, config: PipelineConfig) -> int:
    """How many rows of ground truth each image of a batch has.

    Args:
        source: the images.
        config: its `max_boxes` decides, if there is one.

    Returns:
        The largest number of boxes of an image, rounded up to a multiple of 8, at least
        8 and at most 400.
    """
    if config.max_boxes is not None:
        return config.max_boxes
    largest = int(source.num_boxes[0] if is_endless(source) else source.num_boxes.max())
    return min(max(-(-largest // 8) * 8, 8), _MOST_ROWS)


class Loader:
    """Reads images and makes them alike.

    Args:
        source: the images.
        config: sizes and number of boxes.
    """

    def __init__(self, source: ImageSource, config: PipelineConfig) -> None:
        self._source, self._config = source, config
        self._num_rows = num_gt_rows(source, config)

    def load(
        self,
        row: int,
        shape: tuple[int, int],
        augmentation: Augmentation = UNCHANGED,
        stand_ins: Int[np.ndarray, " n"] | None = None,
    ) -> Batch:
        """Reads one image, for one place in a batch.

        Args:
            row: of the image; -1 gives an empty place.
            shape: `(height, width)` of all images of the batch.
            augmentation: what to do with the image.
            stand_ins: ascending rows of the images that fit `shape`, of which the next
                replaces an image that cannot be decoded. None leaves its place empty.

        Returns:
            A batch of this image without the first dimension.

        Raises:
            ImageError: neither the image nor one of `stand_ins` can be decoded.
        """
        if row < 0:
            return self._empty(shape, ReadProblem.NONE)
        try:
            decoded = self._source.decode(row)
            problem = ReadProblem(int(decoded.truncated))
        except ImageError:
            if stand_ins is None:
                return self._empty(shape, ReadProblem.UNREADABLE)
            row, decoded = self._next_readable(row, stand_ins)
            problem = ReadProblem.UNREADABLE
        return self._place(row, decoded, shape, augmentation, problem)

    def _place(
        self,
        row: int,
        decoded: Decoded,
        shape: tuple[int, int],
        augmentation: Augmentation,
        problem: ReadProblem,
    ) -> Batch:
        truth = self._source.truth(row)
        order = np.argsort(truth.is_crowd, kind="stable")[: self._num_rows]
        boxes, is_crowd = truth.boxes[order], truth.is_crowd[order]
        augmented = augment(decoded.pixels, boxes, shape, self._config, augmentation)
        missing = self._num_rows - len(boxes)
        return Batch(
            images=augmented.image,
            image_sizes=augmented.size,
            gt_boxes=np.pad(augmented.boxes, ((0, missing), (0, 0))),
            gt_valid=np.arange(self._num_rows) < len(boxes),
            gt_ignore=np.pad(is_crowd, (0, missing)),
            rows=np.array(row, np.int32),
            scales=augmented.scale,
            problems=np.array(problem, np.int32),
            dropped_boxes=np.array(len(truth.boxes) - len(boxes), np.int32),
        )

    def _empty(self, shape: tuple[int, int], problem: ReadProblem) -> Batch:
        return Batch(
            images=np.zeros((*shape, 3), np.uint8),
            image_sizes=np.array(shape, np.float32),
            gt_boxes=np.zeros((self._num_rows, 4), np.float32),
            gt_valid=np.zeros(self._num_rows, bool),
            gt_ignore=np.zeros(self._num_rows, bool),
            rows=np.array(-1, np.int32),
            scales=np.ones(2, np.float32),
            problems=np.array(problem, np.int32),
            dropped_boxes=np.array(0, np.int32),
        )

    def _next_readable(
        self, row: int, stand_ins: Int[np.ndarray, " n"]
    ) -> tuple[int, Decoded]:
        after = int(np.searchsorted(stand_ins, row, side="right"))
        for candidate in np.roll(stand_ins, -after).tolist():
            try:
                return candidate, self._source.decode(candidate)
            except ImageError:
                continue
        raise ImageError(
            "The pipeline needs an image that can be decoded for each shape, got none "
            f"among {len(stand_ins)} images of one shape. Check the files."
        )
