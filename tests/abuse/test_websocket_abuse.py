"""What a hostile WebSocket peer sends: each is told what was wrong, and costs no more than that."""

import errno
import gc
import itertools
import socket
import struct
import tracemalloc
import zlib

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from oanix.lib.websocket import Closed, Limits, Refused, WebSocket
from tests.reach import refused

REQUEST = (
    b"GET / HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
MASK = b"\x01\x02\x03\x04"


def frame(first: int, payload: bytes = b"", *, masked: bool = True, length: int = -1) -> bytes:
    """Write a frame; length: what it says of itself, where that is a lie."""
    length = len(payload) if length < 0 else length
    mark = 0x80 if masked else 0
    if length < 126:
        head = bytes([first, mark | length])
    elif length < 65_536:
        head = bytes([first, mark | 126]) + struct.pack("!H", length)
    else:
        head = bytes([first, mark | 127]) + struct.pack("!Q", length)
    if not masked:
        return head + payload
    return head + MASK + bytes(byte ^ MASK[at % 4] for at, byte in enumerate(payload))


TEXT, BINARY, GOES_ON, CLOSE, PING, PONG = 0x81, 0x82, 0x00, 0x88, 0x89, 0x8A


async def answered(data: bytes, limits: Limits | None = None, *, compress: bool = False) -> int:
    """Send bytes to a server after the handshake, and give the code with which it closes."""
    near, far = trio.testing.memory_stream_pair()
    offer = b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
    request = REQUEST[:-2] + offer if compress else REQUEST
    await near.send_all(request + data)
    server = await WebSocket.accept(far, limits=limits, compress=compress)
    async with trio.open_nursery() as nursery:

        async def serve() -> None:
            async for _ in server:
                pass

        nursery.start_soon(serve)
        got = b""
        while b"\r\n\r\n" not in got:
            got += await near.receive_some()
        got = got.partition(b"\r\n\r\n")[2]
        while piece := await near.receive_some():
            got += piece
        await near.aclose()
    assert server.closed is not None
    while got[0] == PONG:
        got = got[2 + got[1] :]
    assert got[0] == CLOSE
    assert got[1] <= 125
    assert len(got) == 2 + got[1]
    if not got[1]:
        return 0
    got[4:].decode()
    return int.from_bytes(got[2:4], "big")


BROKEN = {
    "an unmasked frame": (frame(TEXT, b"x", masked=False), 1002),
    "the first reserved bit": (frame(0x80 | 0x40 | 1, b"x"), 1002),
    "the second reserved bit": (frame(0x80 | 0x20 | 1, b"x"), 1002),
    "the third reserved bit": (frame(0x80 | 0x10 | 2, b"x"), 1002),
    "a reserved bit on a ping": (frame(0x80 | 0x40 | 9, b"x"), 1002),
    "a length of 2^63": (frame(BINARY, length=1 << 63), 1002),
    "a length of 2^64-1": (frame(BINARY, length=(1 << 64) - 1), 1002),
    "a length in more bytes than it needs": (b"\x82\xfe\x00\x05" + MASK + b"hello", 1002),
    "a length in many more": (b"\x82\xff" + bytes(7) + b"\x05" + MASK, 1002),
    "a ping of 126 bytes": (frame(PING, b"x" * 126), 1002),
    "a ping of 2^62 bytes": (frame(PING, length=1 << 62), 1002),
    "a close of 126 bytes": (frame(CLOSE, b"\x03\xe8" + b"x" * 124), 1002),
    "a ping in fragments": (frame(0x09, b"x"), 1002),
    "a close in fragments": (frame(0x08, b""), 1002),
    "a close of one byte": (frame(CLOSE, b"\x03"), 1002),
    "a reason that is no UTF-8": (frame(CLOSE, b"\x03\xe8\xff"), 1007),
    "a continuation of nothing": (frame(0x80, b"x"), 1002),
    "a message within a message": (frame(0x01, b"x") + frame(TEXT, b"y"), 1002),
    "invalid UTF-8": (frame(TEXT, b"\xff"), 1007),
    "UTF-8 that ends in a character": (frame(TEXT, b"\xe2\x82"), 1007),
    "a surrogate in UTF-8": (frame(TEXT, b"\xed\xa0\x80"), 1007),
    "an overlong character": (frame(TEXT, b"\xc0\xaf"), 1007),
    "a character beyond the last": (frame(TEXT, b"\xf4\x90\x80\x80"), 1007),
    "UTF-8 that breaks in a later fragment": (
        frame(0x01, b"\xe2") + frame(PING) + frame(0x80, b"\x28\xa1"), 1007),
    "a message that is too long": (frame(BINARY, bytes(2000)), 1009),
    "one that says so and never comes": (frame(BINARY, bytes(1500), length=1 << 62), 1009),
    "one that is too long in characters of three bytes": (frame(TEXT, b"\xe2\x82\xac" * 400), 1009),
    "one that is too long in its fragments": (
        frame(0x02, bytes(600)) + frame(0x00, bytes(600)), 1009),
    "a flood of empty fragments": (frame(0x01) + frame(GOES_ON) * 5000, 1008),
    "a flood of pings": (frame(PING, b"x" * 100) * 5000, 1008),
    "a flood of pongs": (frame(PONG) * 5000, 1008),
}  # fmt: skip
BROKEN |= {
    f"opcode {opcode}": (frame(0x80 | opcode, b"x"), 1002)
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)
}
BROKEN |= {
    f"close code {code}": (frame(CLOSE, struct.pack("!H", code)), 1002)
    for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535)
}


