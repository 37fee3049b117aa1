"""WebSocket, its two roles against each other: messages, limits, life and end."""

import errno
import gc
import math
import sys
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from oanix.lib.websocket import (
    Closed,
    Limits,
    Message,
    Refusal,
    Refused,
    Upgrade,
    WebSocket,
    any_origin,
    check_code,
    same_origin,
)
from tests.reach import refused

Pair = tuple[WebSocket, WebSocket]


@asynccontextmanager
async def pair(
    client: Limits | None = None, server: Limits | None = None, *, compress: bool = False
) -> AsyncIterator[Pair]:
    """Two ends of one connection in memory; both are ended at the end."""
    near, far = trio.testing.memory_stream_pair()
    made: list[WebSocket] = []

    async def accept() -> None:
        made.append(await WebSocket.accept(far, limits=server, compress=compress))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept)
        asked = await WebSocket.connect(near, host="here", limits=client, compress=compress)
    try:
        yield asked, made[0]
    finally:
        await asked.abort()
        await made[0].abort()


@pytest.mark.slow
@pytest.mark.parametrize("compress", [False, True])
@given(messages=st.lists(st.text() | st.binary(), max_size=8))
def test_messages_arrive_as_they_were_sent(compress: bool, messages: list[Message]) -> None:
    async def main() -> None:
        async with pair(compress=compress) as (client, server), trio.open_nursery() as nursery:
            for one, other in ((client, server), (server, client)):
                nursery.start_soon(one.send, *messages)
                assert [await other.receive() for _ in messages] == messages

    trio.run(main)


async def test_what_was_sent_before_the_end_is_received_before_it() -> None:
    async with pair() as (client, server), trio.open_nursery() as nursery:
        await server.send("one", b"two")
        nursery.start_soon(server.close, 4000, "enough")
        assert [message async for message in client] == ["one", b"two"]
        assert client.closed is not None
        assert (client.closed.code, client.closed.reason, client.closed.by_peer) == (
            4000,
            "enough",
            True,
        )
    assert server.closed is not None
    assert not server.closed.by_peer


async def test_the_end_is_told_to_whoever_sends_or_receives() -> None:
    async with pair() as (client, server), trio.open_nursery() as nursery:
        nursery.start_soon(client.close)
        with refused(errno.ENOTCONN, "the peer closed with 1000"):
            await server.receive()
        with refused(errno.ENOTCONN):
            await server.send("late")
        with refused(errno.ENOTCONN):
            await server.ping()


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_536])
def test_a_code_that_may_not_be_sent_is_refused(code: int) -> None:
    with refused(errno.EINVAL, f"^.*{code} is no close code"):
        check_code(code)


async def test_a_reason_is_cut_at_a_character() -> None:
    async with pair() as (client, server), trio.open_nursery() as nursery:
        nursery.start_soon(client.close, 3000, "é" * 100)
        with pytest.raises(Closed):
            await server.receive()
        assert server.closed is not None
        assert server.closed.reason == "é" * 61


async def test_a_second_receiver_is_refused_and_the_first_goes_on() -> None:
    async with pair() as (client, server), trio.open_nursery() as nursery:
        got: list[Message] = []

        async def receive() -> None:
            got.append(await client.receive())

        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        with refused(errno.EBUSY):
            await client.receive()
        await server.send("x")
    assert got == ["x"]


async def test_a_cancelled_receive_has_taken_nothing() -> None:
    async with pair() as (client, server):
        for number in range(50):
            with trio.move_on_after(0):
                await client.receive()
            await server.send(f"{number}")
            await server.send(f"{number}b")
            assert await client.receive() == f"{number}"
            with trio.CancelScope() as scope:
                scope.cancel()
                await client.receive()
            assert scope.cancelled_caught
            assert await client.receive() == f"{number}b"


