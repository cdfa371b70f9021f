"""Decides which annotated image gets which file.

Two images may find one file: because a set lists it twice, because two files were to
differ in their extension alone, or because one of two files is missing. A box must not
go to a picture that it was not drawn on. So the image whose name fits best gets the
file.
"""

import os
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

from .annotated import Annotated
from .image_folder import ImageFolder
from .problems import Problem, Problems

# The folder is chosen by looking for this number of images. More images make the choice
# surer, but each is a look-up in every candidate folder.
_PROBED = 20


class Claim(NamedTuple):
    """An annotated image that found a file.

    Attributes:
        image: the image.
        path: the file.
        position: position of the name in `image.names` by which the file was found.
        problem: the problem of that name, or None if the file is where the name says.
    """

    image: Annotated
    path: pathlib.Path
    position: int
    problem: Problem | None

    @property
    def doubt(self) -> tuple[int, bool, bool]:
        """How little the name fits the file; no doubt is `(0, False, False)`."""
        is_moved = self.problem is Problem.MOVED_FILE
        return (self.position, is_moved, self.problem is not None)


_NO_DOUBT = (0, False, False)


def choose_folder(
    annotated: Sequence[Annotated], folders: Sequence[ImageFolder]
) -> ImageFolder:
    """The folder that holds most of the probed images; the first of several.

    Args:
        annotated: the images.
        folders: the candidates.
    """
    # The probed images are spread over the whole list, because a part of the images may
    # be absent. The folders below are searched only if no image is where it should be.
    probed = annotated[:: max(len(annotated) // _PROBED, 1)]
    existing = [folder for folder in folders if folder.root.is_dir()]
    for elsewhere in (False, True):
        best, most = None, 0
        for folder in existing:
            found = (_claim(image, folder, elsewhere)[0] for image in probed)
            number = sum(claim is not None for claim in found)
            if number > most:
                best, most = folder, number
            if most == len(probed):
                break
        if best is not None:
            return best
    return folders[0]


def find_files(
    annotated: Sequence[Annotated], folder: ImageFolder, problems: Problems
) -> list[tuple[pathlib.Path, list[Annotated]]]:
    """Finds the files of annotated images.

    Args:
        annotated: the images.
        folder: the folder of the files.
        problems: counts the names with a problem, and what is left out.

    Returns:
        Each file with its image, in the order of `annotated`. Several images have one
        file if all of them name exactly that file.
    """
    claims: dict[str, list[Claim]] = {}
    for image in annotated:
        claim, problem = _claim(image, folder, elsewhere=True)
        if claim is None:
            _leave_out(image, problem or Problem.MISSING_FILE, problems)
        else:
            claims.setdefault(os.path.normpath(claim.path), []).append(claim)
    settled = (_settle(of_file, problems) for of_file in claims.values())
    return [(kept[0].path, [claim.image for claim in kept]) for kept in settled if kept]


def _claim(
    image: Annotated, folder: ImageFolder, elsewhere: bool
) -> tuple[Claim | None, Problem | None]:
    """Looks for the file by each possible name; the problem is that of the first."""
    first_problem: Problem | None = None
    for position, name in enumerate(image.names):
        path, problem = folder.find(name, elsewhere=elsewhere)
        if path is not None:
            return Claim(image, path, position, problem), None
        first_problem = first_problem or problem
    return None, first_problem


def _settle(claims: list[Claim], problems: Problems) -> list[Claim]:
    """The claims that are right, among all for one file."""
    least = min(claim.doubt for claim in claims)
    best = [claim for claim in claims if claim.doubt == least]
    for claim in claims:
        if claim.doubt != least:  # the file belongs to another image
            _leave_out(claim.image, Problem.MISSING_FILE, problems)
    if len(best) > 1 and least != _NO_DOUBT:
        for claim in best:
            _leave_out(claim.image, Problem.SHARED_FILE, problems)
        return []
    if best[0].problem is not None:
        problems.add(best[0].problem, best[0].image.names[0])
    problems.add(Problem.REPEATED_FILE, best[0].image.names[0], len(best) - 1)
    return best


def _leave_out(image: Annotated, problem: Problem, problems: Problems) -> None:
    problems.add(problem, image.names[0], boxes=len(image.boxes.corners))
