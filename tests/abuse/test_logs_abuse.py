"""Bad inputs: each is stored or refused, memory stays flat, and the others go on."""

import json
import os
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from oanix.errors import fault
from oanix.namespace import Namespace
from oanix.node import WOULD_BLOCK
from oanix.services.logs.lines import LINE_MAX
from oanix.table import Access
from tests.service.logs_help import ANYONE, APPEND, Logs, make, running

MIB = 1_048_576
CHUNK = 131_072


@pytest.fixture
def logs(tmp_path: Path) -> Logs:
    return make(tmp_path, rotate_bytes=10**9)


@contextmanager
def memory_stays_below(bound: int) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < bound


@pytest.mark.slow
async def test_a_line_of_100_mib_is_stored_in_pieces_with_flat_memory(logs: Logs) -> None:
    chunk = os.urandom(CHUNK).replace(b"\n", b"x")
    file = await logs.open("stdout.log", APPEND)
    with memory_stays_below(12 * MIB):
        for _ in range(800):
            assert await file.write(ANYONE, chunk, 0) == CHUNK
        file.close(ANYONE)
    pieces = (await logs.read("stdout.log")).split(b"\n")
    whole = b"".join(
        piece.removesuffix(b" [piece %d, goes on]" % number)
        for number, piece in enumerate(pieces, 1)
    )
    assert whole == chunk * 800
    assert max(map(len, pieces)) < LINE_MAX + 30


