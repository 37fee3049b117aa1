"""The stand-in for trio inside pyfuse3."""

import os

import pytest
import trio
import trio.testing

from mounts.turns import Turns, passing_on


async def _answer(value: int) -> int:
    return value


async def _wait(event: trio.Event, value: int) -> int:
    await event.wait()
    return value


async def test_a_coroutine_that_does_not_wait_passes_nothing_on() -> None:
    passed: list[bool] = []
    assert await passing_on(_answer(3), lambda: passed.append(True)) == 3
    assert passed == []


async def test_a_coroutine_that_waits_passes_on_once() -> None:
    passed: list[bool] = []
    event = trio.Event()
    results: list[int] = []

    async def run() -> None:
        results.append(await passing_on(_wait(event, 4), lambda: passed.append(True)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await trio.testing.wait_all_tasks_blocked()
        assert passed == [True]
        event.set()
    assert results == [4]


async def test_errors_and_cancellation_go_through() -> None:
    async def fail() -> None:
        await trio.lowlevel.checkpoint()
        raise KeyError("x")

    with pytest.raises(KeyError):
        await passing_on(fail(), lambda: None)
    with trio.move_on_after(0) as scope:
        await passing_on(_wait(trio.Event(), 1), lambda: None)
    assert scope.cancelled_caught


async def test_one_worker_keeps_the_turn_and_another_takes_it_when_passed_on() -> None:
    turns = Turns(0)
    lock = turns.Lock()
    order: list[str] = []
    release = trio.Event()

    async def first() -> None:
        async with lock:
            order.append("first")
        async with lock:
            order.append("first again")
        turns.pass_on()
        await release.wait()

    async def second() -> None:
        async with lock:
            order.append("second")
        release.set()
        turns.pass_on()

    async with trio.open_nursery() as nursery:
        async with lock:
            nursery.start_soon(first)
            nursery.start_soon(second)
            await trio.testing.wait_all_tasks_blocked()
        turns.pass_on()
        with trio.fail_after(20):
            await release.wait()
    assert sorted(order) == ["first", "first again", "second"]


async def test_a_descriptor_is_readable_at_once_or_waited_for() -> None:
    turns = Turns(0.001)
    reader, writer = os.pipe()
    try:
        os.write(writer, b"x")
        await turns.wait_readable(reader)
        os.read(reader, 1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(turns.wait_readable, reader)
            await trio.testing.wait_all_tasks_blocked(0.01)
            os.write(writer, b"y")
    finally:
        os.close(reader)
        os.close(writer)


async def test_closing_wakes_every_worker() -> None:
    turns = Turns(0)
    lock = turns.Lock()
    reader, writer = os.pipe()
    ended: list[str] = []

    async def work() -> None:
        try:
            async with lock:
                await turns.wait_readable(reader)
        except trio.ClosedResourceError:
            ended.append("closed")

    try:
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(work)
            await trio.testing.wait_all_tasks_blocked()
            turns.lowlevel.notify_closing(reader)
    finally:
        os.close(reader)
        os.close(writer)
    assert ended == ["closed"] * 3


async def test_closing_ends_a_worker_that_looks_for_the_next_request() -> None:
    turns = Turns(linger_s=1.0)
    reading, writing = os.pipe()
    os.write(writing, b"x")
    await turns.wait_readable(reading)
    os.read(reading, 1)

    async def look() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await turns.wait_readable(reading)

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(look)
            await trio.lowlevel.checkpoint()
            turns.lowlevel.notify_closing(reading)
    os.close(reading)
    os.close(writing)
