"""Body: one answer's body, which streams, for readers that name offsets.

What was read last is kept, so that programs that look at a place twice (tar, tail, a second `cat`
of a short answer) are served, and reads that come a little out of order, too. A place that is not
kept is reached by a new request where the body can be asked for again.
"""

import errno
from collections.abc import Awaitable, Callable
from typing import Protocol

import trio

from oanix.errors import fault
from oanix.node import READABLE, WOULD_BLOCK, Handle, WouldBlock
from oanix.services.http.window import SIZE as WINDOW
from oanix.services.http.window import Window

AHEAD = 4 * WINDOW
"""A seek further ahead than this asks anew where the server can send a part."""

RESTARTS = 3
"""How often one open file asks anew."""


class Source(Protocol):
    """Where a body comes from (`oanix.lib.web.Exchange`)."""

    @property
    def length(self) -> int | None: ...
    def try_read(self, size: int) -> bytes | WouldBlock: ...
    async def read(self, size: int) -> bytes: ...
    def ready(self, wake: Callable[[], None] | None, key: object) -> int: ...
    def forget(self, key: object) -> None: ...
    def close(self) -> None: ...


class Again(Protocol):
    """How to ask for a body again."""

    parts: bool
    """Whether the server can send a part of it."""

    async def __call__(self, offset: int) -> tuple[Source, int]:
        """Ask, and say where the new body begins: at this offset or at 0. Raises OSError."""


