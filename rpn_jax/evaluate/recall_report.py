"""The input and the result of an evaluation: proposals, and recall as a report."""

from typing import Any, NamedTuple

import numpy as np

from ..core._typing import Bool, Float, Int
from ..tables import format_table

IOU_THRESHOLDS: tuple[float, ...] = tuple(np.linspace(0.5, 0.95, 10).tolist())
LIMITS: tuple[int, ...] = (1, 10, 100, 300, 1000)
CURVE_LIMITS = tuple(sorted({*LIMITS, 2, 5, 20, 30, 50, 70, 200, 500, 700}))
# Ranges of area in square pixels, both ends included: first COCO's, then detectron2's.
SIZES = {
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
    "96-128": (96.0**2, 128.0**2),
    "128-256": (128.0**2, 256.0**2),
    "256-512": (256.0**2, 512.0**2),
    "512-inf": (512.0**2, 1e10),
}
COCO_SIZES = tuple(SIZES)[:4]  # all, small, medium, large


def in_sizes(areas: Float[np.ndarray, " m"]) -> Bool[np.ndarray, "s m"]:
    """Whether each area, in square pixels, lies in each of `SIZES`."""
    low, high = np.array(list(SIZES.values())).T[:, :, None]
    return (areas[None] >= low) & (areas[None] <= high)


class ImageProposals(NamedTuple):
    """The proposals of one image.

    Attributes:
        image_id: the number of the image, as in its `GroundTruth`.
        boxes: `[k 4]` boxes `(x0, y0, x1, y1)` in pixels of the original image.
        scores: `[k]` confidence of each proposal; ties are broken by the order of rows.

    >>> found = ImageProposals(7, np.array([[1.0, 2, 4, 6]]), np.array([0.5]))
    >>> found.image_id, found.boxes.shape
    (7, (1, 4))
    """

    image_id: int
    boxes: Float[np.ndarray, "k 4"]
    scores: Float[np.ndarray, " k"]


def checked(image: ImageProposals, asker: str) -> ImageProposals:
    """Checks proposals, and returns them.

    Args:
        image: the proposals of one image.
        asker: the name of the calling function, for the message.

    Raises:
        ValueError: boxes or scores are not finite, or their numbers differ.
    """
    number = len(image.scores)
    if image.boxes.shape != (number, 4) or image.scores.shape != (number,):
        raise ValueError(
            f"{asker} needs boxes [k, 4] and scores [k], got {image.boxes.shape} and "
            f"{image.scores.shape} for image {image.image_id}. Drop padding from both."
        )
    if not (np.isfinite(image.boxes).all() and np.isfinite(image.scores).all()):
        raise ValueError(
            f"{asker} needs finite boxes and scores, got NaN or infinity for image "
            f"{image.image_id}. Drop padding rows; without any, training diverged."
        )
    return image


class Recall(NamedTuple):
    """The share of objects found, by one way of pairing proposals with objects.

    Attributes:
        values: `[t s l]` recall by IoU threshold (`IOU_THRESHOLDS`), by size of the
            object (`SIZES`) and by number of proposals per image (`CURVE_LIMITS`). NaN
            for a size without objects.
    """

    values: Float[np.ndarray, "t s l"]

    def average(
        self, limit: int = 1000, *, size: str = "all", iou: float | None = None
    ) -> float:
        """Average recall (AR), or the recall at one IoU.

        Args:
            limit: number of proposals per image that count, one of `CURVE_LIMITS`.
            size: size of the objects, a key of `SIZES`.
            iou: one of `IOU_THRESHOLDS`; None averages over all thresholds.

        Returns:
            A share between 0 and 1; NaN if there is no object of that size.
        """
        by_iou = self.over_iou(limit, size=size)
        if iou is None:
            return float(by_iou.mean())
        # As in pycocotools, the threshold of 0.9 is 0.8999999999999999.
        known = tuple(round(threshold, 9) for threshold in IOU_THRESHOLDS)
        return float(by_iou[_position(round(iou, 9), known, "an IoU")])

    def over_iou(
        self, limit: int = 1000, *, size: str = "all"
    ) -> Float[np.ndarray, " t"]:
        """Recall at each of `IOU_THRESHOLDS`; the arguments are those of `average`."""
        size_row = _position(size, tuple(SIZES), "a size")
        return self.values[:, size_row, _position(limit, CURVE_LIMITS, "a limit")]

    def over_limits(self, *, size: str = "all") -> Float[np.ndarray, " l"]:
        """Average recall of the objects of one size, at each of `CURVE_LIMITS`."""
        return self.values[:, _position(size, tuple(SIZES), "a size")].mean(axis=0)


