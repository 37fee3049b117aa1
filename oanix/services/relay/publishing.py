"""Publishing: the file to which signed events are written, a line each."""

import errno
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

from oanix.errors import Denied, fault
from oanix.kit import Handler, Opening
from oanix.lib.nostr import Event, Invalid, encode
from oanix.node import READABLE, WOULD_BLOCK, WRITABLE, Handle, WouldBlock
from oanix.services.relay.core import Core
from oanix.services.relay.rules import Outcome, Peer

LINE_MAX: Final = 1 << 20
RESULTS_MAX: Final = 10_000

Task = Callable[[], Awaitable[object]]

ERRNOS: Final = {
    "invalid": errno.EINVAL, "pow": errno.EINVAL, "rate-limited": errno.EAGAIN,
    "error": errno.EIO,
}  # fmt: skip
"""Of what a refusal begins with; any other is EACCES."""


class Publish(Handler):
    """A file that takes events: a write ends once they are kept, or fails with the refusal.

    Reading the same open file gives what became of each, as JSON lines.
    """

    reads = writes = True

    def __init__(self, core: Core, peer: Peer, start: Callable[[Task], None]) -> None:
        """Make it. start: has a task run, for as long as the service does."""
        self._core = core
        self._peer = peer
        self._start = start

    async def open(self, opening: Opening) -> Handle:
        return _Publishing(self._core, self._peer, opening, self._start)


class _Publishing(Handle):
    stream = True

    def __init__(
        self, core: Core, peer: Peer, opening: Opening, start: Callable[[Task], None]
    ) -> None:
        self._core = core
        self._peer = peer
        self._opening = opening
        self._start = start
        self._half = bytearray()
        self._results: deque[bytes] = deque(maxlen=RESULTS_MAX)
        self._rest = b""
        self._kept: tuple[bytes, OSError] | None = None

    def try_write(self, data: bytes, offset: int) -> int | WouldBlock:
        if b"\n" in data:
            return WOULD_BLOCK
        self._keep(data)
        return len(data)

    async def write(self, data: bytes, offset: int) -> int:
        """Publish the lines that end here. What was kept before one is refused stays kept."""
        kept, self._kept = self._kept, None
        if kept is not None and data.startswith(kept[0]):
            raise kept[1]
        done = 0
        while (newline := data.find(b"\n", done)) >= 0:
            self._keep(data[done:newline])
            line = bytes(self._half)
            self._half.clear()
            try:
                await self._take(line)
            except OSError as error:
                if not done:
                    raise
                # As write(2): so much was taken, and the write that goes on tells why no more.
                self._kept = data[done : newline + 1], error
                return done
            done = newline + 1
        self._keep(data[done:])
        return len(data)

    def _keep(self, piece: bytes) -> None:
        if len(self._half) + len(piece) > LINE_MAX:
            self._half.clear()
            raise fault(errno.EMSGSIZE, f"an event has at most {LINE_MAX} bytes")
        self._half += piece

    async def _take(self, line: bytes) -> None:
        if not line.strip():
            return
        try:
            event = Event.parse(line)
        except Invalid as error:
            raise fault(errno.EINVAL, f"this is no event: {error.reason}") from None
        outcome = await self._core.submit(event, self._peer)
        self._results.append(
            encode({"id": event.id, "ok": outcome.ok, "message": outcome.message}) + b"\n"
        )
        if not outcome.ok:
            raise refusal(outcome, event)

    def try_read(self, size: int, offset: int) -> bytes:
        if size < 0:
            raise fault(errno.EINVAL, "sizes are not negative")
        said = self._rest
        while self._results and len(said) < size:
            said += self._results.popleft()
        self._rest = said[size:]
        return said[:size]

    def truncate(self, size: int) -> None:
        if size:
            raise fault(errno.EINVAL, "this file can be truncated to 0 and to no other size")

    def ready(self, wake: Callable[[], None] | None) -> int:
        return READABLE | WRITABLE

    def close(self) -> None:
        """Publish a last line without its newline; its error is found in `errstr`."""
        if self._half.strip():
            self._start(self._end)

    async def _end(self) -> None:
        opening = self._opening
        try:
            await self._take(bytes(self._half))
        except OSError as error:
            opening.namespace.sentences.report(error, opening.caller, f"close {opening.file.name}")


def refusal(outcome: Outcome, event: Event) -> OSError:
    """Make the error of an event that was refused."""
    prefix = outcome.message.partition(":")[0]
    number = ERRNOS.get(prefix, errno.EACCES)
    if number == errno.EACCES:
        return Denied(
            outcome.message, what=f"publish {event.id}", rule=outcome.message,
            remedy="the owner of the relay changes the rules in its file policy",
        )  # fmt: skip
    return fault(number, outcome.message)
