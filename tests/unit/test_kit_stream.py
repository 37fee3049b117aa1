"""A stream gives each reader every record once, or says how many it missed."""

import errno
import os
import select

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from oanix.channel import OpenFile
from oanix.kit import Ring, Stream, TableService
from oanix.node import WOULD_BLOCK
from tests.reach import ROOT, Reach, refused


class Radio(TableService):
    """Sends."""

    def __init__(self, ring: Ring) -> None:
        super().__init__()
        self.grow((("whole", 0o444, Stream(ring)), ("live", 0o444, Stream(ring, whole=False))))


async def tune(ring: Ring, name: str = "/whole") -> OpenFile:
    return await Reach.of(Radio(ring)).open(name)


async def test_a_reader_gets_what_is_kept_and_then_waits() -> None:
    ring = Ring()
    ring.put("one")
    reader = await tune(ring)
    ring.put("two\n")

    assert reader.try_read(ROOT, 100, 0) == b"one\ntwo\n"
    assert reader.try_read(ROOT, 100, 8) is WOULD_BLOCK


async def test_a_live_reader_gets_what_comes_after_its_open() -> None:
    ring = Ring()
    ring.put("one")
    reader = await tune(ring, "/live")
    ring.put("two")

    assert reader.try_read(ROOT, 100, 0) == b"two\n"


async def test_each_open_reads_on_its_own() -> None:
    ring = Ring()
    one, two = await tune(ring), await tune(ring)
    ring.put("x")

    assert one.try_read(ROOT, 100, 0) == two.try_read(ROOT, 100, 0) == b"x\n"


async def test_a_waiting_reader_is_woken() -> None:
    ring = Ring()
    reader = await tune(ring)
    got: list[bytes] = []

    async def read() -> None:
        got.append(await reader.read(ROOT, 100, 0))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        assert got == []
        ring.put("x")

    assert got == [b"x\n"]


async def test_a_cancelled_read_takes_nothing() -> None:
    ring = Ring()
    reader = await tune(ring)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader.read, ROOT, 100, 0)
        await trio.testing.wait_all_tasks_blocked()
        assert ring.bell.waiting == 1
        nursery.cancel_scope.cancel()
    ring.put("x")

    assert reader.try_read(ROOT, 100, 0) == b"x\n"
    assert ring.bell.waiting == 0


async def test_a_reader_that_fell_behind_is_told_how_much_it_missed() -> None:
    ring = Ring(max_records=3)
    reader = await tune(ring)
    for number in range(10):
        ring.put(str(number))

    assert reader.try_read(ROOT, 100, 0) == b'{"dropped":7}\n7\n8\n9\n'


async def test_the_bytes_of_a_ring_are_bounded() -> None:
    ring = Ring(max_bytes=1000, dropped=lambda count: b"lost %d\n" % count)
    reader = await tune(ring)
    for _ in range(1000):
        ring.put("x" * 99)

    assert reader.try_read(ROOT, 8, 0) == b"lost 990"
    assert reader.try_read(ROOT, 9999, 0) == b"\n" + (b"x" * 99 + b"\n") * 10


async def test_a_record_over_the_bound_is_kept_alone() -> None:
    ring = Ring(max_bytes=10)
    ring.put("before")
    ring.put("x" * 100)

    assert await Reach.of(Radio(ring)).read("/whole") == b"x" * 100 + b"\n"


async def test_a_read_gives_whole_records_when_one_fits() -> None:
    ring = Ring()
    reader = await tune(ring)
    ring.put("1234567")
    ring.put("abcdefg")

    assert reader.try_read(ROOT, 10, 0) == b"12345678"[:7] + b"\n"
    assert reader.try_read(ROOT, 3, 0) == b"abc"
    assert reader.try_read(ROOT, 100, 0) == b"defg\n"


async def test_a_record_that_is_being_read_outlives_the_ring() -> None:
    ring = Ring(max_records=1)
    reader = await tune(ring)
    ring.put("abc")
    assert reader.try_read(ROOT, 2, 0) == b"ab"
    ring.put("x")
    ring.put("y")

    assert reader.try_read(ROOT, 100, 0) == b'c\n{"dropped":1}\ny\n'


async def test_a_closed_stream_gives_what_is_kept_and_then_its_end() -> None:
    ring = Ring()
    ring.put("x")
    reader = await tune(ring)
    ring.close()

    assert reader.try_read(ROOT, 100, 0) == b"x\n"
    assert reader.try_read(ROOT, 100, 0) == b""
    with pytest.raises(ValueError, match="closed"):
        ring.put("y")


async def test_closing_wakes_who_waits() -> None:
    ring = Ring()
    reader = await tune(ring)
    async with trio.open_nursery() as nursery:

        async def read() -> None:
            assert await reader.read(ROOT, 100, 0) == b""

        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        ring.close()


async def test_poll_is_called_back_once_at_the_next_record() -> None:
    ring = Ring()
    reader = await tune(ring)
    calls: list[int] = []

    assert reader.ready(lambda: calls.append(1)) == 0
    assert reader.ready(lambda: calls.append(2)) == 0
    ring.put("x")
    ring.put("y")

    assert calls == [2]
    assert reader.ready(None) & select.POLLIN


async def test_a_reader_that_closes_is_not_called_back() -> None:
    ring = Ring()
    reader = await tune(ring)
    calls: list[int] = []
    reader.ready(lambda: calls.append(1))

    reader.close(ROOT)
    ring.put("x")

    assert calls == []


async def test_a_stream_takes_no_writes() -> None:
    with refused(errno.EACCES):
        await Reach.of(Radio(Ring())).open("/whole", os.O_RDWR)
    with refused(errno.EBADF):
        (await tune(Ring())).try_write(ROOT, b"x", 0)


@given(st.lists(st.one_of(st.text("ab", max_size=5), st.integers(1, 9)), max_size=60))
async def test_no_record_is_given_twice_or_lost_without_a_word(steps: list[str | int]) -> None:
    ring = Ring(max_records=4, max_bytes=20)
    reader = await tune(ring)
    put, got = [], bytearray()
    for step in steps:
        if isinstance(step, str):
            put.append(step)
            ring.put(step)
        else:
            answer = reader.try_read(ROOT, step, 0)
            got += b"" if answer is WOULD_BLOCK else answer
    ring.close()
    while answer := reader.try_read(ROOT, 7, 0):
        got += answer  # type: ignore[arg-type]

    seen = 0
    for line in got.decode().splitlines():
        if line.startswith("{"):
            seen += int(line.removeprefix('{"dropped":').removesuffix("}"))
        else:
            assert line == put[seen]
            seen += 1
    assert seen == len(put)
