"""A few items that are spread evenly over many."""

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def evenly_spaced(items: Sequence[T], number: int) -> list[T]:
    """Picks items at equal distances, beginning with the first.

    Args:
        items: the items to pick from.
        number: number of items to pick; all of them if there are fewer.

    Returns:
        The picked items, in their order.

    >>> evenly_spaced(range(10), 4)
    [0, 2, 5, 7]
    """
    number = min(number, len(items))
    return [items[i * len(items) // number] for i in range(number)]
