"""Divides objects by their category: those to train on, and those that are held out.

Training sees no box of the other categories, as in OLN ("Learning Open-World Object
Proposals without Learning to Classify" by Kim et al., https://arxiv.org/abs/2108.06753)
and its code. So its objects are plain background; `others="ignored"` makes them ignored
regions instead. Images that hold objects of other categories alone are left out, as
there.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from .image_source import (
    Decoded,
    GroundTruth,
    ImageLibrary,
    ImageSource,
    OpenedImage,
    is_endless,
    open_from,
)
from .open import Subset

Others = Literal["background", "ignored"]


class CategorySplit(NamedTuple):
    """The numbers of two groups of categories that share none.

    Attributes:
        seen: the categories to train on.
        unseen: the categories that are held out.

    >>> from rpn_jax.data import split_categories
    >>> split = split_categories({1: "cat", 2: "dog"}, train=["cat"], test=None)
    >>> sorted(split.seen), sorted(split.unseen)
    ([1], [2])
    """

    seen: frozenset[int]
    unseen: frozenset[int]


def split_categories(
    categories: Mapping[int, str],
    train: Sequence[str] | None,
    test: Sequence[str] | None,
) -> CategorySplit | None:
    """Finds the categories of both groups in a data set.

    Args:
        categories: the names of the data set's categories by their numbers.
        train: names or numbers of the categories to train on. None takes all that are
            not in `test`.
        test: names or numbers of the categories that are held out. None takes all that
            are not in `train`.

    Returns:
        The numbers of both groups, or None if neither is given. A name that the data
        set does not have is left out; `check_categories` refuses it.

    Raises:
        ValueError: a category is in both groups.

    >>> split_categories({1: "cat", 2: "dog"}, train=None, test=["dog"]).seen
    frozenset({1})
    """
    if train is None and test is None:
        return None
    everything = frozenset(categories)
    seen, unseen = (_numbers(categories, names or ()) for names in (train, test))
    if train is None:
        seen = everything - unseen
    elif test is None:
        unseen = everything - seen
    if both := sorted(categories[number] for number in seen & unseen):
        raise ValueError(
            "train_categories and test_categories need to share no category, got "
            f"{', '.join(both)} in both. Leave it in one of them."
        )
    return CategorySplit(seen, unseen)


def check_categories(
    wanted: Sequence[str] | None, sources: Sequence[ImageSource]
) -> None:
    """Raises an error unless every category is in one of several data sets.

    Args:
        wanted: names or numbers of categories; None is always right.
        sources: the data sets.

    Raises:
        ValueError: a category is in none of them; the message lists those that are.

    >>> from rpn_jax.data import Scenes
    >>> check_categories(["star"], [Scenes()])
    """
    known = [source.categories for source in sources]
    for text in wanted or ():
        if not any(_numbers(categories, [text]) for categories in known):
            names = dict.fromkeys(name for of_set in known for name in of_set.values())
            choice = f"one of {', '.join(names)}" if names else "data that has any"
            raise ValueError(
                f"A category needs to be in the data, got {text!r}. Choose {choice}."
            )


class OfCategories(ImageSource):
    """A source in which only the objects of some categories are objects.

    Args:
        source: the other source.
        kept: the numbers of the categories whose boxes stay as they are.
        others: whether boxes of other categories, and boxes without one, are left out
            (`"background"`) or become ignored regions (`"ignored"`).
    """

    def __init__(
        self, source: ImageSource, kept: frozenset[int], others: Others
    ) -> None:
        self._source, self._kept, self._others = source, kept, others
        self.problems, self.categories = source.problems, source.categories
        self.image_sizes, self.num_boxes = source.image_sizes, source.num_boxes
        self.left_out = [self._divided(truth) for truth in source.left_out]

    def __reduce__(self) -> tuple[type["OfCategories"], tuple[Any, ...]]:
        """A copy in another process; the sizes of endless images are not sent."""
        return OfCategories, (self._source, self._kept, self._others)

    def __len__(self) -> int:
        return len(self._source)

    def truth(self, row: int) -> GroundTruth:
        """The boxes of an image."""
        return self._divided(self._source.truth(row))

    def decode(self, row: int) -> Decoded:
        """The pixels of an image.

        Raises:
            ImageError: the image cannot be decoded.
        """
        return self._source.decode(row)

    def open_image(
        self,
        row: int,
        least: tuple[int, int] | None = None,
        library: ImageLibrary = "pillow",
    ) -> OpenedImage:
        """An image, perhaps decoded at a reduced scale; see `ImageSource`."""
        return open_from(self._source, row, least, library)

    def _divided(self, truth: GroundTruth) -> GroundTruth:
        is_kept = truth.in_categories(self._kept)
        if self._others == "ignored":
            return truth._replace(is_ignored=truth.is_ignored | ~is_kept)
        of_boxes = ("boxes", "is_ignored", "areas", "categories")
        columns = {name: getattr(truth, name) for name in of_boxes}
        kept = {k: v[is_kept] for k, v in columns.items() if v is not None}
        return truth._replace(**kept)


def only_seen(source: ImageSource, split: CategorySplit, others: Others) -> ImageSource:
    """The images to train on, with objects of the seen categories alone.

    Args:
        source: all images.
        split: the groups of categories.
        others: what boxes of other categories become.

    Returns:
        A source without the images that have objects, but none of a seen category. An
        endless source keeps such images as background.

    Raises:
        ValueError: no image has an object of a seen category.

    >>> from rpn_jax.data import Scenes
    >>> scenes = Scenes(num_images=20)
    >>> split = split_categories(scenes.categories, train=["star"], test=None)
    >>> len(only_seen(scenes, split, "background")) < 20
    True
    """
    seen = OfCategories(source, split.seen, others)
    if is_endless(source):
        return seen
    has_object = _have_object(source)
    has_seen = _have_object(seen)
    if not has_seen.any():
        names = [source.categories[number] for number in sorted(split.seen)]
        raise ValueError(
            "Training needs an object of a category to train on, which is one of "
            f"{names}, got none in {len(source)} images. Choose others with "
            "--train-categories or --test-categories."
        )
    return Subset(seen, np.flatnonzero(has_seen | ~has_object).tolist())


def only_evaluated(source: ImageSource, split: CategorySplit) -> ImageSource:
    """The images to evaluate on; objects of neither group become ignored regions.

    Args:
        source: all images.
        split: the groups of categories.

    >>> from rpn_jax.data import Scenes
    >>> scenes = Scenes(num_images=20)
    >>> split = split_categories(scenes.categories, train=["star"], test=None)
    >>> len(only_evaluated(scenes, split))
    20
    """
    return OfCategories(source, split.seen | split.unseen, "ignored")


def _have_object(source: ImageSource) -> np.ndarray:
    truths = map(source.truth, range(len(source)))
    return np.array([bool((~truth.is_ignored).any()) for truth in truths])


def _numbers(categories: Mapping[int, str], wanted: Sequence[str]) -> frozenset[int]:
    """The numbers of categories that are given by their names, in any case, or numbers.

    The exact name comes first, then the number, then the name in another case.
    """
    found: set[int] = set()
    for text in wanted:
        named = {n for n, name in categories.items() if name == text}
        numbered = {n for n in categories if str(n) == text}
        alike = {n for n, name in categories.items() if name.lower() == text.lower()}
        found |= named or numbered or alike
    return frozenset(found)
