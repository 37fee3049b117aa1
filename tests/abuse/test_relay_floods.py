"""What a hostile client does to the relay's port: broken frames, floods, and never reading.

Each is told and cut off with the code that says why; memory stays, and everybody else goes on.
"""

import gc
import json
import socket
import struct
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import trio

from mounts.web import Bounds
from oanix.lib.nostr.auth import AUTH
from oanix.lib.websocket import Closed, WebSocket
from oanix.services.relay.questions import ROUNDS_MAX
from oanix.services.relay.session import FAULTS
from tests.abuse.test_websocket_abuse import (
    CLOSE,
    GOES_ON,
    PING,
    PONG,
    REQUEST,
    TEXT,
    frame,
)
from tests.service.relay_help import Doors, PortLink, doors, ending, nothing_fails
from tests.service.test_relay_core import ANN, NOW, note
from tests.service.test_relay_session import PATIENCE_S, Client

__all__ = ["nothing_fails"]

GOOD = note("good")
MESSAGE = b'["EVENT",' + GOOD.json() + b"]"
LIMIT = 512 * 1024
MIB = 1 << 20


# Frames -------------------------------------------------------------------------------------------


async def frames(it: Doors, data: bytes) -> list[tuple[int, bytes]]:
    """Open a conversation, send bytes, and read frames up to the close."""
    stream = await it.stream()
    got = bytearray()

    async def taken(size: int) -> bytes:
        while len(got) < size:
            piece = await stream.receive_some()
            assert piece, "it ended without a close"
            got.extend(piece)
        cut = bytes(got[:size])
        del got[:size]
        return cut

    async def heard() -> tuple[int, bytes]:
        first, size = await taken(2)
        assert size < 126
        return first, await taken(size)

    with trio.fail_after(PATIENCE_S):
        await stream.send_all(REQUEST.replace(b"here", it.host.encode()))
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += await taken(1)
        found = [await heard()]
        with suppress(trio.BrokenResourceError):  # it may end before all is sent
            await stream.send_all(data)
        while found[-1][0] != CLOSE:
            found.append(await heard())
    await stream.aclose()
    return found


def closed(code: int) -> bytes:
    return struct.pack("!H", code)


