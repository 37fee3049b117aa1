"""Link: how messages reach a session: over a WebSocket, or within this process."""

from collections import deque
from collections.abc import Sequence
from typing import Final, Protocol

import trio

from oanix.bell import Bell
from oanix.lib.websocket import Closed, Message, WebSocket

HELD_BYTES: Final = 1 << 20
"""Bytes that either end of a link in memory holds for the other; one message more fits."""

BATCH: Final = 256
"""Messages that a session takes at once."""


class Wire(Protocol):
    """A session's end: messages in batches, as a relay says many at a time."""

    async def receive(self) -> list[Message]:
        """Wait for messages. Raises trio.EndOfChannel at the end."""

    def send_now(self, texts: Sequence[bytes]) -> bool:
        """Send texts without waiting, or tell that they have to wait: then none was taken."""

    @property
    def unsent(self) -> bool:
        """Whether what `send_now` took needs a `send` to go on."""

    async def send(self, texts: Sequence[bytes]) -> None:
        """Send texts, waiting for the peer. Raises trio.BrokenResourceError."""

    async def close(self, code: int, reason: str) -> None:
        """Close, telling why."""


class Link(Protocol):
    """A client's end."""

    async def send(self, text: str | bytes) -> None:
        """Send a message. Raises trio.BrokenResourceError when the other end is gone."""

    async def receive(self) -> str | bytes:
        """Wait for a message. Raises trio.EndOfChannel at the end."""

    async def aclose(self) -> None:
        """Leave."""


class SocketWire:
    """A session's end over a WebSocket."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket

    async def receive(self) -> list[Message]:
        try:
            return await self._socket.receive_all(BATCH)
        except Closed as error:
            raise trio.EndOfChannel(str(error)) from None

    def send_now(self, texts: Sequence[bytes]) -> bool:
        return self._socket.send_now(texts)

    @property
    def unsent(self) -> bool:
        return self._socket.unsent

    async def send(self, texts: Sequence[bytes]) -> None:
        try:
            await self._socket.send_texts(texts)
        except Closed as error:
            raise trio.BrokenResourceError(str(error)) from None

    async def close(self, code: int, reason: str) -> None:
        await self._socket.close(code, reason)


class _Lane:
    """One direction of a link in memory: what was sent and not received, within a bound."""

    def __init__(self) -> None:
        self.kept: deque[Message] = deque()
        self.size = 0
        self.closed = False
        self.bell = Bell()

    @property
    def full(self) -> bool:
        return self.size >= HELD_BYTES

    def put(self, message: Message) -> None:
        self.kept.append(message)
        self.size += len(message)
        self.bell.ring()

    def take(self) -> Message:
        message = self.kept.popleft()
        if self.full:
            self.bell.ring()
        self.size -= len(message)
        return message

    async def filled(self) -> None:
        """Wait for a message. Raises trio.EndOfChannel at the end."""
        await trio.lowlevel.checkpoint()
        while not self.kept:
            if self.closed:
                raise trio.EndOfChannel("the other end has left")
            await self.bell.wait()

    async def emptied(self) -> None:
        """Wait for room. Raises trio.BrokenResourceError when nobody will make any."""
        while self.full and not self.closed:
            await self.bell.wait()
        if self.closed:
            raise trio.BrokenResourceError("the other end has left")

    def close(self) -> None:
        self.closed = True
        self.bell.ring()


class MemoryWire:
    """A session's end within this process.

    A stored event that the disk has damaged may be no UTF-8, and is nothing to fail for here.
    """

    unsent = False

    def __init__(self, inwards: _Lane, outwards: _Lane) -> None:
        self._in = inwards
        self._out = outwards

    async def receive(self) -> list[Message]:
        await self._in.filled()
        return [self._in.take() for _ in range(min(len(self._in.kept), BATCH))]

    def send_now(self, texts: Sequence[bytes]) -> bool:
        if self._out.full or self._out.closed:
            return False
        for text in texts:
            self._out.put(text.decode("utf-8", "replace"))
        return True

    async def send(self, texts: Sequence[bytes]) -> None:
        for text in texts:
            await self._out.emptied()
            self._out.put(text.decode("utf-8", "replace"))

    async def close(self, code: int, reason: str) -> None:
        self._in.close()
        self._out.close()


class MemoryLink:
    """A client's end within this process."""

    def __init__(self, inwards: _Lane, outwards: _Lane) -> None:
        self._in = inwards
        self._out = outwards

    async def send(self, text: str | bytes) -> None:
        """Send a message; waits while the session is behind. Raises trio.BrokenResourceError."""
        await trio.lowlevel.checkpoint()
        await self._out.emptied()
        self._out.put(text)

    async def receive(self) -> str | bytes:
        """Wait for a message; what came before the end is given first."""
        await self._in.filled()
        return self._in.take()

    async def aclose(self) -> None:
        """Leave: the session ends."""
        self._in.close()
        self._out.close()
        await trio.lowlevel.checkpoint()


def memory_link() -> tuple[MemoryLink, MemoryWire]:
    """Make a link within this process: the client's end and the session's."""
    there, back = _Lane(), _Lane()
    return MemoryLink(back, there), MemoryWire(there, back)
