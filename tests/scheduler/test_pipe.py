"""The standard input of a job as a pipe, by a clock of the test's own."""

import errno

import pytest
import trio
import trio.testing

from oanix.node import WOULD_BLOCK
from oanix.scheduler.pipe import HELD, Pipe, PipeReader, PipeWriter
from tests.reach import refused


async def _written(writer: PipeWriter, data: bytes) -> None:
    while data:
        data = data[await writer.write(data, 0) :]
    writer.close()


async def test_a_write_waits_for_the_job_however_late_it_reads(
    autojump_clock: trio.testing.MockClock,
) -> None:
    pipe = Pipe()
    data = bytes(range(256)) * (HELD // 64)
    read = b""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_written, PipeWriter(pipe), data)
        await trio.sleep(3_600)
        reader = PipeReader(pipe)
        while piece := await reader.read(100_000, 0):
            read += piece
    assert read == data


async def test_a_write_that_waits_ends_with_the_job(
    autojump_clock: trio.testing.MockClock,
) -> None:
    pipe = Pipe()
    writer = PipeWriter(pipe)
    assert writer.try_write(b"x" * HELD, 0) == HELD
    assert writer.try_write(b"x", 0) is WOULD_BLOCK

    async def ends() -> None:
        await trio.sleep(3_600)
        pipe.end()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ends)
        with refused(errno.EPIPE, "nothing reads this"):
            await writer.write(b"x", 0)
    assert trio.current_time() - 3_600 == pytest.approx(0, abs=1)
