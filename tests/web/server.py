"""A real HTTP server on loopback for tests and benchmarks: HTTP/1.1, and HTTP/2 over TLS.

    async with serve() as server:            # or serve(tls=True): a test CA, ALPN h2 and http/1.1
        server.url("/echo")

    python -m tests.web.server --port 0      # prints its port, serves until it is killed

`tests.web.routes` says what it answers.
"""

import argparse
import os
import select
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

import h11
import trio
import trustme
from attrs import define, field

from tests.web.h2side import serve_h2
from tests.web.routes import Asked, Headers, Hung, route

PATIENCE_S = 20
BLOCK = 1 << 22


@define(eq=False)
class Server:
    """What listens, and what it has seen.

    asked: every request, in order. accepted: how many connections came; open: how many there are.
    seen: what routes count by a key. files: headers and content of what a test wants served.
    """

    port: int
    host: str = "127.0.0.1"
    ca: trustme.CA | None = None
    asked: list[Asked] = field(factory=list)
    accepted: int = 0
    open: int = 0
    seen: dict[str, int] = field(factory=dict)
    files: dict[str, tuple[Headers, bytes]] = field(factory=dict)
    zeroes: int = -1
    _changed: trio.Event = field(factory=trio.Event)

    def url(self, path: str = "/", host: str | None = None) -> str:
        """Give the URL of a path."""
        return f"{'https' if self.ca else 'http'}://{host or self.host}:{self.port}{path}"

    def client_context(self) -> ssl.SSLContext:
        """Make a client's TLS context that trusts the test CA."""
        assert self.ca
        context = ssl.create_default_context()
        self.ca.configure_trust(context)
        return context

    def touch(self) -> None:
        """Wake who waits for a condition."""
        self._changed.set()
        self._changed = trio.Event()

    async def until(self, true: Callable[[], object]) -> None:
        """Wait until something is true that changes with connections and requests."""
        with trio.fail_after(PATIENCE_S):
            while not true():
                await self._changed.wait()


@asynccontextmanager
async def serve(
    *,
    tls: bool = False,
    ca: trustme.CA | None = None,
    names: tuple[str, ...] = ("localhost", "127.0.0.1", "::1"),
    alpn: tuple[str, ...] = ("h2", "http/1.1"),
    context: ssl.SSLContext | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
) -> AsyncIterator[Server]:
    """Serve while the block runs.

    names: what the certificate is for. context: a server's TLS context of one's own.
    """
    listener = (await trio.open_tcp_listeners(port, host=host, backlog=128))[0]
    server = Server(listener.socket.getsockname()[1], host, (ca or trustme.CA()) if tls else None)
    if server.ca and context is None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        server.ca.issue_cert(*names).configure_cert(context)
        context.set_alpn_protocols(list(alpn))
    server.zeroes = os.memfd_create("zeroes")
    os.truncate(server.zeroes, BLOCK)
    try:
        async with listener, trio.open_nursery() as nursery:
            nursery.start_soon(_accept, listener, server, context)
            yield server
            nursery.cancel_scope.cancel()
    finally:
        os.close(server.zeroes)


async def _accept(
    listener: trio.SocketListener, server: Server, context: ssl.SSLContext | None
) -> None:
    async with trio.open_nursery() as nursery:
        while True:
            nursery.start_soon(_connection, await listener.accept(), server, context)


async def _connection(
    stream: trio.SocketStream, server: Server, context: ssl.SSLContext | None
) -> None:
    server.accepted += 1
    server.open += 1
    server.touch()
    try:
        async with stream, trio.open_nursery() as nursery:
            nursery.start_soon(_watch, stream, nursery.cancel_scope)
            await _speak(stream, server, context)
            nursery.cancel_scope.cancel()
    except* (trio.BrokenResourceError, trio.ClosedResourceError, Hung):
        pass
    finally:
        server.open -= 1
        server.touch()


async def _watch(stream: trio.SocketStream, scope: trio.CancelScope) -> None:
    """End the connection when the client has, whatever is being answered."""
    poll = select.poll()
    descriptor = stream.socket.fileno()
    if descriptor < 0:
        return  # a quick request was answered by a reset
    poll.register(descriptor, select.POLLRDHUP)
    # No event says that a peer is gone while nobody reads.
    while not poll.poll(0):  # noqa: ASYNC110
        await trio.sleep(0.05)
    scope.cancel()


