"""Turns one row of a source into one place of a batch."""

import enum
import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped, UInt8

from .augment import UNCHANGED, Augmentation, augment, compose, target_size
from .collage import Labels, Picture
from .image_source import (
    NO_CATEGORY,
    GroundTruth,
    ImageError,
    ImageSource,
    is_endless,
    open_from,
)
from .opencv import require_opencv
from .pipeline_config import PipelineConfig

# The default number of ground-truth rows never exceeds this. More rows hold more
# objects, but every image of every batch pays for them.
_MOST_ROWS = 400


class ReadProblem(enum.IntEnum):
    """The problem that was met when an image was read."""

    NONE = 0
    TRUNCATED = 1  # the file is damaged, and the lower part of the image is missing
    UNREADABLE = 2  # training takes another image instead; evaluation takes none


class Batch(NamedTuple):
    """`b` images of one shape, with `m` rows of ground truth each.

    Attributes:
        images: `[b, h, w, 3]` RGB from 0 to 255. The padding is 0, and lies below and
            to the right of the image.
        image_sizes: `[b, 2]` `(height, width)` of the image without the padding.
        gt_boxes: `[b, m, 4]` boxes in pixels of `images`: objects first, then ignored
            regions.
        gt_valid: `[b, m]` which rows hold a box; the others are zeros.
        gt_ignore: `[b, m]` which of the valid rows are ignored regions.
        rows: `[b]` row of the image in its source; -1 for an empty place.
        asked_rows: `[b]` row of the image that was to be read. It differs from `rows`
            if that image cannot be decoded.
        scales: `[b, 2]` vertical and horizontal factor from the original to the resized
            image. The original of a crop or mosaic is what was cut out or put together.
        problems: `[b]` the `ReadProblem` of the image.
        dropped_boxes: `[b]` number of boxes that found no row.
        cut_boxes: `[b]` number of objects that became ignored regions, because
            augmentation left less than `min_visibility` of them.
        hidden_boxes: `[b]` number of boxes that augmentation left nothing of.
    """

    images: UInt8[np.ndarray, "b h w 3"]
    image_sizes: Float[np.ndarray, "b 2"]
    gt_boxes: Float[np.ndarray, "b m 4"]
    gt_valid: Bool[np.ndarray, "b m"]
    gt_ignore: Bool[np.ndarray, "b m"]
    rows: Int[np.ndarray, " b"]
    asked_rows: Int[np.ndarray, " b"]
    scales: Float[np.ndarray, "b 2"]
    problems: Int[np.ndarray, " b"]
    dropped_boxes: Int[np.ndarray, " b"]
    cut_boxes: Int[np.ndarray, " b"]
    hidden_boxes: Int[np.ndarray, " b"]


