"""History: the operations that made a namespace what it is, without those that were undone.

It is a stack: an operation that undoes the last ones takes them off, with the state as it was
before them. So each beginning of a history was once the whole of it, and replaying one makes the
same again.
"""

from collections.abc import Callable

from attrs import define, frozen

from oanix import path as paths
from oanix.recipe import Line
from oanix.table import Place


@frozen(eq=False)
class _Step:
    line: Line
    names: tuple[str, ...]
    before: Place


@define(eq=False)
class History:
    """Lines, oldest first, each with the mount table before it."""

    _steps: list[_Step]

    @classmethod
    def empty(cls) -> "History":
        """Make the history of a new namespace."""
        return cls([])

    def __len__(self) -> int:
        return len(self._steps)

    @property
    def lines(self) -> tuple[Line, ...]:
        """The lines of the recipe."""
        return tuple(step.line for step in self._steps)

    def add(self, line: Line, before: Place) -> None:
        """Take note of an operation that has just been done."""
        self._steps.append(_Step(line, paths.clean(line.changes), before))

    def undo(self, names: tuple[str, ...], same: Callable[[Place | None], bool]) -> Place | None:
        """Forget the last operations if all were done at this path or below it.

        Gives the mount table before them, or None when nothing was forgotten.
        same: whether what has been done now would have come to the same at an earlier moment, when
        the path had this place.
        """
        start = len(self._steps)
        while start and self._steps[start - 1].names[: len(names)] == names:
            start -= 1
        for index in range(start, len(self._steps)):
            before = self._steps[index].before
            if same(before.find(names)):
                del self._steps[index:]
                return before
        return None