async def _speak(stream: trio.SocketStream, server: Server, context: ssl.SSLContext | None) -> None:
    if context is None:
        await _serve_h11(stream, stream, server)
        return
    secure = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
    await secure.do_handshake()
    if secure.selected_alpn_protocol() == "h2":
        await serve_h2(secure, stream, server)
    else:
        await _serve_h11(secure, stream, server)


class _Passed:
    """So many bytes that are sent past h11."""

    def __init__(self, size: int) -> None:
        self._size = size

    def __len__(self) -> int:
        return self._size


@define(eq=False)
class _Reply11:
    """An answer over HTTP/1.1."""

    stream: trio.abc.Stream
    socket: trio.SocketStream
    server: Server
    http: h11.Connection
    version: str = "HTTP/1.1"

    async def start(self, status: int, headers: Headers, reason: str = "") -> None:
        event: h11.Event = h11.Response(
            status_code=status, headers=list(headers), reason=(reason or "Fine").encode()
        )
        await self._send(event)

    async def send(self, data: bytes) -> None:
        await self._send(h11.Data(data=data))

    async def send_zeroes(self, size: int) -> None:
        pieces = self.http.send_with_data_passthrough(h11.Data(data=_Passed(size)))  # type: ignore[arg-type]
        for piece in pieces or ():
            if isinstance(piece, _Passed):
                await self._zeroes(size)
            else:
                await self.stream.send_all(piece)

    async def _zeroes(self, left: int) -> None:
        if self.stream is not self.socket:
            block = bytes(1 << 18)
            while left:
                await self.stream.send_all(block[:left])
                left -= min(left, len(block))
            return
        sock = self.socket.socket
        while left:
            try:
                left -= os.sendfile(sock.fileno(), self.server.zeroes, 0, min(left, BLOCK))
                await trio.lowlevel.checkpoint()
            except BlockingIOError:
                await trio.lowlevel.wait_writable(sock)
            except OSError as error:
                raise trio.BrokenResourceError from error

    async def end(self) -> None:
        await self._send(h11.EndOfMessage())

    async def raw(self, data: bytes) -> None:
        """Send bytes as they are, and end the connection."""
        await self.stream.send_all(data)

    def reset(self) -> None:
        """Reset the connection."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.socket.close()
        raise Hung

    async def _send(self, event: h11.Event) -> None:
        data = self.http.send(event)
        if data:
            await self.stream.send_all(data)


async def _serve_h11(stream: trio.abc.Stream, raw: trio.SocketStream, server: Server) -> None:
    http = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)

    async def next_event() -> h11.Event | type[h11.PAUSED] | type[h11.NEED_DATA]:
        while (event := http.next_event()) is h11.NEED_DATA:
            http.receive_data(await stream.receive_some(1 << 18))
        return event

    async def chunks() -> AsyncIterator[bytes]:
        while isinstance(event := await next_event(), h11.Data):
            yield bytes(event.data)

    while True:
        try:
            event = await next_event()
        except h11.RemoteProtocolError:
            return
        if not isinstance(event, h11.Request):
            return
        asked = Asked(
            event.method.decode(),
            event.target.decode(),
            tuple((name.decode(), value.decode("latin-1")) for name, value in event.headers),
            chunks(),
        )
        server.asked.append(asked)
        server.touch()
        await _answer(asked, _Reply11(stream, raw, server, http), server)
        async for _ in asked.chunks:
            pass
        if http.our_state is not h11.DONE or http.their_state is not h11.DONE:
            return
        http.start_next_cycle()


async def _answer(asked: Asked, reply: _Reply11, server: Server) -> None:
    try:
        await route(asked, reply, server)
    except (h11.LocalProtocolError, h11.RemoteProtocolError):
        # The client went away, or the route broke the framing on purpose.
        raise Hung from None


async def _main(port: int, tls: bool) -> None:
    async with serve(port=port, tls=tls) as server:
        print(server.port, flush=True)
        await trio.sleep_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--tls", action="store_true")
    arguments = parser.parse_args()
    with suppress(KeyboardInterrupt):
        trio.run(partial(_main, arguments.port, arguments.tls))
