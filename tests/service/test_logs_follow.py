"""follow: each reader sees each record once, and none slows a writer."""

import errno
import json
import os
import select
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from oanix.channel import OpenFile
from oanix.kit import StreamHandle
from oanix.node import WOULD_BLOCK
from oanix.services.logs.follow import ring_of
from tests.service.logs_help import ANYONE, APPEND, Logs, make, running


@pytest.fixture
def logs(tmp_path: Path) -> Logs:
    return make(tmp_path)


def said(data: object) -> list[Any]:
    assert isinstance(data, bytes)
    assert data.endswith(b"\n")
    return [json.loads(line) for line in data.splitlines()]


def messages(data: object) -> list[str]:
    return [record["message"] for record in said(data)]


async def test_a_reader_sees_what_comes_after_its_open(logs: Logs) -> None:
    await logs.append("events.jsonl", b"before\n")
    follow = await logs.open("follow")
    assert follow.stream
    assert follow.try_read(ANYONE, 4096, 0) is WOULD_BLOCK
    await logs.append("events.jsonl", b"one\ntwo\n")
    await logs.append("stdout.log", b"no event\n")
    assert messages(follow.try_read(ANYONE, 4096, 0)) == ["one", "two"]
    assert follow.try_read(ANYONE, 4096, 0) is WOULD_BLOCK
    follow.close(ANYONE)


async def test_every_reader_sees_every_record_once(logs: Logs) -> None:
    readers = [await logs.open("follow") for _ in range(50)]
    seen: list[list[str]] = [[] for _ in readers]

    async def read(follow: OpenFile, into: list[str]) -> None:
        while len(into) < 100:
            into += messages(await follow.read(ANYONE, 4096, 0))

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            for follow, into in zip(readers, seen, strict=True):
                nursery.start_soon(read, follow, into)
            for number in range(100):
                await logs.append("events.jsonl", b"%d\n" % number)
                await trio.lowlevel.checkpoint()
    assert all(each == [str(number) for number in range(100)] for each in seen)


async def test_a_cancelled_read_has_taken_nothing(logs: Logs) -> None:
    follow = await logs.open("follow")
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow.read, ANYONE, 4096, 0)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
    await logs.append("events.jsonl", b"kept\n")
    assert messages(await follow.read(ANYONE, 4096, 0)) == ["kept"]


async def test_a_read_gives_whole_lines_unless_its_buffer_is_smaller_than_one(logs: Logs) -> None:
    follow = await logs.open("follow")
    await logs.append("events.jsonl", b"one\ntwo\nthree\n")
    size = len((await logs.read("events.jsonl")).splitlines(keepends=True)[0])
    assert messages(follow.try_read(ANYONE, size + 20, 0)) == ["one"]
    pieces = [follow.try_read(ANYONE, 10, 0) for _ in range(size // 10)]
    assert all(isinstance(piece, bytes) and len(piece) == 10 for piece in pieces)
    rest = follow.try_read(ANYONE, 4096, 0)
    whole = b"".join(pieces) + rest  # type: ignore[operator, arg-type]
    assert messages(whole) == ["two", "three"]
    assert follow.try_read(ANYONE, 0, 0) == b""


async def test_a_reader_that_stops_reading_is_told_once_how_much_it_missed(
    tmp_path: Path,
) -> None:
    logs = make(tmp_path, ring_bytes=2000)
    slow, quick = await logs.open("follow"), await logs.open("follow")
    for number in range(1000):
        await logs.append("events.jsonl", b"%d\n" % number)
        assert messages(quick.try_read(ANYONE, 4096, 0)) == [str(number)]
    found = said(slow.try_read(ANYONE, 65536, 0))
    dropped = found[0]["dropped"]
    assert list(found[0]) == ["dropped"]
    assert dropped > 900
    assert [each["message"] for each in found[1:]] == [str(n) for n in range(dropped, 1000)]
    assert slow.try_read(ANYONE, 65536, 0) is WOULD_BLOCK
    assert len(await logs.records()) == 1000


async def test_poll_tells_when_there_is_something_to_read(logs: Logs) -> None:
    follow = await logs.open("follow")
    woken: list[str] = []
    assert not follow.ready(lambda: woken.append("first"))
    await logs.append("events.jsonl", b"half a line is no event")
    assert woken == ["first"]
    assert follow.ready(lambda: woken.append("never")) & select.POLLIN
    assert messages(follow.try_read(ANYONE, 4096, 0)) == ["half a line is no event"]
    assert not follow.ready(lambda: woken.append("gone"))
    follow.close(ANYONE)
    await logs.append("events.jsonl", b"later\n")
    assert woken == ["first"]


async def test_follow_is_only_read(logs: Logs) -> None:
    for flags in (os.O_WRONLY, os.O_RDWR, APPEND, os.O_RDONLY | os.O_TRUNC):
        with pytest.raises(PermissionError):
            await logs.open("follow", flags)
    assert logs.client.stat("/logs/follow").st_size == 0
    follow = await logs.open("follow")
    with pytest.raises(OSError, match=rf"\[Errno {errno.EBADF}\]"):
        follow.try_write(ANYONE, b"x", 0)


async def test_readers_see_the_end_when_the_service_ends(tmp_path: Path) -> None:
    async with running(tmp_path) as logs:
        follow, late = await logs.open("follow"), await logs.open("follow")
        await logs.append("events.jsonl", b"last\n")
        assert messages(await follow.read(ANYONE, 4096, 0)) == ["last"]
    assert await follow.read(ANYONE, 4096, 0) == b""
    assert follow.ready(None) & select.POLLIN
    assert messages(await late.read(ANYONE, 4096, 0)) == ["last"]
    assert await late.read(ANYONE, 4096, 0) == b""


steps = st.lists(st.one_of(st.integers(1, 60), st.lists(st.binary(max_size=30), max_size=4)))


@given(steps, st.integers(0, 120))
def test_what_a_reader_sees_and_what_it_is_told_add_up(
    todo: list[int | list[bytes]], bound: int
) -> None:
    ring = ring_of(bound)
    handle = StreamHandle(ring, ring.next)
    added: list[bytes] = []
    stream = b""

    def read(size: int) -> bool:
        nonlocal stream
        answer = handle.try_read(size, 0)
        if answer is not WOULD_BLOCK:
            assert 0 < len(answer) <= size
            stream += answer
        return answer is not WOULD_BLOCK

    for step in todo:
        if isinstance(step, int):
            read(step)
        else:
            records = [b'{"%s":0}\n' % record.hex().encode() for record in step]
            added += records
            ring.put_all(records)
    while read(1000):
        pass
    at = 0
    for line in stream.splitlines(keepends=True):
        if line.startswith(b'{"dropped"'):
            at += json.loads(line)["dropped"]
        else:
            assert line == added[at]
            at += 1
    assert at == len(added)
