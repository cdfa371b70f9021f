"""A coordinate search for the sizes and ratios of anchors, among given candidates."""

from typing import NamedTuple

import numpy as np

from ..core._typing import Float, Int

_RECALL_WEIGHT = 1000.0  # so high that no gain in mean IoU makes up for lost recall
_MIN_GAIN = 1e-6  # a smaller gain is a rounding error

# The candidates that are chosen: indices of sizes, one per size of the configuration,
# and indices of ratios.
Choice = tuple[Int[np.ndarray, " i"], Int[np.ndarray, " j"]]


class Cover(NamedTuple):
    """The IoU of every box with every candidate.

    Attributes:
        iou: `[l o s r]` IoU of each box with the nearest anchor, by level, candidate
            size and candidate ratio.
        levels: `[i]` level of each size of the configuration, the finest stride first.
    """

    iou: Float[np.ndarray, "l o s r"]
    levels: Int[np.ndarray, " i"]

    def best(self, choice: Choice) -> Float[np.ndarray, " o"]:
        """The best IoU of each box with the anchors of a choice."""
        sizes, ratios = choice
        # With a slice between two index arrays, NumPy puts the indexed axis first. So
        # this is `[i o j]`: size, box, ratio.
        return self.iou[self.levels, :, sizes][:, :, ratios].max(axis=(0, 2))

    def by_size(self, choice: Choice, place: int) -> Float[np.ndarray, "o s"]:
        """The best IoU of each box for every candidate that could replace one size.

        Args:
            choice: the sizes and ratios as they are.
            place: the position in `choice` of the size to replace.
        """
        sizes, ratios = choice
        # `rest` is the best IoU with the sizes that stay, each on its level. The size
        # at `place` adds its IoU as each candidate, on its level.
        levels, others = (np.delete(x, place) for x in (self.levels, sizes))
        rest = self.iou[levels, :, others][:, :, ratios].max(axis=(0, 2), initial=0.0)
        moved = self.iou[self.levels[place]][:, :, ratios].max(axis=2)
        return np.maximum(moved, rest[:, None])

    def by_ratio(self, choice: Choice, place: int) -> Float[np.ndarray, "o r"]:
        """The best IoU of each box for every candidate that could replace one ratio.

        Args:
            choice: the sizes and ratios as they are.
            place: the position in `choice` of the ratio to replace.
        """
        sizes, ratios = choice
        # All sizes share the ratios, so each candidate has the best IoU over all sizes.
        by_candidate = self.iou[self.levels, :, sizes].max(axis=0)
        kept = np.delete(ratios, place)
        rest = by_candidate[:, kept].max(axis=1, initial=0.0)
        return np.maximum(by_candidate, rest[:, None])


class Score(NamedTuple):
    """Rates a choice: its mean best IoU, less a penalty for the recall that it loses.

    Attributes:
        ious: thresholds at which the recall must not fall.
        recalls: `[t]` recall of the given anchors at each threshold.
    """

    ious: tuple[float, ...]
    recalls: Float[np.ndarray, " t"]

    @classmethod
    def of(cls, best: Float[np.ndarray, " o"], ious: tuple[float, ...]) -> "Score":
        """Makes the score from the best IoU of each box with the given anchors."""
        return cls(ious, np.array([(best >= iou).mean() for iou in ious]))

    def __call__(self, best: Float[np.ndarray, "o c"]) -> Float[np.ndarray, " c"]:
        """The score of each candidate, from the best IoU of each box with it."""
        recalls = np.stack([(best >= iou).mean(axis=0) for iou in self.ious])
        lost = np.maximum(self.recalls[:, None] - recalls, 0.0).sum(axis=0)
        return best.mean(axis=0) - _RECALL_WEIGHT * lost


def separated(
    sizes: Int[np.ndarray, " i"], levels: Int[np.ndarray, " i"], number: int
) -> Int[np.ndarray, " i"]:
    """Moves chosen sizes so that they differ on each level, because anchors must.

    `climb` keeps them apart: a size that becomes equal to another one gains nothing.

    Args:
        sizes: ascending indices of candidates.
        levels: the level of each size; the sizes of a level are neighbours.
        number: number of candidates, more than there are neighbours on equal levels.

    Returns:
        Indices that ascend, and differ where the level is the same.
    """
    apart = sizes.copy()
    steps = (np.diff(levels) == 0).astype(int)
    for place, step in enumerate(steps, start=1):
        apart[place] = max(apart[place], apart[place - 1] + step)
    # What was moved beyond the last candidate comes back, and pushes those below it.
    apart[-1] = min(apart[-1], number - 1)
    for place in reversed(range(len(steps))):
        apart[place] = min(apart[place], apart[place + 1] - steps[place])
    return apart


def climb(cover: Cover, score: Score, start: Choice) -> tuple[float, Choice]:
    """Moves one size or ratio at a time to its best candidate, until none moves.

    Args:
        cover: the IoU of every box with every candidate.
        score: rates a choice.
        start: the choice to begin with, from `separated`.

    Returns:
        The score of the best choice found, and that choice.
    """
    # Each round tries to move every size and then every ratio once.
    sizes, ratios = (places.copy() for places in start)
    highest, before = float(score(cover.best(start)[:, None])[0]), -np.inf
    while highest > before:
        before = highest
        for place in range(len(sizes)):
            scores = score(cover.by_size((sizes, ratios), place))
            # A size stays between its neighbours, so that finer levels keep the smaller
            # sizes. Candidates ascend, so these are ranges of indices.
            if place > 0:
                scores[: sizes[place - 1]] = -np.inf
            if place + 1 < len(sizes):
                scores[sizes[place + 1] + 1 :] = -np.inf
            if scores.max() > highest + _MIN_GAIN:
                highest, sizes[place] = float(scores.max()), scores.argmax()
        for place in range(len(ratios)):
            scores = score(cover.by_ratio((sizes, ratios), place))
            if scores.max() > highest + _MIN_GAIN:
                highest, ratios[place] = float(scores.max()), scores.argmax()
    return highest, (sizes, ratios)