class CategoryRecall(NamedTuple):
    """The recall of the objects of some categories.

    Attributes:
        name: what the categories have in common, such as `seen`.
        coco: recall as COCO counts it.
        num_objects: `[s]` number of objects in each of `SIZES`.
    """

    name: str
    coco: Recall
    num_objects: Int[np.ndarray, " s"]


class Report(NamedTuple):
    """The result of `evaluate`.

    Attributes:
        coco: recall as COCO counts it: proposals choose objects in the order of scores.
        detectron2: recall as detectron2 counts it: the closest pairs come first.
        num_images: number of images that were evaluated.
        num_objects: `[s]` number of objects in each of `SIZES`, which excludes ignored
            regions.
        num_proposals: number of proposals in all images.
        unreadable: names of the images that could not be read. They count as images
            without proposals.
        categories: the recall of groups of categories, if `evaluate` was given any.
    """

    coco: Recall
    detectron2: Recall
    num_images: int
    num_objects: Int[np.ndarray, " s"]
    num_proposals: int
    unreadable: tuple[str, ...] = ()
    categories: tuple[CategoryRecall, ...] = ()

    def table(self) -> str:
        """The recall at each of `LIMITS`, as a Markdown table with aligned columns.

        COCO's sizes without objects have dashes; detectron2's have no row. A line below
        says how many images could not be decoded, if any.
        """
        return format_table(self.rows()) + self._unreadable_line()

    def rows(self) -> list[list[str]]:
        """The cells of `table`; the first row is the header."""
        header = ["recall", "objects", *(f"@{limit:,}" for limit in LIMITS)]
        ious = (("AR", None), ("IoU 0.50", 0.5), ("IoU 0.75", 0.75))
        rows = [self._row(self.coco, name, "all", iou) for name, iou in ious]
        bounds = (("small", " (to 32² px)"), ("medium", " (to 96² px)"), ("large", ""))
        rows += [self._row(self.coco, f"AR {size}{end}", size) for size, end in bounds]
        rows += [
            _cells(group.coco, group.num_objects, f"AR {group.name}")
            for group in self.categories
        ]
        # Sizes without objects get no row here, because many of these ranges are empty
        # in a small data set.
        rows += [
            self._row(self.detectron2, f"AR {size}, detectron2", size)
            for size, number in zip(SIZES, self.num_objects, strict=True)
            if number
        ]
        return [header, *rows]

    def as_dict(self) -> dict[str, Any]:
        """The report as lists, numbers and strings, for JSON. NaN becomes None."""
        return {
            "num_images": self.num_images,
            "num_objects": _by_size(self.num_objects),
            "num_proposals": self.num_proposals,
            "unreadable": list(self.unreadable),
            "coco": _summary(self.coco),
            "detectron2": _summary(self.detectron2),
        } | ({"categories": self._category_dict()} if self.categories else {})

    def _category_dict(self) -> dict[str, Any]:
        """Number of objects and recall of every group of categories, for JSON."""
        return {
            group.name: {
                "num_objects": _by_size(group.num_objects),
                "coco": _summary(group.coco),
            }
            for group in self.categories
        }

    def _unreadable_line(self) -> str:
        number = len(self.unreadable)
        if not number:
            return ""
        return (
            f"\n\n{number:,} of {self.num_images:,} images cannot be read. Their "
            "objects count as missed."
        )

    def _row(
        self, recall: Recall, name: str, size: str, iou: float | None = None
    ) -> list[str]:
        return _cells(recall, self.num_objects, name, size, iou)


def _cells(
    recall: Recall,
    num_objects: Int[np.ndarray, " s"],
    name: str,
    size: str = "all",
    iou: float | None = None,
) -> list[str]:
    """A row of the table: a name, the number of objects, and recall by limit."""
    shares = [recall.average(limit, size=size, iou=iou) for limit in LIMITS]
    number = num_objects[tuple(SIZES).index(size)]
    cells = ["-" if np.isnan(share) else f"{share:.3f}" for share in shares]
    return [name, f"{number:,}", *cells]


def _by_size(num_objects: Int[np.ndarray, " s"]) -> dict[str, int]:
    return dict(zip(SIZES, num_objects.tolist(), strict=True))


def _summary(recall: Recall) -> dict[str, Any]:
    """Recall by name and number of proposals, then by size, for JSON."""
    shares = {"AR": None, "recall_0.50": 0.5, "recall_0.75": 0.75}
    return {
        f"{name}@{limit}": {
            size: _json_number(recall.average(limit, size=size, iou=iou))
            for size in SIZES
        }
        for name, iou in shares.items()
        for limit in LIMITS
    }


def _json_number(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 6)


def _position(wanted: object, known: tuple, what: str) -> int:
    """The index of a value among those that were evaluated."""
    if wanted not in known:
        raise ValueError(
            f"Recall needs {what} that was evaluated, got {wanted!r}. Pass one of "
            f"{known}."
        )
    return known.index(wanted)
