"""The problems that a data set can have, the rule for each, and a count of each."""

import collections
import enum

_EXAMPLES = 3  # number of files that a summary names per problem


class Problem(enum.StrEnum):
    """A problem, and the rule that the readers follow.

    >>> Problem("box has inverted corners: corners are exchanged").name
    'INVERTED_BOX'
    """

    NO_NAME = "image has no file name or no valid id: image is left out"
    REPEATED_IMAGE = "image is listed again under the same id: repetition is left out"
    REPEATED_FILE = "file is listed again under another id: its boxes join the first"
    SHARED_ID = "image id stands for several files: these images are left out"
    SHARED_FILE = "file is found for several images that name others: they are left out"
    OTHER_ID = "image id is not a whole number: image gets a free number"
    OUTSIDE_FOLDER = "file name leads out of the image folder: image is left out"
    URL_NAME = "file name is a URL, and the folder has no such file: image is left out"
    MISSING_FILE = "image file not found: image is left out"
    RENAMED_FILE = "image file has another extension or case: that file is used"
    OTHER_SPELLING = (
        "file name is in another Unicode form or percent-encoded: it is found"
    )
    MOVED_FILE = "image file lies in another folder than named: that file is used"
    BAD_FILE = "image file cannot be read: image is left out"
    LFS_POINTER = "file is a pointer of Git LFS (run `git lfs pull`): image is left out"
    TOO_LARGE = "image has more pixels than Pillow considers safe: image is left out"
    TRUNCATED_FILE = "image file ends early: its missing part is blank"
    UNDECODABLE_FILE = "image file ends too early to be decoded: it has no pixels"
    OTHER_SIZE = "annotated size differs from the file's: the file's size is used"
    TURNED = "box was drawn before EXIF turned the image: box is turned too"
    NO_BOX = "image has no object: image is kept as background"
    BAD_XML = "annotation file is damaged, not VOC or has XML entities: it is left out"
    MANY_IMAGES = "XML describes many images, which VOC's format cannot: it is left out"
    UNKNOWN_ENCODING = "XML is in an encoding that it does not declare: read as Latin-1"
    MISSING_XML = "image of the split has no annotation file: image is left out"
    UNLISTED_IMAGE = "annotation belongs to no listed image: annotation is left out"
    ZERO_BASED = "box counts pixels from 0 and not from 1 as in VOC: it is not shifted"
    NO_LABEL = "image has no label file: image is kept as background"
    BAD_LABEL = "label file cannot be read: its image is left out"
    SHARED_LABEL = "label file is that of several images: these images are left out"
    UNUSED_LABEL = "label file belongs to no image: it is left out"
    OTHER_LABEL = "label file has another case or place than usual: that file is used"
    DOWNLOAD = "`download` in the YAML is ignored: nothing is downloaded or executed"
    OTHER_PATH = "path in the YAML is not there: the folder that it may mean is used"
    MISSING_SPLIT = "folder or list of a split does not exist: it is left out"
    SAME_SPLIT = "splits name the same images: they are used as they are named"
    OTHER_COUNT = "`nc` differs from the number of `names`: the larger number counts"
    PIXELS = "box is in pixels, as most are, and not in fractions: it is used so"
    NO_FRACTION = "box is not in fractions of the image, as most are: box is left out"
    COMMAS = "line has commas or semicolons, between numbers or as points: it is read"
    MORE_COLUMNS = "line has confidence, track or keypoints too: its box alone is used"
    POLYGON = "line is a polygon: the box around it is used"
    UNKNOWN_CLASS = "class is not one of `names`: box is kept"
    BAD_CLASS = "class is neither a whole number nor a name: box is left out"
    BAD_BOX = "box is not four finite numbers: box is left out"
    INVERTED_BOX = "box has inverted corners: corners are exchanged"
    CLIPPED_BOX = "box reaches beyond the image: box is clipped"
    THIN_BOX = "box is at most one pixel wide or high in the image: box is left out"
    REPEATED_BOX = "box is listed again in the same category: repetition is left out"
    OTHER_AREA = "object has no area above 0: the area of its box is used"


# Each of these leaves out one box.
_LEAVES_OUT_A_BOX = (
    Problem.UNLISTED_IMAGE,
    Problem.NO_FRACTION,
    Problem.BAD_CLASS,
    Problem.BAD_BOX,
    Problem.THIN_BOX,
    Problem.REPEATED_BOX,
)


class Problems:
    """Counts what was repaired or left out, and keeps the first examples.

    Attributes:
        counts: number of times that each problem was met.
        lost_boxes: number of boxes that each problem left out, also those of images
            that were left out.

    >>> problems = Problems()
    >>> problems.add(Problem.MISSING_FILE, "photo.jpg")
    >>> problems.summary()
    ['1 x image file not found: image is left out (first in photo.jpg)']
    """

    def __init__(self) -> None:
        self.counts: collections.Counter[Problem] = collections.Counter()
        self.lost_boxes: collections.Counter[Problem] = collections.Counter()
        self._examples: dict[Problem, list[str]] = {}

    def add(
        self, problem: Problem, where: str, times: int = 1, *, boxes: int = 0
    ) -> None:
        """Counts a problem.

        Args:
            problem: the problem.
            where: the place, usually a file name, that may serve as an example.
            times: number of occurrences; 0 counts nothing.
            boxes: number of boxes that were left out because their image was.
        """
        if times <= 0:
            return
        self.counts[problem] += times
        if lost := times if problem in _LEAVES_OUT_A_BOX else boxes:
            self.lost_boxes[problem] += lost
        examples = self._examples.setdefault(problem, [])
        if len(examples) < _EXAMPLES and where not in examples:
            examples.append(where)

    def summary(self) -> list[str]:
        """One line per problem with its first examples, the most frequent first."""
        return [
            f"{times} x {problem}{self._with_boxes(problem)} "
            f"(first in {', '.join(self._examples[problem])})"
            for problem, times in self.counts.most_common()
        ]

    def _with_boxes(self, problem: Problem) -> str:
        """How many boxes were left out, unless the count of the problem says it."""
        lost = self.lost_boxes[problem]
        if problem in _LEAVES_OUT_A_BOX or not lost:
            return ""
        return f", with {lost} boxes" if lost > 1 else ", with 1 box"
