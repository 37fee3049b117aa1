"""Pipe: the standard input of a job, which others write and it reads (pipe(7))."""

import errno
import math
from collections import deque
from collections.abc import Callable
from typing import Final

from oanix.bell import Bell
from oanix.errors import fault
from oanix.node import READABLE, WOULD_BLOCK, WRITABLE, Handle, WouldBlock

HELD: Final = 65_536
"""Bytes that wait to be read; who writes more waits."""


class Pipe:
    """Bytes on their way. It ends when who wrote has closed, or with `end`."""

    def __init__(self) -> None:
        self._kept: deque[bytes] = deque()
        self._size = 0
        self._writers = 0
        self.ended = False
        self.bell = Bell()

    def put(self, data: bytes) -> int:
        """Take as much as there is room for; 0 when there is none. Raises OSError EPIPE."""
        if self.ended:
            raise fault(errno.EPIPE, "nothing reads this any more")
        taken = data[: HELD - self._size]
        if taken:
            self._kept.append(bytes(taken))
            self._size += len(taken)
            self.bell.ring()
        return len(taken)

    def get(self, size: int) -> bytes | None:
        """Give what is there; b"" at the end, None while there is nothing yet."""
        if not self._kept:
            return b"" if self.ended else None
        piece = self._kept.popleft()
        if len(piece) > size:
            self._kept.appendleft(piece[size:])
            piece = piece[:size]
        self._size -= len(piece)
        self.bell.ring()
        return piece

    @property
    def full(self) -> bool:
        """Whether a writer would wait."""
        return self._size >= HELD and not self.ended

    @property
    def waiting(self) -> bool:
        """Whether a reader would wait."""
        return not self._kept and not self.ended

    def end(self) -> None:
        """Take no more; what is there can still be read."""
        self.ended = True
        self.bell.ring()

    def join(self) -> None:
        """Count a writer."""
        self._writers += 1

    def part(self) -> None:
        """Count a writer less; with the last one it ends."""
        self._writers -= 1
        if not self._writers:
            self.end()


class PipeReader(Handle):
    """The job's end."""

    stream = True

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe

    def try_read(self, size: int, offset: int) -> bytes | WouldBlock:
        if size <= 0:
            return b""
        found = self._pipe.get(size)
        return WOULD_BLOCK if found is None else found

    async def read(self, size: int, offset: int) -> bytes:
        while (found := self.try_read(size, offset)) is WOULD_BLOCK:
            await self._pipe.bell.wait()
        return found

    def ready(self, wake: Callable[[], None] | None) -> int:
        if not self._pipe.waiting:
            return READABLE
        if wake is not None:
            self._pipe.bell.listen(wake, self)
        return 0

    def close(self) -> None:
        self._pipe.bell.forget(self)


class PipeWriter(Handle):
    """An end that others write.

    A write waits until the job reads or ends, however long that takes: a shell's `cat` would take
    an error for the end, and what it has not written were lost.
    """

    stream = True
    write_wait_s = math.inf

    def __init__(self, pipe: Pipe) -> None:
        if pipe.ended:
            raise fault(errno.EPIPE, "nothing reads this any more")
        self._pipe = pipe
        pipe.join()

    def try_write(self, data: bytes, offset: int) -> int | WouldBlock:
        if not data:
            return 0
        return self._pipe.put(data) or WOULD_BLOCK

    async def write(self, data: bytes, offset: int) -> int:
        while (taken := self.try_write(data, offset)) is WOULD_BLOCK:
            await self._pipe.bell.wait()
        return taken

    def truncate(self, size: int) -> None:
        if size:
            raise fault(errno.EINVAL, "this can be truncated to 0 and to no other size")

    def ready(self, wake: Callable[[], None] | None) -> int:
        if not self._pipe.full:
            return WRITABLE
        if wake is not None:
            self._pipe.bell.listen(wake, self)
        return 0

    def close(self) -> None:
        self._pipe.bell.forget(self)
        self._pipe.part()