class Body:
    """A body and its last bytes. Reads of several tasks are served in turn.

    at_end: called once with None at the end of the body, or with the error that ended it.
    let_go: called instead of closing what was read to its end.
    """

    def __init__(
        self,
        source: Source,
        again: Again | None = None,
        at_end: Callable[[OSError | None], object] | None = None,
        *,
        let_go: Callable[[Source], object] | None = None,
    ) -> None:
        self.length = source.length
        self.ended = self.length == 0
        self._source = source
        self._again = again
        self._at_end = at_end
        self._let_go = let_go
        self._window = Window()
        self._restarts = RESTARTS
        self._turn = trio.Lock()
        self._error: OSError | None = None
        self._cut_off = False
        if self.ended:
            self._finish(None)

    @property
    def position(self) -> int:
        """How many bytes have come."""
        return self._window.end

    # Reading -------------------------------------------------------------------------------------

    def try_read(self, size: int, offset: int) -> bytes | WouldBlock:
        """Read at once. A body of known length fills its reads, another gives what is there."""
        if size < 0 or offset < 0:
            raise fault(errno.EINVAL, "sizes and offsets are not negative")
        end = self._wanted(size, offset)
        while not self._has(offset, end):
            if self._error is not None:
                raise self._error.with_traceback(None)
            if self._turn.locked() or self._must_ask(offset):
                return WOULD_BLOCK
            try:
                piece = self._source.try_read(self._step(offset, end))
            except OSError as error:
                self._finish(error)
                continue
            if piece is WOULD_BLOCK:
                return WOULD_BLOCK
            self._keep(piece)
        return self._window.get(offset, end)

    async def read(self, size: int, offset: int) -> bytes:
        """Read, waiting for the peer. A cancelled read has taken nothing.

        Raises OSError: ESPIPE for what is neither kept nor to be had again, and what the peer did.
        """
        while (answer := self.try_read(size, offset)) is WOULD_BLOCK:
            async with self._turn:
                await self._advance(offset, self._wanted(size, offset))
        return answer

    async def _advance(self, offset: int, end: int) -> None:
        # One step towards what is wanted: another reader may have come further meanwhile.
        if self._has(offset, end):
            return
        if self._must_ask(offset):
            await self._ask_again(offset)
            return
        try:
            piece = await self._source.read(self._step(offset, end))
        except OSError as error:
            self._finish(error)
            return
        self._keep(piece)

    def _wanted(self, size: int, offset: int) -> int:
        end = offset + min(size, WINDOW)
        if self.length is not None:
            return min(end, self.length)
        return end

    def _has(self, offset: int, end: int) -> bool:
        # Whether a read can be answered from what is kept, the end of the body included.
        if end <= offset or (self.ended and offset >= self._window.start):
            return True
        if not self._window.start <= offset < self.position:
            return False
        return end <= self.position or self.length is None or self._error is not None

    def _step(self, offset: int, end: int) -> int:
        # Never beyond what is wanted: the window has room for that, and for no more.
        return min(WINDOW, (offset if self.position < offset else end) - self.position)

    def _must_ask(self, offset: int) -> bool:
        return offset < self._window.start or self._cut_off or self._far(offset)

    def _far(self, offset: int) -> bool:
        return (
            offset > self.position + AHEAD
            and self._again is not None
            and self._again.parts
            and self._restarts > 0
            and not self.ended
        )

    # What comes in -------------------------------------------------------------------------------

    def _keep(self, piece: bytes) -> None:
        if not piece:
            self._finish(None)
            return
        self._window.add(piece)
        if self.position == self.length:
            self._finish(None)

    def _finish(self, error: OSError | None) -> None:
        # The first error counts: what was closed says so itself, and only that.
        if error is None:
            self.ended = True
        elif self._error is None:
            self._error = error
        at_end, self._at_end = self._at_end, None
        if at_end is not None:
            at_end(error)

    # Asking again --------------------------------------------------------------------------------

    async def _ask_again(self, offset: int) -> None:
        if self._again is None or not self._restarts:
            raise self._lost(offset)
        self._restarts -= 1
        # First: the new request may wait for the turn that this one holds.
        self._source.close()
        self._cut_off = True
        source, begins = await self._again(offset)
        self._source = source
        self._cut_off = False
        self._window.begin(begins)
        self.ended = False
        self._error = None

    def _lost(self, offset: int) -> OSError:
        reason = "it was asked for again too often" if self._again else "it is not asked for again"
        return fault(
            errno.ESPIPE,
            f"byte {offset} of this body has passed, its last {WINDOW} bytes are kept and {reason};"
            " copy it to a file first",
        )

    # Waiting and ending --------------------------------------------------------------------------

    def ready(self, offset: int, wake: Callable[[], None] | None, key: object) -> int:
        """Say whether a read at this offset would wait."""
        if offset < self.position or self.ended or self._error is not None:
            return READABLE
        return self._source.ready(wake, key) & READABLE

    def forget(self, key: object) -> None:
        """Drop what waits in `ready`."""
        self._source.forget(key)

    def close(self, error: OSError | None = None) -> None:
        """Close the connection; what is kept can still be read, then comes the error."""
        if not self.ended and self._error is None:
            self._finish(error or fault(errno.ECANCELED, "this body was closed before its end"))
        if self.ended and self._let_go is not None:
            self._let_go(self._source)
        else:
            self._source.close()


class BodyHandle(Handle):
    """One reader of a body: by offsets where its length is known, else as a stream."""

    def __init__(self, body: Body, at_close: Callable[[], Awaitable[object] | object]) -> None:
        self.size = body.length
        self.stream = body.length is None
        self._body = body
        self._at = 0
        self._at_close = at_close

    def try_read(self, size: int, offset: int) -> bytes | WouldBlock:
        answer = self._body.try_read(size, self._at if self.stream else offset)
        if answer is not WOULD_BLOCK:
            self._passed(answer, offset)
        return answer

    async def read(self, size: int, offset: int) -> bytes:
        answer = await self._body.read(size, self._at if self.stream else offset)
        self._passed(answer, offset)
        return answer

    def _passed(self, answer: bytes, offset: int) -> None:
        self._at = (self._at if self.stream else offset) + len(answer)

    def ready(self, wake: Callable[[], None] | None) -> int:
        return self._body.ready(self._at, wake, self)

    def close(self) -> None:
        self._body.forget(self)
        self._at_close()
