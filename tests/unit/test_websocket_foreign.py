"""WebSocket against another implementation of the protocol, in both roles."""

from collections.abc import Awaitable, Callable

import pytest
import trio
import trio_websocket as foreign

from oanix.lib.websocket import Message, Refused, WebSocket
from tests.reach import refused

MESSAGES: list[Message] = ["", "hello", "é" * 70_000, b"", bytes(range(256)) * 1000, "\n\0"]

Serve = Callable[[trio.SocketStream], Awaitable[None]]


async def with_server(serve: Serve, ask: Serve) -> None:
    """Have a server take one connection over TCP from a client."""
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    async with listener, trio.open_nursery() as nursery:

        async def accept() -> None:
            async with await listener.accept() as stream:
                await serve(stream)

        nursery.start_soon(accept)
        async with await trio.open_tcp_stream(*listener.socket.getsockname()) as stream:
            await ask(stream)


async def test_a_foreign_server_and_our_client() -> None:
    async def serve(stream: trio.SocketStream) -> None:
        async with trio.open_nursery() as nursery:
            request = await foreign.wrap_server_stream(nursery, stream)
            assert request.path == "/chat?x=1"
            assert (b"x-name", b"value") in request.headers
            socket = await request.accept(subprotocol="b")
            for _ in MESSAGES:
                await socket.ping(b"hi")
                await socket.send_message(await socket.get_message())
            with pytest.raises(foreign.ConnectionClosed) as caught:
                await socket.get_message()
            assert caught.value.reason.code == 3001
            assert caught.value.reason.reason == "enough"

    async def ask(stream: trio.SocketStream) -> None:
        socket = await WebSocket.connect(
            stream, host="here", target="/chat?x=1", headers=(("X-Name", "value"),),
            subprotocols=("a", "b"),
        )  # fmt: skip
        assert socket.subprotocol == "b"
        for message in MESSAGES:
            await socket.send(message)
            assert await socket.receive() == message
        await socket.ping()
        await socket.close(3001, "enough")
        assert str(socket.closed) == "this side closed with 3001: enough"

    await with_server(serve, ask)


async def test_a_foreign_client_and_our_server() -> None:
    async def serve(stream: trio.SocketStream) -> None:
        async with await WebSocket.accept(stream, subprotocols=("b",)) as socket:
            await socket.ping()
            async for message in socket:
                await socket.send(message)
        assert str(socket.closed) == "the peer closed with 4002: bye"
        assert socket.latency_s is not None

    async def ask(stream: trio.SocketStream) -> None:
        async with trio.open_nursery() as nursery:
            socket = await foreign.wrap_client_stream(
                nursery, stream, "here", "/", subprotocols=["b"]
            )
            assert socket.subprotocol == "b"
            await socket.ping()
            for message in MESSAGES:
                await socket.send_message(message)
                assert await socket.get_message() == message
            await socket.aclose(4002, "bye")

    await with_server(serve, ask)


async def test_either_side_learns_of_the_others_close() -> None:
    async def serve(stream: trio.SocketStream) -> None:
        await (await WebSocket.accept(stream)).close(1001, "restart")

    async def ask(stream: trio.SocketStream) -> None:
        async with trio.open_nursery() as nursery:
            socket = await foreign.wrap_client_stream(nursery, stream, "here", "/")
            with pytest.raises(foreign.ConnectionClosed) as caught:
                await socket.get_message()
            assert (caught.value.reason.code, caught.value.reason.reason) == (1001, "restart")

    await with_server(serve, ask)


async def test_a_foreign_server_refuses() -> None:
    async def serve(stream: trio.SocketStream) -> None:
        async with trio.open_nursery() as nursery:
            request = await foreign.wrap_server_stream(nursery, stream)
            await request.reject(403, body=b"no")

    async def ask(stream: trio.SocketStream) -> None:
        with refused(13, "the server answered 403 Forbidden"):
            await WebSocket.connect(stream, host="here")

    await with_server(serve, ask)


async def test_a_foreign_client_learns_of_a_refusal() -> None:
    async def serve(stream: trio.SocketStream) -> None:
        with pytest.raises(Refused):
            await WebSocket.accept(stream)

    async def ask(stream: trio.SocketStream) -> None:
        with pytest.RaisesGroup(foreign.ConnectionRejected, flatten_subgroups=True) as caught:
            async with trio.open_nursery() as nursery:
                await foreign.wrap_client_stream(
                    nursery, stream, "here", "/", extra_headers=[(b"Origin", b"https://evil")]
                )
        error = caught.value.exceptions[0]
        assert isinstance(error, foreign.ConnectionRejected)
        assert error.status_code == 403
        assert error.body == b"pages of another origin may not connect\n"

    await with_server(serve, ask)
