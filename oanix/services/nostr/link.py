"""Link: how messages reach a relay: over a WebSocket, or within this process."""

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import trio
from attrs import frozen

from oanix.bell import Bell
from oanix.lib.nostr import Signer
from oanix.lib.url import Url
from oanix.lib.vault import Mask
from oanix.lib.web import Asker, Web
from oanix.lib.websocket import Closed, WebSocket

INBOX_BYTES: Final = 2 << 20
"""Characters that came and were not looked at yet, before a relay has to wait."""

BATCH: Final = 512
"""Messages that are looked at together."""


class Link(Protocol):
    """A client's end of a connection with a relay."""

    async def send(self, text: str | bytes) -> None:
        """Send a message. Raises one of LOST."""

    async def receive(self) -> str | bytes:
        """Wait for a message. Raises one of LOST."""

    async def aclose(self) -> None:
        """Leave."""


LOST: Final = (
    OSError, trio.EndOfChannel, trio.BrokenResourceError, trio.ClosedResourceError,
    trio.TooSlowError,
)  # fmt: skip
"""What a link raises when it is gone."""


class SocketLink:
    """A connection over a WebSocket."""

    def __init__(self, socket: WebSocket, mask: Mask) -> None:
        self._socket = socket
        self._mask = mask

    @classmethod
    async def connect(cls, web: Web, address: str, asker: Asker) -> "SocketLink":
        """Connect by the rules of http. Raises OSError as `Web.connect`."""
        made = await web.connect(Url.parse(address), asker)
        socket = await WebSocket.connect(
            made.stream, host=made.url.authority, target=made.url.target, headers=made.headers
        )
        return cls(socket, made.mask)

    async def send(self, text: str | bytes) -> None:
        """Send a message."""
        await self._socket.send(text if isinstance(text, str) else text.decode())

    async def receive(self) -> str | bytes:
        """Wait for a message."""
        try:
            message = await self._socket.receive()
        except Closed as error:
            raise trio.EndOfChannel(str(error.ending)) from None
        if not self._mask.active:
            return message
        return self._mask.text(message if isinstance(message, str) else message.decode("latin-1"))

    async def aclose(self) -> None:
        """Leave."""
        await self._socket.close()


class Inbox:
    """What came over a link, within a bound: looked at in batches."""

    def __init__(self) -> None:
        self._kept: deque[str | bytes] = deque()
        self._size = 0
        self._bell = Bell()
        self._closed = False

    async def put(self, message: str | bytes) -> None:
        """Add a message; waits while there is too much."""
        while self._size >= INBOX_BYTES:
            await self._bell.wait()
        self._kept.append(message)
        self._size += len(message)
        self._bell.ring()

    def close(self) -> None:
        """Add no more."""
        self._closed = True
        self._bell.ring()

    async def take(self) -> list[str | bytes]:
        """Wait for messages and take them; none at the end."""
        while not self._kept and not self._closed:
            await self._bell.wait()
        taken = [self._kept.popleft() for _ in range(min(len(self._kept), BATCH))]
        self._size -= sum(map(len, taken))
        self._bell.ring()
        return taken


@frozen(kw_only=True)
class LinkTimes:
    """How long one waits for a relay, in seconds.

    lists: for where somebody reads and writes, which only adds to the relays that one has.
    """

    connect: float = 15.0
    answer: float = 10.0
    send: float = 30.0
    idle: float = 60.0
    first_retry: float = 1.0
    last_retry: float = 300.0
    refused_retry: float = 60.0
    leave: float = 3.0
    later: float = 5.0
    lists: float = 3.0


@frozen(kw_only=True)
class LinkTools:
    """What a relay's link is given. address: what a proof of who we are is made out to."""

    connect: Callable[[], Awaitable[Link]]
    address: str
    signer: Callable[[], Awaitable[Signer]]
    may_auth: Callable[[], bool]
    threads: trio.CapacityLimiter
    now: Callable[[], int]
    random: Callable[[], float]
    times: LinkTimes