@pytest.mark.parametrize("what", BROKEN)
async def test_a_server_closes_with_the_code_that_says_why(what: str) -> None:
    data, code = BROKEN[what]
    assert await answered(data, Limits(message=1024)) == code


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1009, 1011, 1013, 3000, 4999])
async def test_a_close_is_answered_with_its_code(code: int) -> None:
    assert await answered(frame(CLOSE, struct.pack("!H", code) + b"bye")) == code


async def test_a_close_without_a_code_is_answered_without_one() -> None:
    assert await answered(frame(CLOSE)) == 0


async def test_what_comes_after_a_close_is_nothing() -> None:
    assert await answered(frame(CLOSE, b"\x03\xe8") + b"\xff" * 1000) == 1000


async def test_a_client_refuses_masked_frames() -> None:
    near, far = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:

        async def serve() -> None:
            server = await WebSocket.accept(far)
            await far.send_all(frame(TEXT, b"x"))
            with pytest.raises(Closed):
                await server.receive()
            assert server.closed is not None
            assert server.closed.code == 1002

        nursery.start_soon(serve)
        client = await WebSocket.connect(near, host="here")
        with refused(errno.EPROTO, "this side closed with 1002: client received unexpected masked"):
            await client.receive()


@given(data=st.binary(max_size=200))
def test_no_bytes_raise_anything_but_an_end(data: bytes) -> None:
    async def main() -> None:
        near, far = trio.testing.memory_stream_pair()
        await near.send_all(REQUEST + data)
        server = await WebSocket.accept(far)
        await near.send_eof()
        async for message in server:
            assert isinstance(message, str | bytes)
        assert server.closed is not None

    trio.run(main)


@pytest.mark.slow
@given(text=st.text(max_size=60), cuts=st.lists(st.integers(0, 240), max_size=8))
def test_utf_8_is_whole_again_however_it_was_cut(text: str, cuts: list[int]) -> None:
    data = text.encode()
    ends = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[a:b] for a, b in itertools.pairwise(ends)]
    last = len(pieces) - 1
    frames = [
        frame((0 if at else 1) | (0x80 if at == last else 0), piece)
        for at, piece in enumerate(pieces)
    ]

    async def main() -> None:
        near, far = trio.testing.memory_stream_pair()
        await near.send_all(REQUEST)
        server = await WebSocket.accept(far)
        async with trio.open_nursery() as nursery:

            async def send() -> None:
                for byte in b"".join(frames):
                    await near.send_all(bytes([byte]))

            nursery.start_soon(send)
            assert await server.receive() == text
        await server.abort()

    trio.run(main)


