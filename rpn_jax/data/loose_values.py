"""Reads numbers and truth values as annotation tools write them."""

import math
import re
from collections.abc import Sequence

_DECIMAL_COMMA = re.compile(r"\s*[+-]?\d+,\d+\s*")
_THOUSANDS = re.compile(r"\s*[+-]?\d{1,3},\d{3}\s*")
_TRUE = ("true", "yes")


def to_float(value: object) -> float:
    """Converts a number, or a text that holds one; anything else becomes NaN.

    Args:
        value: a value of JSON or a text of XML; a comma may stand for the point.
    """
    if isinstance(value, str) and _DECIMAL_COMMA.fullmatch(value):
        value = value.replace(",", ".")
    try:
        return float(value) if isinstance(value, str | int | float) else math.nan
    except (ValueError, OverflowError):
        return math.nan


def to_corners(values: Sequence[object]) -> list[float]:
    """Converts the four numbers of a box; all become NaN where one is in doubt.

    `1,234` beside `987` may be a thousand or one. Tools with decimal commas write them
    in all four numbers.

    Args:
        values: the numbers, or texts that hold them.
    """
    texts = [value for value in values if isinstance(value, str)]
    in_doubt = any(map(_THOUSANDS.fullmatch, texts))
    if in_doubt and not all("," in text for text in texts):
        return [math.nan] * len(values)
    return [to_float(value) for value in values]


def is_true(value: object) -> bool:
    """Whether a value is 1, `true` or `yes`, in any case.

    Args:
        value: a value of JSON or a text of XML.
    """
    if isinstance(value, str) and value.strip().lower() in _TRUE:
        return True
    return to_float(value) == 1.0
