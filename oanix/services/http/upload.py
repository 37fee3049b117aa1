"""Upload: the body of a request, from the file `body` to the server.

What was written before the request began is sent with its length, and can be sent again. What
comes later streams through a bounded buffer: a writer waits for the server.
"""

import errno
from collections.abc import AsyncGenerator, Callable

from oanix.bell import Bell
from oanix.errors import fault
from oanix.node import WRITABLE

BUFFER = 1 << 20
"""Bytes that wait to be sent; a body of up to so many is sent with its length."""

CHUNK = 32_768
"""Bytes that are sent at once: few enough that a slow server makes room within a second."""


class Upload:
    """One body (`oanix.lib.web.Body`)."""

    def __init__(self, length: int | None = None) -> None:
        self.length = length
        self.replayable = False
        self.written = 0
        self.sent = 0
        self.complete = False
        self.error: OSError | None = None
        self.bell = Bell()
        self._waiting = bytearray()
        self._broken = False

    # The writer's side ---------------------------------------------------------------------------

    @property
    def room(self) -> int:
        """How many bytes a write can take now."""
        return BUFFER - (self.written - self.sent)

    def take(self, data: bytes) -> int:
        """Take as much as there is room for. Raises OSError EPIPE when it is over."""
        if self.error is not None:
            raise self.error
        if self.complete:
            raise fault(errno.EPIPE, "the request was sent, and its body ended there")
        if self.length is not None and self.written + len(data) > self.length:
            raise fault(
                errno.EFBIG, f"ctl said length {self.length}, and the body has more than that"
            )
        piece = data[: self.room]
        if piece:
            self._waiting += piece
            self.written += len(piece)
            self.bell.ring()
            if self.written == self.length:
                self.complete = True
        return len(piece)

    def promise(self, length: int | None) -> None:
        """Say how much it will be, before it is sent."""
        self.length = length
        self.complete = self.written == length

    def end(self) -> None:
        """Say that no more comes."""
        self.complete = True
        self.bell.ring()

    def fail(self, error: OSError) -> None:
        """Say that nobody takes any more: a writer gets this error."""
        if self.error is None:
            self.error = error
            self._broken = not self.complete
            self.bell.ring()

    def ready(self, wake: Callable[[], None] | None, key: object) -> int:
        """Say whether a write would wait."""
        if self.room or self.complete or self.error is not None:
            return WRITABLE
        if wake is not None:
            self.bell.listen(wake, key)
        return 0

    # The server's side ---------------------------------------------------------------------------

    def begin(self, *, whole: bool) -> None:
        """Have it sent from the start. whole: all of it was written, so its length is known.

        Raises OSError EINVAL for one that is gone, or ends before the length that was promised.
        """
        if self._broken or (self.sent and not self.replayable):
            raise fault(
                errno.EINVAL,
                "this body is gone, it was sent in part; write it again, or empty it (: > body)",
            )
        if whole:
            self._check_length()
            self.complete = True
            self.length = self.written
        self.replayable = self.complete
        self.sent = 0
        self.error = None

    def _check_length(self) -> None:
        if self.length is not None and self.written != self.length:
            raise fault(
                errno.EINVAL,
                f"ctl said length {self.length}, and {self.written} bytes were written to body",
            )

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Give what is to be sent, waiting for the writer. Raises OSError EPIPE when it is short.

        One that is replayable can be gone through again; a slow writer is the writer's affair.
        """
        if self.replayable:
            for at in range(0, self.written, CHUNK):
                self.sent = at
                yield bytes(self._waiting[at : at + CHUNK])
            self.sent = self.written
            return
        while (chunk := await self._next()) is not None:
            self.sent += len(chunk)
            self.bell.ring()
            yield chunk

    async def _next(self) -> bytes | None:
        while not self._waiting and not self.complete:
            await self.bell.wait()
        if self._waiting:
            chunk = bytes(self._waiting[:CHUNK])
            del self._waiting[:CHUNK]
            return chunk
        if self.length is not None and self.written != self.length:
            error = fault(
                errno.EPIPE, f"the body ended after {self.written} bytes of {self.length}"
            )
            self.fail(error)
            raise error
        return None

    @property
    def drained(self) -> bool:
        """Whether all of it is sent."""
        return self.complete and self.sent == self.written
