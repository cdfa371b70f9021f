"""Opens a data set by its name or path, and divides it for validation."""

import hashlib
import pathlib
from collections.abc import Sequence

from .coco import read_coco
from .image_source import (
    Decoded,
    GroundTruth,
    ImageLibrary,
    ImageSource,
    OpenedImage,
    all_truths,
    is_endless,
    open_from,
)
from .scenes import Scenes
from .voc import read_voc, voc_splits
from .yolo import read_yolo, yolo_splits
from .yolo_folder import is_yolo

# More scenes make the recall of a validation less noisy, and each validation slower.
_NUM_VALIDATION_SCENES = 200
# Training draws its scenes from the seed of the run, which is unlikely to be this one.
_VALIDATION_SEED = 1_961_062_207


def open_source(
    data: str | pathlib.Path,
    *,
    images: str | pathlib.Path | None = None,
    split: str | None = None,
    seed: int = 0,
) -> ImageSource:
    """Opens a data set by its name or path.

    Args:
        data: `"scenes"`, a COCO JSON file, a VOC folder, or the `data.yaml` or folder
            of a YOLO set. The content decides, and a `data.yaml` comes before XML.
        images: the folder of the images; None looks in the usual places.
        split: the split of a VOC or YOLO set. For scenes, `"train"` or None gives
            endless scenes, and any other value gives the fixed validation scenes. A
            JSON file has no splits.
        seed: the seed of the endless scenes.

    Raises:
        ValueError: `data` is none of these, or cannot be read.

    >>> source = open_source("scenes", split="train")
    >>> sorted(source.categories.values())
    ['ellipse', 'polygon', 'rectangle', 'star', 'triangle']
    """
    if data == "scenes":
        if split in ("train", None):
            return Scenes(seed)
        return Scenes(_VALIDATION_SEED, _NUM_VALIDATION_SCENES)
    path = pathlib.Path(data)
    if not path.exists():
        raise ValueError(
            "Data needs to be `scenes`, a COCO JSON file, a VOC folder or a YOLO set, "
            f"got {str(data)!r}, which does not exist."
        )
    if is_yolo(path):
        return read_yolo(path, split, images)
    return read_voc(path, split, images) if path.is_dir() else read_coco(path, images)


def data_splits(data: str | pathlib.Path) -> tuple[str, ...]:
    """Lists the splits of a data set; there may be none.

    Args:
        data: the data set, in any form that `open_source` takes.

    >>> data_splits("scenes")
    ('train', 'val')
    """
    if data == "scenes":
        return ("train", "val")
    path = pathlib.Path(data)
    if path.exists() and is_yolo(path):
        return yolo_splits(path)
    return voc_splits(path)


class Subset(ImageSource):
    """A selection of the images in another source.

    Args:
        source: the other source.
        rows: the rows of the images to select.
        left_out: the annotations of images that belong to the selection, and whose file
            cannot be opened.
    """

    def __init__(
        self,
        source: ImageSource,
        rows: Sequence[int],
        left_out: Sequence[GroundTruth] = (),
    ) -> None:
        self.problems = source.problems
        self.categories = source.categories
        self._source, self._rows, self.left_out = source, rows, left_out
        self.image_sizes = source.image_sizes[list(rows)]
        self.num_boxes = source.num_boxes[list(rows)]

    def __len__(self) -> int:
        return len(self._rows)

    def truth(self, row: int) -> GroundTruth:
        """The boxes of an image."""
        return self._source.truth(self._rows[row])

    def decode(self, row: int) -> Decoded:
        """The pixels of an image.

        Raises:
            ImageError: the image cannot be decoded.
        """
        return self._source.decode(self._rows[row])

    def open_image(
        self,
        row: int,
        least: tuple[int, int] | None = None,
        library: ImageLibrary = "pillow",
    ) -> OpenedImage:
        """An image, perhaps decoded at a reduced scale; see `ImageSource`."""
        return open_from(self._source, self._rows[row], least, library)


def split_source(
    source: ImageSource, fraction: float, seed: int = 0
) -> tuple[Subset, Subset]:
    """Sets images apart for validation, by a hash of their names.

    Args:
        source: at least two images.
        fraction: share of the images that become validation images; at least one image
            does.
        seed: another seed gives another division.

    Returns:
        The images for training, then those for validation, in the source's order. An
        image's part depends on the seed and on the names, not on their order. An image
        whose file cannot be opened is left out of its part.

    Raises:
        ValueError: the source is endless or too small, or `fraction` is out of range.

    >>> from rpn_jax.data import Scenes
    >>> parts = split_source(Scenes(num_images=10), 0.2)
    >>> [len(part) for part in parts]
    [8, 2]
    """
    if is_endless(source) or len(source) < 2 or not 0.0 < fraction < 1.0:
        raise ValueError(
            "split_source needs a fraction between 0 and 1 and a finite source of at "
            f"least two images, got {fraction} and {len(source)} images."
        )
    # Images are ordered by the hash of their names; the first are for validation. Those
    # that cannot be opened are ordered too, so that the parts stay if they are mended.
    truths = all_truths(source)
    order = sorted(range(len(truths)), key=lambda place: _digest(truths[place], seed))
    readable = [rank for rank, place in enumerate(order) if place < len(source)]
    number = round(fraction * len(order))
    number = min(max(number, readable[0] + 1), readable[-1])  # each part has an image
    return _part(source, order[number:]), _part(source, order[:number])


def _part(source: ImageSource, places: Sequence[int]) -> Subset:
    """Some images of a source, by their places in `all_truths`."""
    rows = sorted(place for place in places if place < len(source))
    lost = sorted(place - len(source) for place in places if place >= len(source))
    return Subset(source, rows, [source.left_out[number] for number in lost])


def _digest(truth: GroundTruth, seed: int) -> bytes:
    """A hash of an image's name."""
    name = f"{seed}/{truth.name}".encode(errors="surrogatepass")
    return hashlib.sha256(name).digest()
