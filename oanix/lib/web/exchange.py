"""Exchange: one answer, while it streams."""

import errno
from collections import deque
from collections.abc import Callable
from typing import Final

import trio
from attrs import define, field, frozen

from oanix.bell import Bell
from oanix.errors import fault
from oanix.lib.web.model import Headers
from oanix.node import READABLE, WOULD_BLOCK, WouldBlock

SMALL: Final = 4096
"""Pieces below this length are put together: a body may come in chunks of one byte."""


@frozen(eq=False)
class Head:
    """What is known of an answer before its body: all of it masked.

    url: where the answer is from in the end. length: of the body as it will be read, when that is
    known. elapsed_ms: from the request to the headers, redirects included.
    """

    status: int
    reason: str
    headers: Headers
    url: str
    http_version: str
    length: int | None
    elapsed_ms: int


@define(eq=False)
class Buffer:
    """The piece of a body between who receives it and who reads it.

    bound: when it holds so much, `room` waits until half is read. A reader gets what came before a
    failure, then the failure, every time.
    """

    bound: int
    bell: Bell = field(factory=Bell, init=False)
    ended: bool = field(default=False, init=False)
    error: OSError | None = field(default=None, init=False)
    held: int = field(default=0, init=False)
    _pieces: deque[bytes] = field(factory=deque, init=False)
    _skip: int = field(default=0, init=False)
    _emptied: Bell = field(factory=Bell, init=False)

    def put(self, piece: bytes) -> None:
        """Add a piece; never waits."""
        self.held += len(piece)
        if len(piece) < SMALL and self._pieces and len(self._pieces[-1]) < SMALL:
            self._pieces[-1] += piece
        else:
            self._pieces.append(piece)
        self.bell.ring()

    async def room(self) -> None:
        """Wait, when the buffer is full, until it is half empty. A checkpoint only then."""
        if self.held >= self.bound:
            while self.held > self.bound // 2:
                await self._emptied.wait()

    def end(self, error: OSError | None = None) -> None:
        """Say that nothing more comes, and why; the first to say it counts."""
        if not self.ended:
            self.ended, self.error = True, error
            self.bell.ring()

    def drop(self) -> None:
        """Throw away what is held."""
        self._pieces.clear()
        self.held = self._skip = 0
        self._emptied.ring()

    def take(self, size: int) -> bytes | WouldBlock:
        """Take up to size bytes; b"" is the end. Raises OSError."""
        if size <= 0:
            return b""
        if not self._pieces:
            if self.error is not None:
                raise self.error.with_traceback(None)
            return b"" if self.ended else WOULD_BLOCK
        taken = self._join(size)
        before, self.held = self.held, self.held - len(taken)
        half = self.bound // 2
        if before > half >= self.held:
            self._emptied.ring()
        return taken

    def _join(self, size: int) -> bytes:
        first, skip = self._pieces[0], self._skip
        if len(first) - skip > size:
            self._skip = skip + size
            return first[skip : self._skip]
        self._pieces.popleft()
        self._skip = 0
        taken = first[skip:] if skip else first
        if len(taken) == size or not self._pieces:
            return taken
        parts, left = [taken], size - len(taken)
        while left and self._pieces:
            piece = self._pieces[0]
            if len(piece) > left:
                self._skip = left
                parts.append(piece[:left])
                break
            parts.append(self._pieces.popleft())
            left -= len(piece)
        return b"".join(parts)


class Exchange:
    """One answer, while it streams.

    Its body is received by a task of the engine into a bounded buffer: who does not read stops the
    sender. It must be closed, or read to its end.
    """

    def __init__(self, head: Head, buffer: Buffer, scope: trio.CancelScope) -> None:
        self.head = head
        self.status = head.status
        self.reason = head.reason
        self.headers = head.headers
        self.url = head.url
        self.http_version = head.http_version
        self.length = head.length
        self.elapsed_ms = head.elapsed_ms
        self._buffer = buffer
        self._scope = scope
        self._closed = False

    def try_read(self, size: int) -> bytes | WouldBlock:
        """Read at once up to size bytes; b"" is the end.

        Raises OSError ETIMEDOUT, ECONNRESET, EPROTO, EMSGSIZE, and EBADF when it was closed.
        """
        self._check()
        return self._buffer.take(size)

    async def read(self, size: int) -> bytes:
        """Read, waiting for something to come. Raises as `try_read`; cancelled, nothing is taken.

        A checkpoint only when it waits.
        """
        while (taken := self.try_read(size)) is WOULD_BLOCK:
            await self._buffer.bell.wait()
        return taken

    def ready(self, wake: Callable[[], None] | None, key: object) -> int:
        """Say whether a read would not wait (poll(2)); else `wake` is called once when it may."""
        buffer = self._buffer
        if buffer.held or buffer.ended or self._closed:
            return READABLE
        if wake is not None:
            buffer.bell.listen(wake, key)
        return 0

    def forget(self, key: object) -> None:
        """Drop a `wake` that was not called."""
        self._buffer.bell.forget(key)

    def close(self) -> None:
        """Let go. A body that has not come whole is cancelled: its connection is closed."""
        if not self._closed:
            self._closed = True
            self._scope.cancel()
            self._buffer.drop()
            # Whoever still waits for it learns of the end.
            self._buffer.bell.ring()

    def _check(self) -> None:
        if self._closed:
            raise fault(errno.EBADF, "the exchange was closed")