@pytest.mark.slow
async def test_a_json_line_of_100_mib_becomes_records_with_flat_memory(logs: Logs) -> None:
    file = await logs.open("events.jsonl", APPEND)
    with memory_stays_below(24 * MIB):
        await file.write(ANYONE, b'{"message":"', 0)
        for _ in range(800):
            await file.write(ANYONE, b"\xc3\xa9" * (CHUNK // 2), 0)
        await file.write(ANYONE, b'"}\n', 0)
        file.close(ANYONE)
    await logs.append("events.jsonl", b"next\n")
    total = 0
    records = await logs.records()
    for number, record in enumerate(records[:-1], 1):
        assert record["piece"] == number
        assert record["level"] == "warning"
        assert "escaped" not in record
        total += len(record["message"].encode())
    assert total == len(b'{"message":""}') + 800 * CHUNK
    assert [number for number, each in enumerate(records[:-1]) if "more" not in each] == [
        len(records) - 2
    ]
    assert records[-1]["message"] == "next"


@pytest.mark.slow
async def test_half_lines_of_many_open_files_have_a_bound_together(logs: Logs) -> None:
    chunk = b"h" * CHUNK
    files = [await logs.open("stdout.log", APPEND) for _ in range(300)]
    with memory_stays_below(100 * MIB):
        for _ in range(8):
            for file in files:
                await file.write(ANYONE, chunk, 0)
        for file in files:
            file.close(ANYONE)
    text = await logs.read("stdout.log")
    assert text.count(b"h") == 300 * MIB
    await logs.append("stdout.log", chunk * 2)
    assert (await logs.read("stdout.log")).endswith(b"\n" + chunk * 2 + b"\n")


@pytest.mark.slow
async def test_two_writers_with_10000_lines_each_give_20000_whole_lines(logs: Logs) -> None:
    async def write(letter: bytes) -> None:
        file = await logs.open("stdout.log", APPEND)
        for number in range(10_000):
            await file.write(ANYONE, letter * (number % 50), 0)
            if number % 10 == 0:
                await trio.lowlevel.checkpoint()
            await file.write(ANYONE, b"%d\n" % number, 0)
        file.close(ANYONE)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write, b"a")
        nursery.start_soon(write, b"b")
    lines = (await logs.read("stdout.log")).splitlines()
    for letter in (b"a", b"b"):
        expected = [letter * (number % 50) + b"%d" % number for number in range(10_000)]
        remaining = iter(lines)
        assert all(line in remaining for line in expected)
    assert len(lines) == 20_000


@pytest.mark.slow
async def test_a_reader_of_follow_that_stops_costs_a_writer_nothing(tmp_path: Path) -> None:
    logs = make(tmp_path, rotate_bytes=10**9)
    stopped = [await logs.open("follow") for _ in range(1000)]
    file = await logs.open("events.jsonl", APPEND)
    line = b"x" * 900 + b"\n"
    with memory_stays_below(16 * MIB):
        for _ in range(20_000):
            file.try_write(ANYONE, line, 0)
    file.close(ANYONE)
    for follow in stopped:
        answer = follow.try_read(ANYONE, 100, 0)
        assert isinstance(answer, bytes)
        assert json.loads(answer)["dropped"] > 10_000
        follow.close(ANYONE)


@pytest.mark.slow
async def test_200_waiting_readers_do_not_delay_a_stat(logs: Logs) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(200):
            follow = await logs.open("follow")
            nursery.start_soon(follow.read, ANYONE, 4096, 0)
        await trio.testing.wait_all_tasks_blocked()
        begin = time.process_time()
        logs.client.stat("/logs/stdout.log")
        await logs.append("stdout.log", b"x\n")
        assert time.process_time() - begin < 1
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("broken", [b"{", b'{"a":}', b"{}}", b'{"\xff":1}', b"{'a': 1}", b"{\0}"])
async def test_a_broken_line_is_one_record_and_the_next_is_its_own(
    logs: Logs, broken: bytes
) -> None:
    await logs.append("events.jsonl", broken + b"\nnext\n")
    first, second = await logs.records()
    assert first["error"].startswith("not JSON")
    assert second["message"] == "next"


async def test_nuls_and_control_characters_are_one_record_each(logs: Logs) -> None:
    lines = ["\0\0\0", "\x1b[2J", "\u202e", "\r", "\x85\u2028", ""]
    await logs.append("events.jsonl", "\n".join([*lines, ""]).encode())
    assert [each["message"] for each in await logs.records()] == lines
    assert (await logs.read("events.jsonl")).count(b"\n") == len(lines)


async def test_opening_many_times_takes_one_descriptor(logs: Logs) -> None:
    def held() -> int:
        links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
        return sum(os.readlink(link) == str(logs.service.folder / "stdout.log") for link in links)

    before = held()
    files = [await logs.open("stdout.log", os.O_RDWR | os.O_APPEND) for _ in range(5000)]
    assert held() == before + 1
    for file in files:
        file.close(ANYONE)
    assert held() == before


async def test_a_read_of_any_size_allocates_no_more_than_its_bound(logs: Logs) -> None:
    await logs.append("stdout.log", b"line\n")
    file = await logs.open("stdout.log")
    with memory_stays_below(6 * MIB):
        assert file.try_read(ANYONE, 2**40, 0) == b"line\n"
        assert file.try_read(ANYONE, 2**40, 2**63 - 1) == b""
    file.close(ANYONE)


async def test_a_read_only_and_an_append_mount_refuse_what_they_say(tmp_path: Path) -> None:
    logs = make(tmp_path)
    for access, number in ((Access.RO, 30), (Access.APPEND, 1)):
        namespace = Namespace()
        namespace.mount(logs.service, "/logs", access)
        channel = namespace.resolve(ANYONE, "/logs/stdout.log")
        with pytest.raises(OSError, match=rf"\[Errno {number}\]"):
            await channel.open(ANYONE, os.O_WRONLY)
        with pytest.raises(OSError, match=rf"\[Errno {number}\]"):
            namespace.resolve(ANYONE, "/logs").unlink(ANYONE, "stdout.log")
        if access is Access.APPEND:
            (await channel.open(ANYONE, APPEND)).close(ANYONE)
        else:
            with pytest.raises(OSError, match=rf"\[Errno {number}\]"):
                await channel.open(ANYONE, APPEND)


async def test_one_open_file_written_by_two_tasks_keeps_each_write_together(logs: Logs) -> None:
    file = await logs.open("stdout.log", APPEND)
    long = b"a" * 999_999 + b"\n"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(file.write, ANYONE, long, 0)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(file.write, ANYONE, long.replace(b"a", b"b"), 0)
        assert file.try_write(ANYONE, b"", 0) in (0, WOULD_BLOCK)
    file.close(ANYONE)
    assert sorted((await logs.read("stdout.log")).splitlines()) == [
        b"a" * 999_999, b"b" * 999_999
    ]  # fmt: skip


async def test_an_observer_that_refuses_a_write_leaves_no_trace(logs: Logs) -> None:
    class Refuses:
        kinds = None

        def before(self, operation: object) -> None:
            raise fault(13, "policy")

        def after(self, operation: object) -> None:
            raise AssertionError("nothing was done")

    file = await logs.open("stdout.log", APPEND)
    logs.client.namespace.observers = (Refuses(),)
    with pytest.raises(PermissionError):
        file.try_write(ANYONE, b"no\n", 0)
    logs.client.namespace.observers = ()
    file.close(ANYONE)
    assert await logs.read("stdout.log") == b""


@pytest.mark.slow
async def test_a_storm_of_rotations_keeps_files_and_bytes_bounded(tmp_path: Path) -> None:
    async with running(tmp_path, rotate_bytes=1000, keep=5, total_bytes=20_000) as logs:
        file = await logs.open("stdout.log", APPEND)
        for number in range(3000):
            await file.write(ANYONE, b"%d " % number + b"x" * 400 + b"\n", 0)
            if number % 50 == 0:
                await trio.lowlevel.checkpoint()
        file.close(ANYONE)
        await logs.until_packed("stdout.log")
        assert len(logs.rotated("stdout.log")) <= 5
        assert len(os.listdir(tmp_path)) < 12
        assert int(logs.service.status()["bytes"]) <= 20_000
