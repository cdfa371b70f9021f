"""What the ids in a COCO file mean.

Exporters write the id of one image as a number here and as a text there, or as a float.
`1`, `1.0`, `"1"` and `"001"` are one id, unless a file has two texts that mean one
number: then every text is an id of its own.
"""

import collections
import re
from collections.abc import Iterable

_LARGEST_ID = 2**63  # larger numbers do not fit 64 bits, and are replaced
_LARGEST_EXACT = 2**53  # several whole numbers become one float beyond this
_WHOLE = re.compile(r"[+-]?[0-9]{1,40}(\.0*)?")

# A whole number, or a text that means none.
Key = int | str


class ImageIds:
    """Reads the ids of one file.

    Args:
        written: the ids that the images have in the file.
    """

    def __init__(self, written: Iterable[object]) -> None:
        texts = {value.strip() for value in written if isinstance(value, str)}
        meanings = collections.Counter(map(_meaning, texts))
        self._spelled = {text for text in texts if meanings[_meaning(text)] > 1}

    def key(self, written: object) -> Key | None:
        """The whole number that an id means, otherwise its text; None if it is no id.

        Args:
            written: the id of an image, or the one that an annotation refers to.
        """
        if isinstance(written, str):
            text = written.strip()
            return text if text in self._spelled else _meaning(text)
        if isinstance(written, bool) or not isinstance(written, int | float):
            return None
        if isinstance(written, int):
            return written
        is_whole = written.is_integer() and abs(written) < _LARGEST_EXACT
        if is_whole:
            return int(written)
        return repr(written) if abs(written) < float("inf") else None


def number_of(key: Key) -> int | None:
    """The number of an image that has this key, or None if the key is no number.

    Args:
        key: a key of `ImageIds`.
    """
    return key if isinstance(key, int) and abs(key) < _LARGEST_ID else None


def _meaning(text: str) -> Key:
    """The whole number that a text holds, otherwise the text."""
    return int(text.partition(".")[0]) if _WHOLE.fullmatch(text) else text
