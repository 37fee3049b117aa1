"""Rule files: rules as the lines of a file, which count together and are kept on the disk.

FUSE tells of a close twice: with `flush`, which the closing program waits for and which comes at
other times, too, and with a release, which nobody waits for. So what was collected takes effect at
a flush already, as the first rules of a list are to be ones that can stand alone.
"""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from oanix import path as paths
from oanix.errors import fault
from oanix.kit.file import Opening
from oanix.kit.lines import LinesHandle
from oanix.kit.text import Snapshot
from oanix.node import READABLE, WRITABLE, Handle

OURS = "#: "
"""Begins the lines that reading a rule file adds: they are not part of it."""


class Rulebook(Protocol):
    """Where the rules of a file are."""

    @property
    def lines_max(self) -> int: ...
    @property
    def text_max(self) -> int: ...

    def check(self, line: str, number: int) -> bool:
        """Tell whether a line is a rule, and no comment. Raises OSError EINVAL."""

    def add(self, line: str) -> None:
        """Add a line at the end, durably. Raises OSError."""

    def replace(self, text: str) -> None:
        """Put other rules in place of these, durably. Raises OSError."""


Commit = Callable[[str], object]
"""Puts rules in place. Raises OSError, with nothing changed."""


def open_rules(opening: Opening, book: Rulebook, shown: Snapshot) -> Handle:
    """Open a file of rules: `>` replaces them all, `>>` adds lines, each at its newline."""
    if not opening.writes:
        return shown
    before = shown if opening.reads else None
    if opening.flags & os.O_TRUNC:
        return CollectingRules(opening, book, book.replace, before)
    adding = _Adding(opening, book, before)
    return _Undecided(adding, lambda: CollectingRules(opening, book, book.replace, before))


class _Undecided(Handle):
    """An open file that adds lines, until it is truncated before the first: then it collects.

    Some editors (vim) open without O_TRUNC and truncate then what they replace.
    """

    def __init__(self, adding: "_Adding", collecting: Callable[[], "CollectingRules"]) -> None:
        self._now: _RulesHandle = adding
        self._adding = adding
        self._collecting = collecting

    def truncate(self, size: int) -> None:
        """Empty it. Raises OSError EINVAL for another size, and once a line was added."""
        self._now.truncate(size)
        if self._now is not self._adding:
            return
        if self._adding.began:
            raise fault(
                errno.EINVAL, "what was added counts already; to replace the rules, open it with >"
            )
        self._now = self._collecting()

    def try_read(self, size: int, offset: int) -> bytes:
        return self._now.try_read(size, offset)

    def try_write(self, data: bytes, offset: int) -> int:
        return self._now.try_write(data, offset)

    def ready(self, wake: object) -> int:
        return self._now.ready(wake)

    def flush(self) -> None:
        self._now.flush()

    def close(self) -> None:
        self._now.close()


class _RulesHandle(LinesHandle):
    def __init__(
        self, opening: Opening, act: Callable[[str, Opening], bool], before: Snapshot | None
    ) -> None:
        super().__init__(opening, act)
        self._before = before

    def try_read(self, size: int, offset: int) -> bytes:
        if self._before is None:
            return b""
        return self._before.try_read(size, offset)

    def ready(self, wake: object) -> int:
        return READABLE | WRITABLE


class _Adding(_RulesHandle):
    """Adds each line at its newline (`>>`)."""

    def __init__(self, opening: Opening, book: Rulebook, before: Snapshot | None) -> None:
        super().__init__(opening, self._add, before)
        self._book = book
        self._count = 0

    @property
    def began(self) -> bool:
        """Whether anything was written."""
        return bool(self._count or self._half)

    def _add(self, line: str, opening: Opening) -> bool:
        self._count += 1
        if not line.strip() or line.startswith(OURS):
            return False
        self._book.check(line, self._count)
        self._book.add(line)
        return True


class CollectingRules(_RulesHandle):
    """Collects lines, and puts them in place together; when one is no rule, none of them.

    An open file to which nothing was written changes nothing: a program that failed before its
    first line must not take all rules away. A comment is something.
    """

    def __init__(
        self, opening: Opening, book: Rulebook, commit: Commit, before: Snapshot | None
    ) -> None:
        super().__init__(opening, self._collect, before)
        self._book = book
        self._commit = commit
        self._lines: list[str] = []
        self._size = 0
        self._rules = 0
        self._done = 0
        self._refused: OSError | None = None

    def _collect(self, line: str, opening: Opening) -> bool:
        if self._refused is not None:
            raise fault(
                self._refused.errno or 0, f"nothing is changed, as {self._refused.strerror}"
            )
        try:
            self._rules += self._book.check(line, len(self._lines) + 1)
            self._size += len(line) + 1
            if self._size > self._book.text_max or self._rules > self._book.lines_max:
                raise fault(
                    errno.EINVAL,
                    f"a policy has at most {self._book.text_max} characters and "
                    f"{self._book.lines_max} rules",
                )
        except OSError as error:
            self._refused = error
            raise
        # Lines of ours are kept as empty ones, so that errors name the line that was written.
        self._lines.append("" if line.startswith(OURS) else line)
        return True

    def truncate(self, size: int) -> None:
        super().truncate(size)
        self._lines.clear()
        self._size = self._rules = self._done = 0

    def flush(self) -> None:
        """Put the rules in place: whoever closes the file waits for this, and for its error."""
        super().flush()
        if self._rules:
            self._put()

    def close(self) -> None:
        opening = self._opening
        try:
            if self._half:
                self._collect(paths.decode(bytes(self._half)), opening)
            self._put()
        except OSError as error:
            opening.namespace.sentences.report(error, opening.caller, f"close {opening.file.name}")

    def _put(self) -> None:
        if self._refused is None and self._done < len(self._lines):
            self._commit("".join(f"{line}\n" for line in self._lines))
            self._done = len(self._lines)


def save_rules(path: Path, text: str, *, keep_broken: bool = False) -> None:
    """Write rules to a file so that a crash leaves the old ones or these. Raises OSError.

    keep_broken: what is there could not be read; somebody wrote it, and may want to mend it.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.new")
    with open(fresh, "w", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    if keep_broken and path.exists():
        kept = path.with_name(f"{path.name}.broken")
        kept.unlink(missing_ok=True)
        os.link(path, kept)
    os.replace(fresh, path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