BROKEN = {
    "an unmasked frame": (frame(TEXT, MESSAGE, masked=False), 1002),
    "a reserved bit": (frame(TEXT | 0x40, MESSAGE), 1002),
    "an unknown opcode": (frame(0x83, MESSAGE), 1002),
    "a continuation of nothing": (frame(0x80, MESSAGE), 1002),
    "a length of 2^63": (frame(TEXT, length=1 << 63), 1002),
    "a length of 2^62": (frame(TEXT, MESSAGE, length=1 << 62), 1009),
    "a message that is too long": (frame(TEXT, b" " * (LIMIT + 1)), 1009),
    "a giant one": (frame(TEXT, b" " * (8 * MIB)), 1009),
    "one that is too long in its pieces": (
        frame(0x01, MESSAGE) + frame(GOES_ON, b" " * 65_000) * 9, 1009),
    "a flood of empty pieces": (frame(0x01, MESSAGE[:9]) + frame(GOES_ON) * 5000, 1008),
    "a flood of pings": (frame(PING, b"x" * 100) * 5000, 1008),
    "a ping of 126 bytes": (frame(PING, b"x" * 126), 1002),
    "no UTF-8": (frame(TEXT, b'["REQ","\xff",{}]'), 1007),
    "a surrogate": (frame(TEXT, b'["REQ","\xed\xa0\x80",{}]'), 1007),
    "an overlong NUL": (frame(TEXT, b'["REQ","\xc0\x80",{}]'), 1007),
    "half a character at the end": (frame(TEXT, b'["REQ","\xe2\x82'), 1007),
    "a close with 1005": (frame(CLOSE, closed(1005)), 1002),
    "a close of one byte": (frame(CLOSE, b"\x03"), 1002),
    "an event after the close": (frame(CLOSE, closed(1000)) + frame(TEXT, MESSAGE), 1000),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
async def test_broken_frames_end_their_connection_with_the_code_that_says_why(
    what: str, tmp_path: Path
) -> None:
    data, code = BROKEN[what]
    async with doors(tmp_path) as it:
        answered = await frames(it, data)
        assert json.loads(answered[0][1])[0] == "AUTH"
        assert all(first == PONG for first, _ in answered[1:-1])
        assert answered[-1][0] == CLOSE
        assert answered[-1][1][:2] == closed(code)
        await it.until_gone()
        assert it.kept() == []
        assert (await (await it.on_port()).put(GOOD))[2]


async def test_an_event_in_pieces_is_one_and_a_binary_one_is_none(tmp_path: Path) -> None:
    pieces = [MESSAGE[at : at + 7] for at in range(0, len(MESSAGE), 7)]
    data = frame(0x01, pieces[0]) + frame(PING, b"?")
    data += b"".join(frame(GOES_ON, piece) for piece in pieces[1:]) + frame(0x80)
    async with doors(tmp_path) as it:
        other = await it.on_port()
        await other.link.send(MESSAGE)
        assert await other.hear() == ["NOTICE", "invalid: a message is text, this was binary"]
        assert it.kept() == []
        stream = await it.stream()
        async with await WebSocket.connect(stream, host=it.host, target="/") as client:
            assert json.loads(await client.receive())[0] == "AUTH"
            await stream.send_all(data)
            assert json.loads(await client.receive()) == ["OK", GOOD.id, True, ""]


async def test_a_message_as_long_as_it_may_be_is_answered(tmp_path: Path) -> None:
    async with doors(tmp_path) as it:
        client = await it.on_port()
        padded = '["EVENT",' + GOOD.json().decode()
        await client.link.send(padded.ljust(LIMIT - 1) + "]")
        assert await client.hear() == ["OK", GOOD.id, True, ""]
        await client.link.send(padded.ljust(LIMIT) + "]")
        assert (await ending(client))[0] == 1009


# Handshakes ---------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_half_open_handshakes_end_and_keep_nobody_out(tmp_path: Path) -> None:
    # All are opened before the first of them has had its time.
    bounds = Bounds(head_s=3, openings=16, per_address=200)
    async with doors(tmp_path, bounds=bounds) as it:
        client = await it.on_port()
        streams = [await it.stream() for _ in range(100)]
        for number, stream in enumerate(streams):
            with suppress(trio.BrokenResourceError):  # the oldest are gone already
                await stream.send_all(REQUEST[: number + 1])
        assert (await client.put(GOOD))[2]
        told = 0
        for stream in streams:
            with trio.fail_after(PATIENCE_S), suppress(trio.BrokenResourceError):
                told += b" 408 " in await stream.receive_some()
        assert 1 <= told <= bounds.openings
        await it.until_gone(1)
        assert (await client.stored("s", {}))[0] == [GOOD.id]


async def test_pages_of_any_origin_and_none_may_connect(tmp_path: Path) -> None:
    # Nobody is known to a relay by a cookie: a page can do no more than its reader.
    async with doors(tmp_path) as it:
        for headers in ((), (("Origin", "https://evil.example"),), (("Origin", "null"),)):
            stream = await it.stream()
            async with await WebSocket.connect(
                stream, host=it.host, target="/", headers=headers
            ) as client:
                assert json.loads(await client.receive())[0] == "AUTH"


async def together(client: Client, texts: list[str]) -> None:
    """Send many messages at once."""
    assert isinstance(client.link, PortLink)
    await client.link.socket.send(*texts)


# Floods -------------------------------------------------------------------------------------------


async def test_a_flood_of_what_is_no_message_is_told_and_cut(tmp_path: Path) -> None:
    async with doors(tmp_path) as it:
        client = await it.on_port()
        await together(client, ["?"] * (FAULTS + 500))
        heard = [await client.hear() for _ in range(FAULTS + 1)]
        assert {one[0] for one in heard} == {"NOTICE"}
        assert heard[-1][1].startswith("blocked: ")
        assert await ending(client) == (1008, "too many messages that are none")


async def test_a_flood_of_subscriptions_stops_at_the_bound(tmp_path: Path) -> None:
    async with doors(tmp_path) as it:
        client = await it.on_port()
        heard = [await client.ask("REQ", str(number), {}) for number in range(120)]
        assert [one[0] for one in heard] == ["EOSE"] * 50 + ["CLOSED"] * 70
        assert heard[-1][2].startswith("rate-limited: at most 50 subscriptions")
        assert it.fs.relay.core.stats()["subscriptions"] == 50
        assert (await client.ask("REQ", "0", {}))[0] == "EOSE"
        assert (await client.put(GOOD))[0] == "EVENT"
        for number in range(12):
            heard.append(await client.ask("NEG-OPEN", str(number), {}, "61"))
            while heard[-1][0] in ("EVENT", "OK"):
                heard[-1] = await client.hear()
        assert [one[0] for one in heard[-12:]] == ["NEG-MSG"] * 8 + ["NEG-ERR"] * 4
        for stream in it.streams:
            # A reset, and no close at all.
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            await stream.aclose()
        await it.until_gone()
        assert it.fs.relay.core.stats()["subscriptions"] == 0


@pytest.mark.slow
async def test_many_searches_that_listen_keep_nobody_waiting(tmp_path: Path) -> None:
    long = note("é wo rd " * 7_000)
    # Putting these in order takes seconds, and nobody asked for it.
    marks = note("wo " + "\u0301\u0316" * 32_000)
    names = set(map(str, range(25)))
    async with doors(tmp_path) as it:
        listener, author = await it.on_port(), await it.on_port()
        for name in names:
            filters = [{"search": f"none{name} {one}", "limit": 0} for one in range(19)]
            asked = await listener.ask("REQ", name, *filters, {"search": "\0wo", "limit": 0})
            assert asked[0] == "EOSE"
        # Taken apart for each of them, it would take seconds, whoever else has the processor.
        for event in (long, marks):
            began = time.process_time()
            assert (await author.put(event))[2]
            assert {(await listener.hear())[1] for _ in names} == names
            assert time.process_time() - began < 2


async def test_a_negotiation_without_end_ends(tmp_path: Path) -> None:
    async with doors(tmp_path) as it:
        client = await it.on_port()
        told = await client.ask("NEG-OPEN", "n", {}, "61")
        for _ in range(ROUNDS_MAX):
            assert told == ["NEG-MSG", "n", "61"]
            told = await client.ask("NEG-MSG", "n", "61")
            if told[0] == "NEG-ERR":
                break
        assert told == ["NEG-ERR", "n", "invalid: this negotiation does not end"]
        assert (await client.put(GOOD))[2]


@pytest.mark.slow
async def test_a_flood_of_questions_keeps_nobody_waiting(tmp_path: Path) -> None:
    async with doors(tmp_path) as it:
        flooder, client = await it.on_port(), await it.on_port()
        assert (await client.put(GOOD))[2]
        texts = ['["CLOSE","x"]', '["REQ","x",{}]', '["COUNT","c",{"kinds":[1]}]'] * 3_000

        async def flood() -> None:
            await together(flooder, texts)

        async def drain() -> None:
            for _ in range(9_000):
                assert (await flooder.hear())[0] in ("EVENT", "EOSE", "COUNT")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(flood)
            nursery.start_soon(drain)
            while nursery.child_tasks:
                with trio.fail_after(3):
                    assert (await client.stored("s", {}))[0] == [GOOD.id]


# Who does not read --------------------------------------------------------------------------------


@contextmanager
def memory_within(most: int) -> Iterator[None]:
    gc.collect()
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


@pytest.mark.slow
async def test_a_listener_that_does_not_read_is_told_and_cut(tmp_path: Path) -> None:
    async with doors(tmp_path) as it:
        slow, author = await it.on_port(room=4096), await it.on_port()
        assert await slow.stored("s", {"kinds": [1]}) == ([], "finish")
        with memory_within(24 * MIB):
            sent = 0
            while it.fs.relay.core.stats()["subscriptions"]:
                assert (await author.put(note(f"{sent}".ljust(60_000))))[2]
                sent += 1
        assert 60 < sent < 300
        # What was sent is read first, whole; then the reason.
        code, reason = await ending(slow)
        assert (code, reason) == (1008, "you read slower than you listen to")
        assert len(it.kept()) == sent
        assert (await author.put(GOOD))[2]


@pytest.mark.slow
async def test_who_asks_and_does_not_read_waits_for_itself(tmp_path: Path) -> None:
    kept = [note("x" * 50_000, ANN, 1, NOW - number) for number in range(10)]
    async with doors(tmp_path) as it:
        slow, other = await it.on_port(room=4096), await it.on_port()
        for event in kept:
            assert (await other.put(event))[2]
        with memory_within(24 * MIB):
            for number in range(80):
                await slow.say("REQ", f"{number % 9}", {"kinds": [1]})
            for _ in range(20):
                assert (await other.stored("s", {"limit": 1}))[0] == [kept[0].id]
            heard = 0
            while heard < 80:
                heard += (await slow.hear())[0] == "EOSE"
        assert (await slow.stored("end", {"limit": 1}))[0] == [kept[0].id]


@pytest.mark.slow
async def test_an_answer_of_large_events_has_a_bound_and_says_that_there_is_more(
    tmp_path: Path,
) -> None:
    kept = [note("\u2028" * 60_000, ANN, 1, NOW - number) for number in range(110)]
    async with doors(tmp_path) as it:
        client = await it.on_port()
        for event in kept:
            assert (await client.put(event))[2]
        found: list[str] = []
        ended = "more"
        while ended == "more":
            ids, ended = await client.stored("s", {"until": NOW - len(found)})
            assert 0 < sum(len(event.json()) for event in kept if event.id in ids) <= 8 * MIB
            found += ids
        assert found == [event.id for event in kept]


@pytest.mark.slow
async def test_who_writes_and_reads_no_answer_is_cut(tmp_path: Path) -> None:
    refused = json.dumps(["EVENT", json.loads(note(kind=AUTH).json())])
    async with doors(tmp_path) as it:
        slow, other = await it.on_port(room=4096), await it.on_port()

        async def flood() -> None:
            while True:
                await together(slow, [refused] * 2_000)

        with trio.fail_after(PATIENCE_S), pytest.raises(Closed):
            await flood()
        assert (await other.put(GOOD))[2]
        await it.until_gone(1)
        assert it.kept() == [GOOD.json()]


async def test_who_leaves_in_the_middle_of_a_message_leaves_nothing(tmp_path: Path) -> None:
    async with doors(tmp_path) as it:
        for size in (1, 2, 7, 60, 300, len(MESSAGE) + 7):
            client: Client = await it.on_port()
            assert await client.stored("s", {}) == ([], "finish")
            await it.streams[-1].send_all(frame(TEXT, MESSAGE)[:size])
            await it.streams[-1].aclose()
            await it.until_gone()
        assert it.kept() == []
        assert it.fs.relay.core.stats()["subscriptions"] == 0
