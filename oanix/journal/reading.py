"""Reading: the lines of a journal, oldest first, also while it is written."""

import os
from collections.abc import Iterator
from typing import NamedTuple

from oanix.journal.segments import numbers, segment


class Place(NamedTuple):
    """Where a line stands, for a person to look at; a tuple, as one is made for each line."""

    file: str
    line: int


def lines(folder: str) -> Iterator[tuple[Place, bytes]]:
    """Give each whole line, without its newline, and where it is. Raises OSError as open(2)."""
    return iter(Tail(folder))


class Tail:
    """Gives what is there, and at each further iteration what has come since.

    A line without its newline is given when it has one. A segment that is removed meanwhile (it was
    pruned) is passed over.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._number = 0
        self._line = 0
        self._offset = 0
        self.rest = 0
        """How many bytes of an unfinished line are at the end."""

    def __iter__(self) -> Iterator[tuple[Place, bytes]]:
        for number in numbers(self._folder):
            if number < self._number:
                continue
            if number > self._number:
                self._number, self._line, self._offset = number, 0, 0
            try:
                yield from self._segment(segment(self._folder, number))
            except FileNotFoundError:
                continue

    def _segment(self, path: str) -> Iterator[tuple[Place, bytes]]:
        with open(path, "rb") as file:
            file.seek(self._offset)
            self.rest = 0
            for line in file:
                if not line.endswith(b"\n"):
                    self.rest = len(line)
                    return
                self._line += 1
                self._offset += len(line)
                yield Place(path, self._line), line[:-1]


def size(folder: str) -> int:
    """Give the size of all segments, in bytes."""
    return sum(os.path.getsize(segment(folder, number)) for number in numbers(folder))
