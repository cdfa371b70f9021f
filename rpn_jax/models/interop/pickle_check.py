"""Refuses pickles that would crash Python or fill its memory, before they are run.

Python trusts a pickle in three ways. It makes room for every length that is declared,
and for all numbers up to the largest one under which an object is stored. And it
computes the hash of nested tuples by recursion, without a limit.
"""

import io
import pickle
import pickletools
from typing import Any, BinaryIO, cast

_STORES = {"PUT", "BINPUT", "LONG_BINPUT"}
_LOADS = {"GET", "BINGET", "LONG_BINGET"}
_DEEPER = {"TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "FROZENSET"}
# The results of these may be one of their arguments.
_CALLS = {"REDUCE", "NEWOBJ", "NEWOBJ_EX", "INST", "OBJ", "BUILD"}
# Tensors in the state of an optimizer are about ten tuples deep.
_MAX_DEPTH = 100


def check_pickle(file: BinaryIO) -> None:
    """Refuses a hostile or damaged pickle.

    Args:
        file: the pickle, opened for reading bytes at its start, where it is left.

    Raises:
        Exception: the pickle is damaged. It may be of any type.
    """
    start, depths = file.tell(), _Depths()
    opcodes = pickletools.genops(cast(BinaryIO, _Bounded(file)))
    for number, (opcode, argument, _) in enumerate(opcodes):
        # Picklers count the objects that they store from 0 or 1.
        if opcode.name in _STORES and not 0 <= int(argument or 0) <= number + 1:
            raise pickle.UnpicklingError("it stores an object under a wild number")
        if depths.run(opcode, argument) > _MAX_DEPTH:
            raise pickle.UnpicklingError(f"its tuples are over {_MAX_DEPTH} deep")
    file.seek(start)


class _Depths:
    """Runs a pickle with numbers for objects: how deep tuples are nested in them."""

    def __init__(self) -> None:
        self._stack: list[int] = []
        self._marks: list[int] = []
        self._stored: dict[int, int] = {}

    def run(self, opcode: pickletools.OpcodeInfo, argument: Any) -> int:
        """Runs an opcode, and returns the depth of its result."""
        name = opcode.name
        if name in _STORES or name == "MEMOIZE":
            number = len(self._stored) if name == "MEMOIZE" else int(argument)
            self._stored[number] = self._stack[-1]
            return 0
        if name == "MARK":
            self._marks.append(len(self._stack))
            return 0
        deepest = max(self._pop(opcode), default=0)
        result = 0
        if name in _LOADS:
            result = self._stored[int(argument)]
        elif name in _DEEPER:
            result = deepest + 1
        elif name in _CALLS or name == "DUP":
            result = deepest
        self._stack += [result] * len(opcode.stack_after)
        return result

    def _pop(self, opcode: pickletools.OpcodeInfo) -> list[int]:
        """Takes what an opcode needs from the stack."""
        before = opcode.stack_before
        number = len(before)
        if pickletools.markobject in before:
            below = before.index(pickletools.markobject)
            number = len(self._stack) - self._marks.pop() + below
        elif opcode.name == "POP" and self._marks[-1:] == [len(self._stack)]:
            self._marks.pop()
            number = 0
        if number > len(self._stack):
            raise pickle.UnpicklingError("it takes more from its stack than is there")
        popped = self._stack[len(self._stack) - number :]
        del self._stack[len(self._stack) - number :]
        return popped


class _Bounded:
    """A file that is never asked for more bytes than it has."""

    def __init__(self, file: BinaryIO) -> None:
        self.tell, self.readline = file.tell, file.readline
        self._file, start = file, file.tell()
        self._end = file.seek(0, io.SEEK_END)
        file.seek(start)

    def read(self, number: int) -> bytes:
        """At most `number` bytes."""
        return self._file.read(min(number, self._end - self._file.tell()))
