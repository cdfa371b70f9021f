"""What an evaluation takes and gives: proposals in, recall out, as text and numbers."""

from typing import Any, NamedTuple

import numpy as np

from ..core._typing import Bool, Float, Int
from ..tables import format_table

IOU_THRESHOLDS: tuple[float, ...] = tuple(np.linspace(0.5, 0.95, 10).tolist())
LIMITS: tuple[int, ...] = (1, 10, 100, 300, 1000)
CURVE_LIMITS = tuple(sorted({*LIMITS, 2, 5, 20, 30, 50, 70, 200, 500, 700}))
SIZES = {  # square pixels, both ends included; the ranges of COCO, then detectron2's
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
    "96-128": (96.0**2, 128.0**2),
    "128-256": (128.0**2, 256.0**2),
    "256-512": (256.0**2, 512.0**2),
    "512-inf": (512.0**2, 1e10),
}


def in_sizes(areas: Float[np.ndarray, " m"]) -> Bool[np.ndarray, "s m"]:
    """Which of the areas, in square pixels, lie in each of `SIZES`."""
    low, high = np.array(list(SIZES.values())).T[:, :, None]
    return (areas[None] >= low) & (areas[None] <= high)


class ImageProposals(NamedTuple):
    """The proposals of one image.

    Attributes:
        image_id: of the image, as in its `GroundTruth`.
        boxes: `[k 4]` boxes `(x0, y0, x1, y1)` in pixels of the original image.
        scores: `[k]` the higher, the surer. The order of the rows breaks ties.
    """

    image_id: int
    boxes: Float[np.ndarray, "k 4"]
    scores: Float[np.ndarray, " k"]


def checked(image: ImageProposals, asker: str) -> ImageProposals:
    """The same proposals, once they are found fit to count.

    Args:
        image: the proposals.
        asker: the function that needs them, for the message.

    Raises:
        ValueError: boxes or scores are not finite, or not as many.
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
        values: `[t s l]` by IoU (`IOU_THRESHOLDS`), by size of the object (`SIZES`) and
            by number of proposals an image (`CURVE_LIMITS`); NaN for a size without
            objects.
    """

    values: Float[np.ndarray, "t s l"]

    def average(
        self, limit: int = 1000, *, size: str = "all", iou: float | None = None
    ) -> float:
        """Average recall (AR), or the recall at one IoU.

        Args:
            limit: how many proposals of an image count, one of `CURVE_LIMITS`.
            size: of the objects, a key of `SIZES`.
            iou: one of `IOU_THRESHOLDS`; None averages over all of them.

        Returns:
            A share; NaN if there is no object of that size.
        """
        by_iou = self.over_iou(limit, size=size)
        if iou is None:
            return float(by_iou.mean())
        return float(by_iou[_position(iou, IOU_THRESHOLDS, "IoU")])

    def over_iou(
        self, limit: int = 1000, *, size: str = "all"
    ) -> Float[np.ndarray, " t"]:
        """Recall at each of `IOU_THRESHOLDS`; arguments as in `average`."""
        size_row = _position(size, tuple(SIZES), "size")
        return self.values[:, size_row, _position(limit, CURVE_LIMITS, "limit")]

    def over_limits(self, *, size: str = "all") -> Float[np.ndarray, " l"]:
        """Average recall at each of `CURVE_LIMITS`, of the objects of one size."""
        return self.values[:, _position(size, tuple(SIZES), "size")].mean(axis=0)


class Report(NamedTuple):
    """What `evaluate` finds.

    Attributes:
        coco: recall as COCO counts it: proposals choose objects, by score.
        detectron2: recall as detectron2 counts it: the closest pairs first.
        num_images: how many images were evaluated.
        num_objects: `[s]` objects that count, crowds excluded, for each of `SIZES`.
        num_proposals: how many proposals there were in all.
    """

    coco: Recall
    detectron2: Recall
    num_images: int
    num_objects: Int[np.ndarray, " s"]
    num_proposals: int

    def table(self) -> str:
        """Recall at each of `LIMITS`, as a Markdown table that is aligned for reading.

        Sizes without objects have a dash, and detectron2's finer ones no row.
        """
        header = ["recall", "objects", *(f"@{limit:,}" for limit in LIMITS)]
        ious = (("AR", None), ("IoU 0.50", 0.5), ("IoU 0.75", 0.75))
        rows = [self._row(self.coco, name, "all", iou) for name, iou in ious]
        bounds = (("small", " (to 32² px)"), ("medium", " (to 96² px)"), ("large", ""))
        rows += [self._row(self.coco, f"AR {size}{end}", size) for size, end in bounds]
        rows += [
            self._row(self.detectron2, f"AR {size}, detectron2", size)
            for size, number in zip(SIZES, self.num_objects, strict=True)
            if number
        ]
        return format_table([header, *rows])

    def as_dict(self) -> dict[str, Any]:
        """All of it in lists, numbers and strings, for JSON. NaN becomes None."""
        return {
            "num_images": self.num_images,
            "num_objects": dict(zip(SIZES, self.num_objects.tolist(), strict=True)),
            "num_proposals": self.num_proposals,
            "coco": _summary(self.coco),
            "detectron2": _summary(self.detectron2),
        }

    def _row(
        self, recall: Recall, name: str, size: str, iou: float | None = None
    ) -> list[str]:
        shares = [recall.average(limit, size=size, iou=iou) for limit in LIMITS]
        number = self.num_objects[tuple(SIZES).index(size)]
        cells = ["-" if np.isnan(share) else f"{share:.3f}" for share in shares]
        return [name, f"{number:,}", *cells]


def _summary(recall: Recall) -> dict[str, Any]:
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
    if wanted not in known:
        raise ValueError(
            f"Recall needs a {what} that was evaluated, got {wanted!r}. Pass one of "
            f"{known}."
        )
    return known.index(wanted)