async def test_one_that_closes_while_another_receives_ends_it(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with pair() as (client, server), trio.open_nursery() as nursery:

        async def drain(socket: WebSocket) -> None:
            async for _ in socket:
                pass

        nursery.start_soon(drain, client)
        nursery.start_soon(drain, server)
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        await client.close(1001)
        assert trio.current_time() == began
    assert client.closed is not None
    assert server.closed is not None
    assert (client.closed.code, server.closed.code) == (1001, 1001)


async def test_half_a_surrogate_pair_is_no_text() -> None:
    async with pair() as (client, server):
        with refused(errno.EINVAL, "surrogate"):
            await client.send("\ud800")
        await client.send("fine")
        assert await server.receive() == "fine"


async def test_leaving_by_an_error_closes_with_1011() -> None:
    async with pair() as (client, server), trio.open_nursery() as nursery:

        async def fail() -> None:
            with pytest.raises(ZeroDivisionError):
                async with server:
                    raise ZeroDivisionError

        nursery.start_soon(fail)
        with pytest.raises(Closed):
            await client.receive()
        assert client.closed is not None
        assert client.closed.code == 1011


# Life, on a clock of its own ----------------------------------------------------------------------


async def test_a_peer_that_answers_no_ping_is_lost(autojump_clock: trio.abc.Clock) -> None:
    async with pair(client=Limits(ping_s=30, pong_s=20)) as (client, _):
        began = trio.current_time()
        with refused(errno.ECONNRESET, "no answer to a ping within 20 s"):
            await client.receive()
        assert trio.current_time() - began == pytest.approx(50)


async def test_a_silent_peer_that_answers_pings_stays(autojump_clock: trio.abc.Clock) -> None:
    limits = Limits(ping_s=30, pong_s=20)
    async with pair(client=limits) as (client, server), trio.open_nursery() as nursery:
        nursery.start_soon(server.receive)
        with trio.move_on_after(3600):
            await client.receive()
        assert client.closed is None
        assert client.latency_s == 0
        nursery.cancel_scope.cancel()


async def test_without_a_ping_interval_silence_is_no_end(autojump_clock: trio.abc.Clock) -> None:
    async with pair(client=Limits(ping_s=math.inf)) as (client, _):
        with trio.move_on_after(100_000):
            await client.receive()
        assert client.closed is None


async def test_a_peer_that_never_answers_a_close_is_given_up(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with pair() as (client, _):
        began = trio.current_time()
        await client.close(1000, "bye")
        assert trio.current_time() - began == pytest.approx(Limits().close_s)
        assert str(client.closed) == "this side closed with 1000: bye"


@pytest.mark.parametrize("role", ["client", "server"])
async def test_half_a_handshake_ends_in_time(role: str, autojump_clock: trio.abc.Clock) -> None:
    near, far = trio.testing.memory_stream_pair()
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        if role == "client":
            with refused(errno.ETIMEDOUT, "within 10 s"):
                await WebSocket.connect(near, host="here")
            nursery.cancel_scope.cancel()
        else:
            nursery.start_soon(far.send_all, b"GET / HTTP/1.1\r\nHost: x\r\n")
            with refused(errno.ETIMEDOUT, "no request within 10 s"):
                await WebSocket.accept(near)
            assert (await far.receive_some()).startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert trio.current_time() - began <= 10 + Limits().close_s
    with pytest.raises(trio.ClosedResourceError):
        await near.send_all(b"x")


# Opening ------------------------------------------------------------------------------------------


async def opened(
    admit: Callable[[Upgrade], Refusal | None], headers: tuple[tuple[str, str], ...] = ()
) -> int:
    """Try to open, and give the status."""
    near, far = trio.testing.memory_stream_pair()

    async def accept() -> None:
        try:
            await (await WebSocket.accept(far, admit=admit)).abort()
        except Refused:
            return

    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept)
        try:
            await (await WebSocket.connect(near, host="here", headers=headers)).abort()
        except Refused as error:
            return error.status
    return 101


async def test_who_may_connect_is_asked() -> None:
    asked: list[Upgrade] = []

    def admit(upgrade: Upgrade) -> Refusal | None:
        asked.append(upgrade)
        return Refusal(401, "say who you are") if upgrade.header("cookie") is None else None

    assert await opened(admit) == 401
    assert await opened(admit, (("Cookie", "a=b"),)) == 101
    assert [(one.host, one.target) for one in asked] == [("here", "/")] * 2


async def test_pages_of_elsewhere_are_refused_unless_any_may() -> None:
    foreign = (("Origin", "https://elsewhere"),)
    assert await opened(same_origin) == 101
    assert await opened(same_origin, (("Origin", "https://HERE"),)) == 101
    assert await opened(same_origin, foreign) == 403
    assert await opened(same_origin, (("Origin", "null"),)) == 403
    assert await opened(any_origin, foreign) == 101


async def test_the_servers_first_subprotocol_that_is_offered_is_chosen() -> None:
    near, far = trio.testing.memory_stream_pair()
    made: list[WebSocket] = []

    async def accept() -> None:
        made.append(await WebSocket.accept(far, subprotocols=("c", "b", "a")))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept)
        client = await WebSocket.connect(near, host="here", subprotocols=("a", "b"))
    assert client.subprotocol == made[0].subprotocol == "b"
    await client.abort()
    await made[0].abort()