# Bombs and memory ---------------------------------------------------------------------------------


async def test_a_bomb_is_not_unpacked_where_nobody_asked_for_packing() -> None:
    assert await answered(frame(0xC1, b"x")) == 1002


@pytest.mark.slow
async def test_a_bomb_is_stopped_at_the_bound() -> None:
    packer = zlib.compressobj(9, wbits=-15)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(100))
    bomb += packer.flush(zlib.Z_SYNC_FLUSH)
    tracemalloc.start()
    try:
        assert await answered(frame(0xC2, bomb), compress=True) == 1009
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


async def test_what_was_packed_badly_ends_the_connection() -> None:
    assert await answered(frame(0xC1, b"\xff\xff\xff\xff"), compress=True) == 1007


@pytest.mark.slow
async def test_a_message_in_tiny_pieces_takes_no_more_than_its_size() -> None:
    near, far = trio.testing.memory_stream_pair()
    await near.send_all(REQUEST)
    server = await WebSocket.accept(far)
    await near.receive_some()
    text = "é" * 20_000
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.receive)
            data = frame(TEXT, text.encode(), length=100_000)
            for at in range(0, len(data), 2):
                await near.send_all(data[at : at + 2])
                if not at % 20:
                    await trio.testing.wait_all_tasks_blocked()
            await trio.testing.wait_all_tasks_blocked()
            gc.collect()
            assert tracemalloc.get_traced_memory()[0] - before < 1_000_000
            nursery.cancel_scope.cancel()
    finally:
        tracemalloc.stop()
    await server.abort()


@pytest.mark.slow
async def test_a_thousand_half_open_handshakes_cost_little_and_end(
    autojump_clock: trio.abc.Clock,
) -> None:
    peers = []
    began = trio.current_time()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        async with trio.open_nursery() as nursery:

            async def accept(stream: trio.abc.Stream) -> None:
                with refused(errno.ETIMEDOUT):
                    await WebSocket.accept(stream)

            for _ in range(1000):
                near, far = trio.testing.memory_stream_pair()
                peers.append(near)
                await near.send_all(REQUEST[:100])
                nursery.start_soon(accept, far)
            await trio.testing.wait_all_tasks_blocked()
            assert tracemalloc.get_traced_memory()[0] - before < 30 << 20
        assert trio.current_time() - began <= 10 + Limits().close_s
    finally:
        tracemalloc.stop()
    for near in peers:
        assert b" 408 " in await near.receive_some()


# Handshakes ---------------------------------------------------------------------------------------


def without(name: bytes) -> bytes:
    return b"\r\n".join(
        line for line in REQUEST.split(b"\r\n") if not line.lower().startswith(name)
    )


def with_line(line: bytes) -> bytes:
    return REQUEST[:-2] + line + b"\r\n\r\n"


