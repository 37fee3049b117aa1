"""Talk: one conversation, and the connection that it makes.

idle → connecting → open → closed; or failed, from where it may be tried again. The connection has
two tasks, so that no reader or writer of a file can break off a frame in its middle: one receives
while `out` has room, the other sends what `in` and `ctl` hand over.
"""

import errno
import logging
import math
from collections import deque
from enum import Enum
from typing import TYPE_CHECKING

import trio
from attrs import define

from oanix.bell import Bell
from oanix.errors import fault
from oanix.kit import Conversation, Opening
from oanix.lib.url import Url
from oanix.lib.vault import Mask
from oanix.lib.web import Asker, Connected
from oanix.lib.websocket import Closed, Ending, Message, WebSocket
from oanix.lib.websocket.limits import LOST
from oanix.operation import Deed, did
from oanix.services.ws.lines import to_line

if TYPE_CHECKING:
    from oanix.lib.policy import Layer
    from oanix.services.ws.service import WsView

log = logging.getLogger(__name__)

KEPT_BYTES = 65_536
"""Lines that nobody has read, in bytes, before the socket is not read any more."""

PARCELS_MAX = 256
PARCELS_BYTES = 4 << 20
"""What waits to be sent by one connection, in messages and characters."""

HEADERS_MAX = 64
HEADER_BYTES_MAX = 16_384


SENTENCE_MAX = 400


def _told(masked: str) -> str:
    # What a server says, as one line of bounded length: cut behind the mask, not before it.
    return "".join(c if c.isprintable() else "?" for c in masked[:SENTENCE_MAX])


class State(Enum):
    """What `status` tells."""

    IDLE = "idle"
    CONNECTING = "connecting"
    OPEN = "open"
    CLOSED = "closed"
    FAILED = "failed"


@define(eq=False)
class Parcel:
    """Something to send: a message, a ping (None), or the close."""

    content: Message | Ending | None
    begun: bool = False
    done: bool = False
    error: OSError | None = None

    @property
    def size(self) -> int:
        """How much waits with it, about."""
        return len(self.content) if isinstance(self.content, str | bytes) else 0


