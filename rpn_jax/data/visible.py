"""Which part of a box is visible in a frame, beside rectangles that cover it."""

import numpy as np
from jaxtyping import Bool, Float


def visible_parts(
    boxes: Float[np.ndarray, "m 4"],
    frame: Float[np.ndarray, "4"],
    covers: Float[np.ndarray, "k 4"],
) -> tuple[Float[np.ndarray, "m 4"], Float[np.ndarray, " m"]]:
    """Finds the visible part of every box.

    Args:
        boxes: `(x0, y0, x1, y1)` with ordered corners.
        frame: nothing outside this rectangle is visible.
        covers: rectangles that hide what lies in them; they may overlap.

    Returns:
        The bounding box of each box's visible part, and the share of its area that is
        visible. The share of a box without area is 0.

    >>> import numpy as np
    >>> frame, covers = np.array([0.0, 0, 10, 10]), np.array([[5.0, 0, 10, 5]])
    >>> parts, shares = visible_parts(np.array([[4.0, 0, 12, 4]]), frame, covers)
    >>> parts.tolist(), shares.tolist()
    ([[4.0, 0.0, 5.0, 4.0]], [0.125])
    """
    clipped = np.clip(boxes, np.tile(frame[:2], 2), np.tile(frame[2:], 2))
    visible, areas = clipped.copy(), _areas(clipped)
    for number in np.flatnonzero(_meet(clipped, covers)):
        visible[number], areas[number] = _uncovered(clipped[number], covers)
    whole = _areas(boxes)
    return visible, areas / np.where(whole > 0.0, whole, np.inf)


def cover_shares(
    boxes: Float[np.ndarray, "m 4"], cover: Float[np.ndarray, "4"]
) -> Float[np.ndarray, " m"]:
    """The share of each box's area that lies in one rectangle.

    Args:
        boxes: `(x0, y0, x1, y1)` with ordered corners.
        cover: the rectangle.
    """
    return visible_parts(boxes, cover, np.zeros((0, 4)))[1]


def _areas(boxes: Float[np.ndarray, "m 4"]) -> Float[np.ndarray, " m"]:
    return (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)


def _meet(
    boxes: Float[np.ndarray, "m 4"], covers: Float[np.ndarray, "k 4"]
) -> Bool[np.ndarray, " m"]:
    """Whether a box and any of the covers have a common area."""
    low = np.maximum(boxes[:, None, :2], covers[:, :2])
    high = np.minimum(boxes[:, None, 2:], covers[:, 2:])
    return np.any(np.all(high > low, axis=-1), axis=-1)


def _uncovered(
    box: Float[np.ndarray, "4"], covers: Float[np.ndarray, "k 4"]
) -> tuple[Float[np.ndarray, "4"], float]:
    """The bounding box and the area of what the covers leave of a box."""
    # The edges of the covers divide the box into cells, and each cell is covered as a
    # whole or not at all. So the centre of a cell decides.
    x = np.unique(np.clip(np.append(covers[:, ::2], box[::2]), box[0], box[2]))
    y = np.unique(np.clip(np.append(covers[:, 1::2], box[1::2]), box[1], box[3]))
    center_x, center_y = (x[1:] + x[:-1]) / 2, (y[1:] + y[:-1]) / 2
    in_x = (covers[:, :1] < center_x) & (center_x < covers[:, 2:3])
    in_y = (covers[:, 1:2] < center_y) & (center_y < covers[:, 3:])
    is_free = ~np.any(in_y[:, :, None] & in_x[:, None, :], axis=0)
    area = float((np.outer(np.diff(y), np.diff(x)) * is_free).sum())
    if area == 0.0:
        return box, 0.0
    columns = np.flatnonzero(np.any(is_free, axis=0))
    rows = np.flatnonzero(np.any(is_free, axis=1))
    corners = [x[columns[0]], y[rows[0]], x[columns[-1] + 1], y[rows[-1] + 1]]
    return np.array(corners), area