def num_gt_rows(source: ImageSource, config: PipelineConfig) -> int:
    """The number of ground-truth rows that each image of a batch has.

    Args:
        source: the images.
        config: gives `max_boxes`, which is returned unless it is None.

    Returns:
        `max_boxes`, or the largest number of boxes in an image, rounded up to a
        multiple of 8, but at most 400. A mosaic has four images, and pasted objects are
        further boxes.

    >>> from rpn_jax.data import Scenes
    >>> num_gt_rows(Scenes(), PipelineConfig(max_boxes=20))
    20
    """
    if config.max_boxes is not None:
        return config.max_boxes
    largest = int(source.num_boxes[0] if is_endless(source) else source.num_boxes.max())
    if config.mosaic.probability > 0.0:
        largest *= 4
    if config.copy_paste.probability > 0.0:
        largest += config.copy_paste.max_objects
    return min(max(-(-largest // 8) * 8, 8), _MOST_ROWS)


class Loader:
    """Reads images, and gives them one shape and one number of ground-truth rows.

    Args:
        source: the images.
        config: the sizes of images and the number of rows.

    Raises:
        ValueError: OpenCV is asked for and not installed.
    """

    def __init__(self, source: ImageSource, config: PipelineConfig) -> None:
        if config.image_library == "opencv":
            require_opencv()
        self._source, self._config = source, config
        self._num_rows = num_gt_rows(source, config)

    def load(
        self,
        row: int,
        canvas: UInt8[np.ndarray, "h w 3"],
        augmentation: Augmentation = UNCHANGED,
        stand_ins: Int[np.ndarray, " n"] | None = None,
    ) -> Batch:
        """Reads one image into its place in a batch.

        Args:
            row: row of the image in the source; -1 gives an empty place.
            canvas: zeros, which the image is written into.
            augmentation: the random choices for the image.
            stand_ins: ascending rows of the images that fit `canvas`. If the image
                cannot be decoded, the next of these replaces it. None leaves the place
                empty.

        Returns:
            The fields of a batch for this image, without the first dimension. `images`
            is `canvas`.

        Raises:
            ImageError: neither the image nor one of `stand_ins` can be decoded.
        """
        if row < 0:
            return self._empty(row, canvas, ReadProblem.NONE)
        # A damaged file must not end a run, so training takes a stand-in; evaluation
        # takes none, because it would count an image twice.
        asked = row
        read = functools.partial(
            self._open, shape=canvas.shape[:2], augmentation=augmentation
        )
        try:
            picture = read(row)
            problem = ReadProblem(int(picture.opened.truncated))
        except ImageError as error:
            if stand_ins is None:
                return self._empty(row, canvas, ReadProblem.UNREADABLE)
            row, picture = _next_readable(row, stand_ins, read, error)
            problem = ReadProblem.UNREADABLE
        placed = self._place(row, picture, canvas, augmentation, problem)
        return placed._replace(asked_rows=np.array(asked, np.int32))

    def _open(
        self,
        row: int,
        shape: tuple[int, int] | None = None,
        augmentation: Augmentation = UNCHANGED,
    ) -> Picture:
        """An image with its boxes, perhaps decoded at a reduced scale.

        Args:
            row: row of the image.
            shape: `(height, width)` of the batch; None needs the original.
            augmentation: the random choices for the image.
        """
        truth, config = self._source.truth(row), self._config
        if shape is None or augmentation.composes(config):
            # A part of a mosaic or crop may be shown larger than the whole image would
            # be, and Pillow puts the parts together.
            return Picture(open_from(self._source, row), _labels(truth))
        least = None
        if config.reduced_decoding:
            least = target_size(np.array(truth.size), shape, config, augmentation)
        opened = open_from(self._source, row, least, config.image_library)
        return Picture(opened, _labels(truth))

    def _place(
        self,
        row: int,
        picture: Picture,
        canvas: UInt8[np.ndarray, "h w 3"],
        augmentation: Augmentation,
        problem: ReadProblem,
    ) -> Batch:
        """Writes an image into the batch, and brings its boxes to that size."""
        config, shape = self._config, canvas.shape[:2]
        collage = compose(picture, self._read_other, config, augmentation)
        augmented = augment(collage, shape, config, augmentation)
        # The padding lies below and to the right, so that it moves no box.
        pixels = np.asarray(augmented.image)
        canvas[: pixels.shape[0], : pixels.shape[1]] = pixels
        # Ignored regions come last, so they are the first to find no row.
        labels = augmented.labels
        order = np.argsort(labels.is_ignored, kind="stable")[: self._num_rows]
        boxes, is_ignored = labels.boxes[order], labels.is_ignored[order]
        return Batch(
            images=canvas,
            image_sizes=augmented.size,
            gt_boxes=_filled_up(boxes, self._num_rows),
            gt_valid=np.arange(self._num_rows) < len(boxes),
            gt_ignore=_filled_up(is_ignored, self._num_rows),
            rows=np.array(row, np.int32),
            asked_rows=np.array(row, np.int32),
            scales=augmented.scale,
            problems=np.array(problem, np.int32),
            dropped_boxes=np.array(len(labels.boxes) - len(boxes), np.int32),
            cut_boxes=np.array(augmented.num_cut, np.int32),
            hidden_boxes=np.array(augmented.num_hidden, np.int32),
        )

    def _empty(
        self, row: int, canvas: UInt8[np.ndarray, "h w 3"], problem: ReadProblem
    ) -> Batch:
        """A place without the image that was to be read, if any."""
        return Batch(
            images=canvas,
            image_sizes=np.array(canvas.shape[:2], np.float32),
            gt_boxes=np.zeros((self._num_rows, 4), np.float32),
            gt_valid=np.zeros(self._num_rows, bool),
            gt_ignore=np.zeros(self._num_rows, bool),
            rows=np.array(-1, np.int32),
            asked_rows=np.array(row, np.int32),
            scales=np.ones(2, np.float32),
            problems=np.array(problem, np.int32),
            dropped_boxes=np.array(0, np.int32),
            cut_boxes=np.array(0, np.int32),
            hidden_boxes=np.array(0, np.int32),
        )

    def _read_other(self, rng: np.random.Generator) -> Picture:
        """A random image of the source; the next readable one if it is damaged."""
        row = int(rng.integers(len(self._source)))
        try:
            return self._open(row)
        except ImageError as error:
            every = np.arange(len(self._source))
            return _next_readable(row, every, self._open, error)[1]


def _next_readable(
    row: int,
    stand_ins: Int[np.ndarray, " n"],
    read: Callable[[int], Picture],
    error: ImageError,
) -> tuple[int, Picture]:
    """The row and the picture of the first readable image after `row`, in a circle.

    Args:
        row: row of the image that cannot be decoded.
        stand_ins: ascending rows of the images to choose from.
        read: reads the image of a row.
        error: why the image cannot be decoded.
    """
    # The search begins after the damaged image, so that damaged images far apart get
    # different stand-ins.
    after = int(np.searchsorted(stand_ins, row, side="right"))
    for candidate in np.roll(stand_ins, -after).tolist():
        try:
            return candidate, read(candidate)
        except ImageError:
            continue
    raise ImageError(
        "The pipeline needs a readable image for each shape, got none among "
        f"{len(stand_ins)} images of one shape. Check the files. {error}"
    )


def _filled_up(
    values: Shaped[np.ndarray, "n ..."], number: int
) -> Shaped[np.ndarray, "m ..."]:
    """Rows of zeros after those of `values`; faster than `np.pad` for few rows."""
    rows = np.zeros((number, *values.shape[1:]), values.dtype)
    rows[: len(values)] = values
    return rows


def _labels(truth: GroundTruth) -> Labels:
    """The boxes of an image, with `NO_CATEGORY` if the source has no categories."""
    categories = truth.categories
    if categories is None:
        categories = np.full(len(truth.boxes), NO_CATEGORY)
    return Labels(truth.boxes, truth.is_ignored, categories)
