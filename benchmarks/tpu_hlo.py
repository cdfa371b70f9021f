"""Reads compiled programs: their stored arrays, and what travels between chips."""

import collections
import math
import re
from collections.abc import Iterable
from typing import NamedTuple

# Compiled HLO has one computation per block and one instruction per line.
COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.-]+) \(.*\) -> .*\{$")
INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?[\w.-]+ = (.*?) ([a-z][\w-]*)\(")
ARRAY = re.compile(r"\b[a-z]+\d*\w*\[([\d,]*)\]")
CALLEE = re.compile(r"(calls|to_apply|body|condition)=%?([\w.-]+)")
BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
# How many chips exchange: a list of them, a shape of groups, or an axis of the mesh.
GROUPS = re.compile(
    r"replica_groups=(?:\{\{([\d,]*)\}|\[\d+,(\d+)\]|mesh\['\w+'=(\d+)\])"
)
SIZED = re.compile(r"\b(pred|[a-z]+(\d+)\w*)\[([\d,]*)\]")
COLLECTIVES = (
    *("all-reduce", "all-gather", "reduce-scatter", "all-to-all"),
    "collective-permute",
)


class Collective(NamedTuple):
    """A collective of a compiled program.

    Attributes:
        kind: one of `COLLECTIVES`.
        num_bytes: size of its result on each chip.
        group: number of chips that exchange; None if all do.
        in_loop: whether it is in a loop.
        shapes: dimensions of its results.
    """

    kind: str
    num_bytes: int
    group: int | None
    in_loop: bool
    shapes: tuple[tuple[int, ...], ...]


def read_collectives(text: str) -> list[Collective]:
    """Every collective of a program.

    Args:
        text: the program as HLO text.
    """
    computations = _computations(text)
    looping = _reachable(computations, _loops(computations))
    return [
        _collective(instruction[1], instruction[2], line, name in looping)
        for name, lines in computations.items()
        for line in lines
        if (instruction := INSTRUCTION.match(line))
        and instruction[2].removesuffix("-start") in COLLECTIVES
    ]


def _collective(results: str, operation: str, line: str, in_loop: bool) -> Collective:
    arrays = []
    for name, bits, dimensions in SIZED.findall(results):
        shape = tuple(int(size) for size in dimensions.split(",") if size)
        arrays.append(
            (shape, math.prod(shape) * (1 if name == "pred" else int(bits) // 8))
        )
    # The start of a gather lists what it takes before what it gives.
    if operation in ("all-gather-start", "collective-permute-start"):
        arrays = arrays[len(arrays) // 2 :]
    groups = GROUPS.search(line)
    size = None
    if groups is not None:
        listed, *counts = groups.groups()
        size = int(next(filter(None, counts), 0)) or len(listed.split(","))
    return Collective(
        operation.removesuffix("-start"),
        sum(num_bytes for _, num_bytes in arrays),
        size,
        in_loop,
        tuple(shape for shape, _ in arrays),
    )


def _loops(computations: dict[str, list[str]]) -> list[str]:
    """The bodies and conditions of all loops."""
    return [
        callee
        for lines in computations.values()
        for line in lines
        for kind, callee in CALLEE.findall(line)
        if kind in ("body", "condition")
    ]


def largest_array(text: str, *, without: int) -> tuple[int, ...]:
    """Dimensions of the largest array in a compiled program's memory.

    Args:
        text: the program as HLO text.
        without: arrays with a dimension of this size are not considered.
    """
    computations = _computations(text)
    fused = {
        callee
        for lines in computations.values()
        for line in lines
        for kind, callee in CALLEE.findall(line)
        if kind == "calls" and " fusion(" in line
    }
    shapes = [
        tuple(int(size) for size in dimensions.split(",") if size)
        for name, lines in computations.items()
        if name not in fused
        for line in lines
        if (instruction := INSTRUCTION.match(line))
        for dimensions in ARRAY.findall(instruction[1])
    ]
    return max((shape for shape in shapes if without not in shape), key=math.prod)


def count_collectives(text: str) -> tuple[int, collections.Counter[str]]:
    """Counts the collectives in loops, and each collective in the whole program.

    Args:
        text: the program as HLO text.
    """
    computations = _computations(text)
    in_loops = _collectives(
        _reachable(computations, _loops(computations)), computations
    )
    return in_loops.total(), _collectives(computations, computations)


def _computations(text: str) -> dict[str, list[str]]:
    found, lines = {}, []
    for line in text.splitlines():
        if header := COMPUTATION.match(line):
            lines = found.setdefault(header[1], [])
        else:
            lines.append(line)
    return found


def _reachable(computations: dict[str, list[str]], roots: Iterable[str]) -> set[str]:
    seen, pending = set(), list(roots)
    while pending:
        name = pending.pop()
        if name in seen:
            continue
        seen.add(name)
        for line in computations.get(name, []):
            pending += [callee for _, callee in CALLEE.findall(line)]
            for names in BRANCHES.findall(line):
                pending += [branch.strip(" %") for branch in names.split(",")]
    return seen


def _collectives(
    names: Iterable[str], computations: dict[str, list[str]]
) -> collections.Counter[str]:
    operations = [
        instruction[2].removesuffix("-start")
        for name in names
        for line in computations.get(name, [])
        if (instruction := INSTRUCTION.match(line))
    ]
    return collections.Counter(name for name in operations if name in COLLECTIVES)