HANDSHAKES = {
    "no upgrade": (without(b"upgrade"), 400),
    "no connection": (without(b"connection"), 400),
    "no key": (without(b"sec-websocket-key"), 400),
    "no version": (without(b"sec-websocket-version"), 400),
    "no host": (without(b"host"), 400),
    "another version": (REQUEST.replace(b"Version: 13", b"Version: 8"), 426),
    "a key that is no base64": (REQUEST.replace(b"dGhlIHNhbXBsZSBub25jZQ==", b"!"), 400),
    "a key of 15 bytes": (REQUEST.replace(b"bXBsZSBub25jZQ==", b"bXBsZSBub25j"), 400),
    "two keys": (with_line(b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), 400),
    "a POST": (REQUEST.replace(b"GET", b"POST"), 400),
    "HTTP/1.0": (REQUEST.replace(b"HTTP/1.1", b"HTTP/1.0"), 400),
    "a body": (with_line(b"Content-Length: 5"), 400),
    "a chunked body": (with_line(b"Transfer-Encoding: chunked"), 400),
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
    "a header of 1 MB": (with_line(b"X: " + b"x" * 1_000_000), 431),
    "a head without an end": (REQUEST[:-2] + b"X: " + b"x" * 1_000_000, 431),
    "a host that is no ASCII": (REQUEST.replace(b"Host: here", b"Host: h\xe9\xe8"), 400),
    "a subprotocol that is no ASCII": (with_line(b"Sec-WebSocket-Protocol: \xe9"), 400),
    "a foreign origin": (with_line(b"Origin: https://evil"), 403),
    "two origins": (with_line(b"Origin: https://here\r\nOrigin: https://evil"), 400),
}  # fmt: skip


@pytest.mark.parametrize("what", HANDSHAKES)
async def test_a_bad_request_gets_an_http_answer_and_the_end(what: str) -> None:
    request, status = HANDSHAKES[what]
    near, far = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:

        async def accept() -> None:
            with pytest.raises(Refused) as caught:
                await WebSocket.accept(far)
            assert caught.value.status == status

        nursery.start_soon(accept)
        await near.send_all(request)
        answer = b""
        while piece := await near.receive_some():
            answer += piece
        await near.aclose()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"\r\nContent-Length: %d" % len(body) in head


ANSWER = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)
ANSWERS = {
    "another accept token": (ANSWER, errno.EPROTO),
    "no answer but the end": (b"", errno.ECONNRESET),
    "half an answer": (ANSWER[:40], errno.ECONNRESET),
    "no HTTP": (b"220 mail ready\r\n\r\n", errno.EPROTO),
    "a head without an end": (b"HTTP/1.1 101 X\r\nX: " + b"x" * 100_000, errno.EPROTO),
    "a page": (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", errno.EPROTO),
    "not found": (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", errno.ENOENT),
    "unauthorized": (b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n", errno.EACCES),
    "forbidden": (b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n", errno.EACCES),
    "a redirect": (b"HTTP/1.1 302 F\r\nLocation: ws://127.0.0.1/\r\n\r\n", errno.EPROTO),
    "a strange status": (b"HTTP/1.1 799 X\r\n\r\n", errno.EPROTO),
    "103 first": (b"HTTP/1.1 103 Early Hints\r\n\r\n", errno.EPROTO),
}


@pytest.mark.parametrize("what", ANSWERS)
async def test_a_client_is_told_what_was_wrong_with_an_answer(what: str) -> None:
    answer, number = ANSWERS[what]
    near, far = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:

        async def serve() -> None:
            await far.receive_some()
            await far.send_all(answer)
            await far.send_eof()

        nursery.start_soon(serve)
        with refused(number):
            await WebSocket.connect(near, host="here")
    with pytest.raises(trio.ClosedResourceError):
        await near.send_all(b"x")


@given(answer=st.binary(max_size=100))
def test_no_answer_raises_anything_but_an_error(answer: bytes) -> None:
    async def main() -> None:
        near, far = trio.testing.memory_stream_pair()
        await far.send_all(b"HTTP/1.1 " + answer + b"\r\n\r\n")
        await far.send_eof()
        with pytest.raises(OSError, match=r"\w"):
            await WebSocket.connect(near, host="here")

    trio.run(main)


async def test_a_connection_that_breaks_is_an_end() -> None:
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    stream = await trio.open_tcp_stream(*listener.socket.getsockname())
    raw = await listener.accept()
    await stream.send_all(REQUEST)
    server = await WebSocket.accept(raw)
    # A close without lingering resets the connection.
    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await stream.aclose()
    with refused(errno.ECONNRESET, "the connection was lost"):
        await server.receive()
    with refused(errno.ECONNRESET):
        await server.send("x")
    await listener.aclose()