@pytest.mark.parametrize(
    "header",
    [
        ("Host", "x"), ("Sec-WebSocket-Key", "x"), ("upgrade", "h2c"), ("a b", "x"), ("", "x"),
        ("X", "a\r\nY: b"), ("X", "a\0b"), ("X", "☃"), ("Content-Length", "1"),
    ],
)  # fmt: skip
async def test_a_header_that_is_none_is_refused(header: tuple[str, str]) -> None:
    near, _ = trio.testing.memory_stream_pair()
    with refused(errno.EINVAL):
        await WebSocket.connect(near, host="here", headers=(header,))


@pytest.mark.parametrize("target", ["", "x", "/a b", "/\r\nX: y", "/é", "http://x/"])
async def test_a_target_that_is_none_is_refused(target: str) -> None:
    near, _ = trio.testing.memory_stream_pair()
    with refused(errno.EINVAL, "target"):
        await WebSocket.connect(near, host="here", target=target)


async def test_what_was_read_before_and_what_follows_the_request_is_not_lost() -> None:
    near, far = trio.testing.memory_stream_pair()
    request = (
        b"GET /x?y HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    frame = b"\x81\x82\0\0\0\0hi"
    for cut in (0, 7, len(request) - 2, len(request), len(request) + 3, len(request + frame)):
        near, far = trio.testing.memory_stream_pair()
        data = request + frame
        await near.send_all(data[cut:])
        server = await WebSocket.accept(far, leading=data[:cut])
        assert server.upgrade is not None
        assert server.upgrade.target == "/x?y"
        assert await server.receive() == "hi"
        # The example of RFC 6455, 1.3.
        assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in await near.receive_some()
        await server.abort()


# Backpressure -------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_a_peer_that_never_reads_is_lost_and_memory_stays_flat() -> None:
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    stream = await trio.open_tcp_stream(*listener.socket.getsockname())
    server = await listener.accept()
    await server.send_all(b"")
    async with trio.open_nursery() as nursery:
        made: list[WebSocket] = []

        async def accept() -> None:
            made.append(await WebSocket.accept(server, limits=Limits(send_s=0.1)))

        nursery.start_soon(accept)
        client = await WebSocket.connect(stream, host="here")
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        message = b"x" * 100_000
        with refused(errno.ECONNRESET, "the peer took nothing for 0.1 s"):
            while True:
                await made[0].send(message)
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - before < 500_000
    finally:
        tracemalloc.stop()
    await client.abort()
    await listener.aclose()


@pytest.mark.slow
async def test_a_send_that_is_cancelled_in_its_middle_ends_the_connection() -> None:
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    stream = await trio.open_tcp_stream(*listener.socket.getsockname())
    server = await listener.accept()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(WebSocket.accept, server)
        client = await WebSocket.connect(stream, host="here")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send, b"x" * 50_000_000)
        # It is in its middle once something has come, of which nobody takes the rest.
        await server.receive_some()
        nursery.cancel_scope.cancel()
    with refused(errno.ECONNRESET, "cancelled"):
        await client.send("more")
    await server.aclose()
    await listener.aclose()


async def test_a_send_that_is_cancelled_before_its_turn_has_sent_nothing() -> None:
    async with pair() as (client, server):
        with trio.CancelScope() as scope:
            scope.cancel()
            await client.send("never")
        await client.send("this")
        assert await server.receive() == "this"


async def test_a_reader_that_is_busy_with_pings_never_waits_for_a_writer() -> None:
    """Both sides send more than the stream takes, and ping: nobody waits for ever."""
    async with pair() as (client, server), trio.open_nursery() as nursery:
        for one in (client, server):

            async def send(socket: WebSocket = one) -> None:
                for _ in range(20):
                    await socket.send(b"x" * 200_000)
                    await socket.ping()

            async def receive(socket: WebSocket = one) -> None:
                for _ in range(20):
                    await socket.receive()

            nursery.start_soon(send)
            nursery.start_soon(receive)


async def test_others_have_their_turn_while_a_peer_floods() -> None:
    async with pair() as (client, server):
        await server.send(*("x" for _ in range(1000)))
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            for _ in range(1000):
                await client.receive()
            nursery.cancel_scope.cancel()
        assert turns > 20


async def test_an_idle_connection_is_small() -> None:
    async with pair() as (client, _):
        held = sum(map(sys.getsizeof, vars(client).values()))
        assert held < 4096