class Talk:
    """A conversation, from its making to the end of its connection."""

    def __init__(self, view: "WsView", conversation: Conversation) -> None:
        self.conversation = conversation
        self.view = view
        self.url: Url | None = None
        self.headers: tuple[tuple[str, str], ...] = ()
        self.subprotocols: tuple[str, ...] = ()
        self.envelopes = False
        self.state = State.IDLE
        self.error: OSError | None = None
        self.bell = Bell()
        self.kept: deque[bytes] = deque()
        self._kept_bytes = 0
        self._parcels: deque[Parcel] = deque()
        self._layers: tuple[Layer, ...] = ()
        self._socket: WebSocket | None = None
        self._mask = Mask()
        self._work = trio.CancelScope()
        self._asked: Opening | None = None
        self._by: Opening | None = None
        self._waiting = 0
        self._closing = False
        self._counts = dict.fromkeys(("messages-in", "messages-out", "bytes-in", "bytes-out"), 0)
        conversation.at_end.append(self.end)

    # Settings ------------------------------------------------------------------------------------

    def note(self, opening: Opening) -> None:
        """Learn through which namespace it is used: all of them narrow what it may ask."""
        for layer in self.view.layers_of(opening.namespace):
            if layer not in self._layers:
                self._layers += (layer,)

    def check_narrow(self, opening: Opening) -> None:
        """Refuse a connection that was made under wider rules than those here. Raises EACCES."""
        layers = self.view.layers_of(opening.namespace)
        made = self.state in (State.CONNECTING, State.OPEN, State.CLOSED)
        if made and any(layer not in self._layers for layer in layers):
            raise fault(
                errno.EACCES,
                "this connection was made under wider rules than those here; read `new` again",
            )

    def change(self, opening: Opening) -> None:
        """Note that a setting changes. Raises OSError EBUSY, ENOENT."""
        if self.conversation.ended:
            raise fault(errno.ENOENT, "the conversation has ended; read `new` again")
        if self.state not in (State.IDLE, State.FAILED):
            raise fault(errno.EBUSY, f"the connection is {self.state.value}; read `new` again")
        self.note(opening)

    def add_header(self, name: str, value: str) -> None:
        """Add a header. Raises OSError EMSGSIZE."""
        headers = (*self.headers, (name, value))
        size = sum(len(name) + len(value) for name, value in headers)
        if len(headers) > HEADERS_MAX or size > HEADER_BYTES_MAX:
            raise fault(errno.EMSGSIZE, f"at most {HEADERS_MAX} headers, {HEADER_BYTES_MAX} bytes")
        self.headers = headers

    def facts(self) -> dict[str, object]:
        """Tell what `status` shows."""
        told: dict[str, object] = {"state": self.state.value}
        if self.url is not None:
            told["url"] = self.url.masked()
        told |= self._counts
        socket = self._socket
        if socket is not None:
            told["subprotocol"] = socket.subprotocol or ""
            if socket.latency_s is not None:
                told["latency-ms"] = round(socket.latency_s * 1000, 1)
            if socket.closed is not None:
                told["close-code"] = socket.closed.code
                told["close-reason"] = self._mask.text(socket.closed.reason)
                told["closed-by"] = "peer" if socket.closed.by_peer else "here"
        return told | self.conversation.facts()

    # Connecting ----------------------------------------------------------------------------------

    def connect(self, opening: Opening, *, wait: bool = False) -> None:
        """Begin to connect, unless it has; wait: whoever asks waits for it, and is told of errors.

        Raises OSError: EINVAL, EPIPE, ENOENT, ESHUTDOWN.
        """
        self.check_narrow(opening)
        if self.state in (State.CONNECTING, State.OPEN):
            return
        if self.state is State.CLOSED:
            raise fault(errno.EPIPE, "the connection has ended; read `new` for another one")
        self.change(opening)
        if self.url is None:
            raise fault(errno.EINVAL, "write a ws:// or wss:// url to `url` first")
        self.view.service.start(self._run, self.url, Asker(opening.caller, self._layers))
        self.state = State.CONNECTING
        self.error = None
        self._work = trio.CancelScope()
        self._asked = None if wait else opening
        self._by = opening

    async def connected(self, opening: Opening) -> None:
        """Connect, and wait until it is there. Raises OSError for why it is not."""
        self.connect(opening, wait=True)
        self._waiting += 1
        try:
            while self._connecting:
                await self.bell.wait()
        finally:
            self._waiting -= 1
            if self._connecting and not self._waiting and self._asked is None:
                self._work.cancel()
        if self.state is State.FAILED and self.error is not None:
            raise self.error.with_traceback(None)

    @property
    def _connecting(self) -> bool:
        return self.state is State.CONNECTING

    async def _run(self, url: Url, asker: Asker) -> None:
        with self._work:
            try:
                await self._converse(url, asker)
            except OSError as error:
                self._failed(error)
            except Exception as error:
                log.exception("a WebSocket failed")
                self._failed(fault(errno.EIO, f"internal error ({type(error).__name__})"))
        if self.state is State.CONNECTING:
            self.state = State.IDLE
        self._over()

    def _failed(self, error: OSError) -> None:
        self.error = error
        if self.state is State.CONNECTING:
            self.state = State.FAILED
            self._tell("open_websocket", error=error)
        if self._asked is not None:
            by = self._asked
            by.namespace.sentences.report(
                error, by.caller, f"connect {self.url.masked() if self.url else ''}"
            )

    def _over(self) -> None:
        if self.state is State.OPEN:
            self.state = State.CLOSED
            counts = self._counts
            self._tell(
                "close_websocket",
                f"{counts['messages-in']:,} messages in, {counts['messages-out']:,} out",
            )
        while self._parcels:
            parcel = self._parcels.popleft()
            parcel.error = self.gone()
            parcel.done = True
        self.bell.ring()

    async def _converse(self, url: Url, asker: Asker) -> None:
        made = await self.view.service.web.connect(url, asker, self.headers)
        self._mask = made.mask
        try:
            socket = await WebSocket.connect(
                made.stream, host=made.url.authority, target=made.url.target,
                headers=made.headers, subprotocols=self.subprotocols,
            )  # fmt: skip
        except OSError as error:
            raise fault(
                error.errno or errno.EIO, _told(made.mask.text(error.strerror or str(error)))
            ) from None
        self._socket = socket
        self.state = State.OPEN
        self._tell("open_websocket", "connected")
        self.bell.ring()
        try:
            await self._exchange(socket, made)
        finally:
            await socket.abort()

    def _tell(self, name: str, outcome: str = "", error: OSError | None = None) -> None:
        by = self._by
        if by is not None and self.url is not None:
            deed = Deed(name, {"url": self.url.masked()}, outcome, error)
            did(by.namespace, by.caller, deed)

    async def _exchange(self, socket: WebSocket, made: Connected) -> None:
        limit = made.limits.time_s
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send, socket)
            with trio.move_on_after(math.inf if limit is None else limit) as timed:
                await self._receive(socket, made.limits.size)
            if timed.cancelled_caught:
                self.error = fault(errno.ETIMEDOUT, f"the rule allows a connection of {limit:g} s")
                await socket.close(1008, "time is up")
            nursery.cancel_scope.cancel()
        ending = socket.closed
        asked = self._closing and ending is not None and ending.code != LOST
        if ending is not None and not ending.clean and not asked and self.error is None:
            error = Closed(ending)
            self.error = fault(error.errno or errno.EIO, made.mask.text(error.strerror or ""))

    # Receiving -----------------------------------------------------------------------------------

    async def _receive(self, socket: WebSocket, most: int | None) -> None:
        async for message in socket:
            size = len(message) if isinstance(message, bytes) else len(message.encode())
            self._counts["messages-in"] += 1
            self._counts["bytes-in"] += size
            if most is not None and self._counts["bytes-in"] > most:
                self.error = fault(errno.EMSGSIZE, f"the rule allows {most} bytes to be received")
                await socket.close(1009, "more than a rule allows")
                return
            self._keep(to_line(self._masked(message), envelopes=self.envelopes))
            while self._kept_bytes >= KEPT_BYTES and not self._closing:
                await self.bell.wait()

    def _masked(self, message: Message) -> Message:
        if not self._mask.active:
            return message
        return self._mask.text(message) if isinstance(message, str) else self._mask.data(message)

    def _keep(self, line: bytes) -> None:
        self.kept.append(line)
        self._kept_bytes += len(line)
        self.bell.ring()

    def take(self) -> bytes:
        """Take the next line that came."""
        line = self.kept.popleft()
        if self._kept_bytes >= KEPT_BYTES:
            self.bell.ring()
        self._kept_bytes -= len(line)
        return line

    def give_back(self, line: bytes) -> None:
        """Put back a line that a reader did not take whole."""
        self.kept.appendleft(line)
        self._kept_bytes += len(line)
        self.bell.ring()

    @property
    def ended(self) -> bool:
        """Whether no more will come."""
        return self.state in (State.CLOSED, State.FAILED, State.IDLE)

    # Sending -------------------------------------------------------------------------------------

    def gone(self) -> OSError:
        """Make the error of a write that comes too late."""
        why = f": {self.error.strerror}" if self.error is not None else ""
        return fault(errno.EPIPE, f"there is no connection{why}")

    @property
    def idle_sender(self) -> bool:
        """Whether a message would be sent at once."""
        return not self._parcels

    def post(self, parcel: Parcel) -> None:
        """Hand something over to the sender. Raises OSError EPIPE."""
        if self.state is not State.OPEN or self._closing:
            raise self.gone()
        size = parcel.size + sum(waiting.size for waiting in self._parcels)
        if len(self._parcels) >= PARCELS_MAX or (self._parcels and size > PARCELS_BYTES):
            raise fault(errno.EAGAIN, "the peer takes no more just now; try again")
        self._parcels.append(parcel)
        self.bell.ring()

    def withdraw(self, parcel: Parcel) -> bool:
        """Take something back that is not being sent yet; tells whether that was so."""
        if parcel.begun or parcel.done:
            return False
        self._parcels.remove(parcel)
        return True

    async def _send(self, socket: WebSocket) -> None:
        while True:
            while not self._parcels:
                await self.bell.wait()
            parcel = self._parcels[0]
            parcel.begun = True
            try:
                await self._send_one(socket, parcel.content)
            except OSError:
                parcel.error = self.gone()
            self._parcels.popleft()
            parcel.done = True
            self.bell.ring()

    async def _send_one(self, socket: WebSocket, content: Message | Ending | None) -> None:
        if content is None:
            await socket.ping()
        elif isinstance(content, Ending):
            await socket.close(content.code, content.reason)
        else:
            await socket.send(content)
            self._counts["messages-out"] += 1
            self._counts["bytes-out"] += len(
                content if isinstance(content, bytes) else content.encode()
            )

    # Ending --------------------------------------------------------------------------------------

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection, after what was handed over. Raises OSError EPIPE."""
        self.post(Parcel(Ending(code, reason, by_peer=False)))
        self._closing = True

    def end(self) -> None:
        """End with the conversation."""
        if self.state is State.CONNECTING:
            self._work.cancel()
        elif self.state is State.OPEN and not self._closing:
            self.close()
