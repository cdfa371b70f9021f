"""What can be wrong with a data set, what is done about it, and how often it was."""

import collections
import enum

_EXAMPLES = 3  # of each problem that a summary names


class Problem(enum.StrEnum):
    """What is wrong, and the rule that the readers follow."""

    NO_NAME = "image without a file name or with a damaged id: left out"
    REPEATED_IMAGE = "image listed again under the same id: left out"
    OTHER_ID = "image id is not a whole number: numbered anew"
    OUTSIDE_FOLDER = "file name leads out of the image folder: image left out"
    MISSING_FILE = "image file not found: image left out"
    RENAMED_FILE = "image file found with another extension or case: taken"
    BAD_FILE = "image file not readable: image left out"
    TOO_LARGE = "image has more pixels than Pillow deems safe: left out"
    OTHER_SIZE = "annotated image size is not the file's: the file's taken"
    TURNED = "boxes of an image that EXIF turns, drawn before: turned with it"
    NO_BOX = "image without an object: kept, as background"
    BAD_XML = "annotation file damaged, or with XML entities: image left out"
    MISSING_XML = "image of the split without an annotation file: left out"
    UNLISTED_IMAGE = "annotation of an image that is not listed: left out"
    BAD_BOX = "box is not four finite numbers: left out"
    INVERTED_BOX = "box inverted: its corners exchanged"
    CLIPPED_BOX = "box reaches beyond the image: clipped"
    THIN_BOX = "box at most one pixel wide or high in the image: left out"
    REPEATED_BOX = "box given twice for one category: once left out"
    OTHER_AREA = "area of an object missing or not above 0: that of its box taken"


class Problems:
    """Counts what had to be repaired or left out, and keeps the first examples.

    Attributes:
        counts: how often each problem was met.
    """

    def __init__(self) -> None:
        self.counts: collections.Counter[Problem] = collections.Counter()
        self._examples: dict[Problem, list[str]] = {}

    def add(self, problem: Problem, where: str, times: int = 1) -> None:
        """Counts a problem.

        Args:
            problem: what is wrong.
            where: in which file, as a rule.
            times: how often; 0 counts nothing.
        """
        if times <= 0:
            return
        self.counts[problem] += times
        examples = self._examples.setdefault(problem, [])
        if len(examples) < _EXAMPLES and where not in examples:
            examples.append(where)

    def summary(self) -> list[str]:
        """A line for each problem with its first examples, the most frequent first."""
        return [
            f"{times} x {problem} (first in {', '.join(self._examples[problem])})"
            for problem, times in self.counts.most_common()
        ]
