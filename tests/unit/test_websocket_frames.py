"""The frames that are read and written here, against the library that does all others."""

import itertools
from functools import partial
from typing import cast

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from wsproto.frame_protocol import Frame, FrameProtocol, Opcode, ParseFailed

from oanix.lib.websocket import Limits, Message, WebSocket
from oanix.lib.websocket.frames import BINARY, TEXT, framed, xored
from oanix.lib.websocket.inbound import Inbound, Violation

Outcome = tuple[list[Message], int, object]
"""The messages, the code of what broke, and the peer's close."""

PAYLOADS = st.one_of(
    st.text(max_size=200).map(str.encode),
    st.binary(max_size=10),
    st.sampled_from([b"", b"x" * 125, b"x" * 126, b"x" * 65_535, b"x" * 65_536, b"\xff", b"\xe2"]),
)
FIRSTS = st.one_of(
    st.sampled_from([TEXT, BINARY, 0x01, 0x00, 0x80, 0x89, 0x8A]), st.integers(0, 255)
)
FRAMES = st.lists(st.tuples(FIRSTS, PAYLOADS, st.booleans()), max_size=6)


async def read_by_us(pieces: list[bytes], *, client: bool) -> Outcome:
    inbound = Inbound(FrameProtocol(client, []), Limits(message=1 << 20, controls=1000))
    got: list[Message] = []
    try:
        for piece in pieces:
            inbound.feed(piece)
            while (message := inbound.take()) is not None:
                got.append(message)
            got += inbound.rest(100)
    except Violation as violation:
        return got, violation.code, None
    return got, 0, inbound.close


def read_by_the_library(data: bytes, *, client: bool) -> Outcome:
    protocol = FrameProtocol(client, [])
    got: list[Message] = []
    parts: list[Message] = []
    try:
        protocol.receive_bytes(data)
        for frame in protocol.received_frames():
            if frame.opcode is Opcode.CLOSE:
                return got, 0, frame.payload
            if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
                _join(frame, parts, got)
    except ParseFailed as error:
        return got, int(error.code), None
    return got, 0, None


def _join(frame: Frame, parts: list[Message], got: list[Message]) -> None:
    parts.append(cast("Message", frame.payload))
    if frame.message_finished:
        empty = parts[0][:0]
        got.append(empty.join(parts))  # type: ignore[arg-type]
        parts.clear()


@pytest.mark.slow
@given(frames=FRAMES, cuts=st.lists(st.integers(0, 400), max_size=6), client=st.booleans())
def test_whatever_comes_is_read_as_the_library_reads_it(
    frames: list[tuple[int, bytes, bool]], cuts: list[int], client: bool
) -> None:
    # The wrong masking is rare, so that more than the first frame is looked at.
    data = b"".join(
        framed(first, payload, mask=odd if len(payload) == 7 else not client)
        for first, payload, odd in frames
    )
    ends = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[a:b] for a, b in itertools.pairwise(ends)]
    ours = trio.run(partial(read_by_us, pieces, client=client))
    theirs = read_by_the_library(data, client=client)
    assert ours[:2] == theirs[:2]
    assert ours[2] == theirs[2]


@pytest.mark.slow
@given(message=st.text(max_size=300) | st.binary(max_size=300) | st.just("x" * 70_000))
def test_what_we_write_is_what_the_library_writes(message: Message) -> None:
    first, payload = (TEXT, message.encode()) if isinstance(message, str) else (BINARY, message)
    assert framed(first, payload, mask=False) == FrameProtocol(False, []).send_data(message)
    protocol = FrameProtocol(False, [])
    protocol.receive_bytes(framed(first, payload, mask=True))
    got = "" if isinstance(message, str) else b""
    for frame in protocol.received_frames():
        got += cast("str", frame.payload)  # type: ignore[operator]
    assert got == message


@given(payload=st.binary(max_size=100), mask=st.binary(min_size=4, max_size=4))
def test_a_mask_is_taken_off_as_it_was_put_on(payload: bytes, mask: bytes) -> None:
    assert xored(payload, mask) == bytes(b ^ mask[at % 4] for at, b in enumerate(payload))
    assert xored(xored(payload, mask), mask) == payload


async def tcp_pair() -> tuple[WebSocket, WebSocket]:
    """Two ends of one connection over loopback."""
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    near = await trio.open_tcp_stream(*listener.socket.getsockname())
    far = await listener.accept()
    await listener.aclose()
    made: list[WebSocket] = []

    async def accept() -> None:
        made.append(await WebSocket.accept(far))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept)
        client = await WebSocket.connect(near, host="here")
    return client, made[0]


async def test_messages_that_came_together_are_received_together() -> None:
    client, server = await tcp_pair()
    await client.send("one", b"two", "three")
    with trio.fail_after(20):
        got: list[Message] = []
        while len(got) < 3:
            got += await server.receive_all()
        assert got == ["one", b"two", "three"]
        await client.send("a", "b", "c")
        assert len(await server.receive_all(2)) <= 2
    await client.abort()
    await server.abort()


async def test_what_a_socket_does_not_take_at_once_is_sent_later_and_in_order() -> None:
    client, server = await tcp_pair()
    texts = [b"%07d" % number * 1000 for number in range(2000)]
    at = 0
    while not server.unsent:
        assert server.send_now(texts[at : at + 10])
        at += 10
    assert not server.send_now([b"not now"])
    got: list[Message] = []
    async with trio.open_nursery() as nursery:

        async def receive() -> None:
            while len(got) < at + 2:
                got.extend(await client.receive_all())

        nursery.start_soon(receive)
        with trio.fail_after(20):
            await server.send_texts([b"more"])
            assert not server.unsent
            assert server.send_now([b"last"])
    assert got == [*(text.decode() for text in texts[:at]), "more", "last"]
    await client.abort()
    await server.abort()


async def test_messages_before_a_broken_one_are_received_first() -> None:
    near, far = trio.testing.memory_stream_pair()
    request = (
        b"GET / HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    good = framed(TEXT, b"good", mask=True)
    await near.send_all(request + good + good + framed(TEXT, b"\xff", mask=True))
    await near.send_eof()
    server = await WebSocket.accept(far)
    assert await server.receive_all() == ["good", "good"]
    async for _ in server:
        pytest.fail("nothing more was sent")
    assert server.closed is not None
    assert server.closed.code == 1007
