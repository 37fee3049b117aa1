"""The HTTP/2 side of the test server, over h2."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import trio
from attrs import define, field

from tests.web.routes import Asked, Headers, Hung, route

if TYPE_CHECKING:
    from tests.web.server import Server

PER_CONNECTION = {"connection", "transfer-encoding"}


@define(eq=False)
class _Peer:
    """One connection, shared by the tasks of its streams."""

    stream: trio.SSLStream[trio.SocketStream]
    http: h2.connection.H2Connection
    lock: trio.Lock = field(factory=trio.Lock)
    room: trio.Event = field(factory=trio.Event)
    scopes: dict[int, trio.CancelScope] = field(factory=dict)
    bodies: dict[int, trio.MemorySendChannel[bytes]] = field(factory=dict)

    async def flush(self) -> None:
        async with self.lock:
            if data := self.http.data_to_send():
                await self.stream.send_all(data)

    def more_room(self) -> None:
        self.room.set()
        self.room = trio.Event()


@define(eq=False)
class _Reply2:
    """An answer over HTTP/2."""

    peer: _Peer
    number: int
    version: str = "HTTP/2"
    broken: bool = False

    async def start(self, status: int, headers: Headers, reason: str = "") -> None:
        kept = [(k.lower(), v) for k, v in headers if k.lower() not in PER_CONNECTION]
        self.peer.http.send_headers(self.number, [(":status", str(status)), *kept])
        await self.peer.flush()

    async def send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            size = min(
                self.peer.http.local_flow_control_window(self.number),
                self.peer.http.max_outbound_frame_size,
                len(view),
            )
            if not size:
                await self.peer.room.wait()
                continue
            self.peer.http.send_data(self.number, bytes(view[:size]))
            view = view[size:]
            await self.peer.flush()

    async def send_zeroes(self, size: int) -> None:
        block = bytes(1 << 18)
        while size:
            await self.send(block[:size])
            size -= min(size, len(block))

    async def end(self) -> None:
        self.peer.http.end_stream(self.number)
        await self.peer.flush()

    async def raw(self, data: bytes) -> None:
        """Send bytes as they are, which is no HTTP/2; then the connection is of no more use."""
        self.broken = True
        await self.peer.stream.send_all(data)

    def reset(self) -> None:
        self.peer.http.reset_stream(self.number, h2.errors.ErrorCodes.INTERNAL_ERROR)
        raise Hung


async def serve_h2(
    stream: trio.SSLStream[trio.SocketStream], raw: trio.SocketStream, server: "Server"
) -> None:
    """Serve one connection until the client goes away."""
    config = h2.config.H2Configuration(client_side=False, header_encoding="latin-1")
    http = h2.connection.H2Connection(config=config)
    http.initiate_connection()
    http.increment_flow_control_window(1 << 20)
    peer = _Peer(stream, http)
    async with trio.open_nursery() as nursery:
        await peer.flush()
        while data := await stream.receive_some(1 << 18):
            try:
                events = http.receive_data(data)
            except h2.exceptions.ProtocolError:
                break
            for event in events:
                await _handle(event, peer, server, nursery)
            await peer.flush()
        nursery.cancel_scope.cancel()


async def _handle(
    event: h2.events.Event, peer: _Peer, server: "Server", nursery: trio.Nursery
) -> None:
    if isinstance(event, h2.events.RequestReceived):
        assert event.stream_id is not None
        send, receive = trio.open_memory_channel[bytes](float("inf"))
        peer.bodies[event.stream_id] = send
        headers = {str(k): str(v) for k, v in event.headers or () if str(k).startswith(":")}
        plain = tuple((str(k), str(v)) for k, v in event.headers or () if str(k)[0] != ":")
        asked = Asked(
            headers[":method"],
            headers[":path"],
            (("host", headers.get(":authority", "")), *plain),
            _chunks(receive),
        )
        server.asked.append(asked)
        server.touch()
        nursery.start_soon(_answer, asked, peer, event.stream_id, server)
    elif isinstance(event, h2.events.DataReceived):
        assert event.stream_id is not None
        if body := peer.bodies.get(event.stream_id):  # none: it was answered already
            body.send_nowait(event.data or b"")
        peer.http.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id)
    elif isinstance(event, h2.events.StreamEnded):
        assert event.stream_id is not None
        if body := peer.bodies.get(event.stream_id):
            body.close()
    elif isinstance(event, h2.events.StreamReset):
        assert event.stream_id is not None
        if scope := peer.scopes.get(event.stream_id):
            scope.cancel()
    peer.more_room()


async def _chunks(receive: trio.MemoryReceiveChannel[bytes]) -> AsyncIterator[bytes]:
    async for chunk in receive:
        yield chunk


async def _answer(asked: Asked, peer: _Peer, number: int, server: "Server") -> None:
    with trio.CancelScope() as scope:
        peer.scopes[number] = scope
        reply = _Reply2(peer, number)
        try:
            await route(asked, reply, server)
        except (Hung, h2.exceptions.ProtocolError):
            await peer.flush()
        if reply.broken:
            await peer.stream.transport_stream.aclose()
    del peer.scopes[number]
    peer.bodies.pop(number).close()
