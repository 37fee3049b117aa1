"""Lines: files that act on what is written to them, a line at a time.

FUSE sends `flush` many times for one open file, and its `release` reports nothing: so a line acts
at its newline, and what goes wrong is the error of that write.
"""

import errno
from collections.abc import Callable, Mapping

from oanix import path as paths
from oanix.errors import fault
from oanix.kit.file import Handler, Opening, check_truncate
from oanix.node import WRITABLE, Handle

LINE_MAX = 65_536
"""Longest line in bytes, its newline not counted."""

Act = Callable[[str, Opening], bool]
"""Does what a line says; tells whether there was anything to do. Raises OSError."""

Verb = Callable[[str, Opening], None]
"""Does one command; the text is what follows the verb. Raises OSError."""


class LinesHandle(Handle):
    """An open file that acts on lines.

    A write of several lines does them in order, up to one that fails. When lines before it did
    something, the write ends there, as write(2) may: the answer is the number of bytes up to the
    failing line, and its error comes from the write that goes on with it (or from the close).
    Otherwise the write fails and nothing of it was done. Half a line waits for the next write;
    half a line at the last close does nothing, and `errstr` says so.
    """

    def __init__(self, opening: Opening, act: Act, longest: int = LINE_MAX) -> None:
        self._opening = opening
        self._act = act
        self._longest = longest
        self._half = bytearray()
        self._kept: tuple[bytes, Exception] | None = None

    def try_write(self, data: bytes, offset: int) -> int:
        self._raise_kept(data)
        done = 0
        acted = False
        while done < len(data):
            newline = data.find(b"\n", done)
            piece = data[done : newline + 1 or len(data)]
            try:
                acted |= self._take(piece)
            except Exception as error:
                self._half.clear()
                if not acted:
                    raise
                self._kept = piece, error
                return done
            done += len(piece)
        return done

    def _take(self, piece: bytes) -> bool:
        self._half += piece
        if len(self._half) > self._longest + 1 or (
            len(self._half) > self._longest and not piece.endswith(b"\n")
        ):
            raise fault(errno.EINVAL, f"a line has at most {self._longest} bytes")
        if b"\0" in piece:
            raise fault(errno.EINVAL, "a line is text and holds no NUL")
        if not piece.endswith(b"\n"):
            return False
        line = paths.decode(bytes(self._half[:-1]))
        self._half.clear()
        acted = self._act(line, self._opening)
        if acted:
            self._opening.file.written()
        return acted

    def _raise_kept(self, data: bytes | None = None) -> None:
        kept, self._kept = self._kept, None
        if kept is not None and (data is None or data.startswith(kept[0])):
            raise kept[1]

    def flush(self) -> None:
        """Report the error of a line whose write was not continued."""
        self._raise_kept()

    def truncate(self, size: int) -> None:
        check_truncate(size)

    def ready(self, wake: Callable[[], None] | None) -> int:
        return WRITABLE

    def close(self) -> None:
        if self._half:
            self._end(bytes(self._half))

    def _end(self, half: bytes) -> None:
        shown = paths.decode(half[:40])
        self._opening.complain(f"{shown!r} has no newline at its end, so it did nothing")


class MessageHandle(LinesHandle):
    """An open file that takes messages: one ends at its newline, or at the last close."""

    def _end(self, half: bytes) -> None:
        opening = self._opening
        try:
            if self._act(paths.decode(half), opening):
                opening.file.written()
        except Exception as error:
            opening.namespace.sentences.report(error, opening.caller, f"close {opening.file.name}")


class Lines(Handler):
    """A file that acts on each line at its newline."""

    writes = True

    def __init__(self, act: Act) -> None:
        self._act = act

    async def open(self, opening: Opening) -> Handle:
        return LinesHandle(opening, self._act)


class Ctl(Lines):
    """A file of commands: a verb, and what follows it, a line. Empty lines do nothing.

    Verbs are given with their functions; an unknown one is EINVAL with the list of those there are.
    """

    def __init__(self, verbs: Mapping[str, Verb]) -> None:
        super().__init__(self._command)
        self._verbs = verbs

    def _command(self, line: str, opening: Opening) -> bool:
        verb, argument = (*line.split(None, 1), "", "")[:2]
        if not verb:
            return False
        command = self._verbs.get(verb)
        if command is None:
            raise fault(
                errno.EINVAL, f"{verb[:40]!r} is no command; write one of: {', '.join(self._verbs)}"
            )
        command(argument.strip(), opening)
        return True


class Message(Handler):
    """A file that takes one message a line; the last may end with the file instead.

    The error of a message that ends with the file is found in `errstr`, and wherever the service
    keeps the outcome.
    """

    writes = True

    def __init__(self, take: Verb, longest: int = LINE_MAX) -> None:
        self._take = take
        self._longest = longest

    async def open(self, opening: Opening) -> Handle:
        return MessageHandle(opening, self._act, self._longest)

    def _act(self, line: str, opening: Opening) -> bool:
        self._take(line, opening)
        return True


def integer(text: str, least: int, most: int) -> int:
    """Read a number that was written as an argument. Raises OSError EINVAL."""
    digits = text.removeprefix("-")
    if digits.isascii() and digits.isdigit() and len(digits) < 40 and least <= int(text) <= most:
        return int(text)
    raise fault(errno.EINVAL, f"{text[:40]!r} is no number from {least} to {most}")


def no_argument(verb: Callable[[], object]) -> Verb:
    """Make the command that takes no argument from a function without one."""

    def command(argument: str, opening: Opening) -> None:
        if argument:
            raise fault(errno.EINVAL, f"this command stands alone; leave out {argument[:40]!r}")
        verb()

    return command
