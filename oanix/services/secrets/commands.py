"""Commands: files of commands whose lines hold values, so that no error may repeat them."""

import errno
from collections.abc import Awaitable, Callable, Mapping

from oanix.errors import fault
from oanix.kit import Handler, Opening
from oanix.kit.lines import LinesHandle
from oanix.node import WOULD_BLOCK, Handle, WouldBlock

LINE_MAX = 65_536 + 16
"""A value of the greatest length, and the verb before it."""

Quick = Callable[[str], object]
"""Does a command at once, with what follows its verb."""

Slow = Callable[[str], Awaitable[object]]
"""Does a command that takes its time."""


def require_owner(opening: Opening, uid: int) -> None:
    """Refuse all but the owner. Raises OSError EPERM in a child's namespace, EACCES for another."""
    if opening.namespace.is_child:
        raise fault(
            errno.EPERM,
            "secrets are set in the owner's namespace; this one is a child's, which may use them "
            "and no more",
        )
    if opening.caller.uid != uid:
        raise fault(errno.EACCES, f"secrets are set by the user who runs the server (uid {uid})")


class Commands(Handler):
    """A file of commands for the owner. Of those that take their time, a write does one."""

    writes = True

    def __init__(
        self, uid: int, quick: Mapping[str, Quick], slow: Mapping[str, Slow] | None = None
    ) -> None:
        self._uid = uid
        self._quick = quick
        self._slow = slow or {}

    async def open(self, opening: Opening) -> Handle:
        require_owner(opening, self._uid)
        return _CommandsHandle(opening, self._quick, self._slow)


class _CommandsHandle(LinesHandle):
    """An open file of commands."""

    def __init__(
        self, opening: Opening, quick: Mapping[str, Quick], slow: Mapping[str, Slow]
    ) -> None:
        super().__init__(opening, self._command, LINE_MAX)
        self._quick = quick
        self._slow = slow
        self._done: str | None = None

    def try_write(self, data: bytes, offset: int) -> int | WouldBlock:  # type: ignore[override]
        """Do quick commands; WOULD_BLOCK before a slow one."""
        if self._slow_line(data) is not None:
            return WOULD_BLOCK
        return super().try_write(data, offset)

    async def write(self, data: bytes, offset: int) -> int:
        """Do commands, a slow one first. A cancelled write waits for it."""
        line = self._slow_line(data)
        if line is None:
            return super().try_write(data, offset)
        verb, argument = _split(line)
        try:
            await self._slow[verb](argument)
        except BaseException:
            self._half.clear()
            raise
        self._done = line
        try:
            return super().try_write(data, offset)
        finally:
            self._done = None

    def _slow_line(self, data: bytes) -> str | None:
        # The first line, when it is a slow one. Half lines of an earlier write count.
        if b"\n" not in data:
            return None
        whole = (bytes(self._half) + data).partition(b"\n")[0]
        line = whole.decode("utf-8", "surrogateescape")
        return line if _split(line)[0] in self._slow else None

    def _command(self, line: str, opening: Opening) -> bool:
        verb, argument = _split(line)
        if not verb:
            return False
        if line == self._done:
            self._done = None
        elif verb in self._slow:
            raise fault(errno.EINVAL, f"write {verb} in a write of its own")
        elif verb in self._quick:
            self._quick[verb](argument)
        else:
            # Not repeated: it may be a value that was written without its verb.
            known = ", ".join([*self._quick, *self._slow])
            raise fault(errno.EINVAL, f"the line begins with no command; write one of: {known}")
        return True

    def _end(self, half: bytes) -> None:
        self._opening.complain("the last line has no newline at its end, so it did nothing")


def _split(line: str) -> tuple[str, str]:
    verb, _, argument = line.strip(" \t").partition(" ")
    return verb, argument.strip(" \t")
