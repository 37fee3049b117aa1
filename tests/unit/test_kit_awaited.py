"""Lines that have to wait for somebody: each is taken once, whatever became of the wait."""

import os

import trio
import trio.testing

from oanix.kit import Handler, Opening, TableService
from oanix.kit.awaited import AwaitedLines, Start
from oanix.node import Handle
from tests.reach import ROOT, Reach


class _Slow(AwaitedLines):
    def __init__(self, opening: Opening, start: Start, waits: "Waits") -> None:
        super().__init__(opening, start, 100)
        self._waits = waits

    async def take(self, line: bytes) -> None:
        if line.startswith(b"slow"):
            await self._waits.go.wait()
        self._waits.taken.append(line.decode())


class _File(Handler):
    writes = True

    def __init__(self, of: "Waits") -> None:
        self._of = of

    async def open(self, opening: Opening) -> Handle:
        return _Slow(opening, self._of.begin, self._of)


class Waits(TableService):
    """Takes lines; those that begin with `slow` once there is a go."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[str] = []
        self.go = trio.Event()
        self.grow((("say", 0o222, _File(self)),))

    def begin(self, task: object) -> None:
        raise AssertionError("nothing is left at the close")


async def test_a_write_that_waits_too_long_says_what_was_taken() -> None:
    service = Waits()
    opened = await Reach.of(service).open("/say", os.O_WRONLY)
    assert opened.try_write(ROOT, b"o", 0) == 1
    data = b"ne\ntwo\nslow three\nfour\n"
    done = -1
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancelled, scope)
            done = await opened.write(ROOT, data, 0)
    assert (data[:done], service.taken) == (b"ne\ntwo\n", ["one", "two"])
    with trio.move_on_after(0) as scope:
        await opened.write(ROOT, data[done:], 0)
    assert scope.cancelled_caught
    service.go.set()
    assert await opened.write(ROOT, data[done:], 0) == len(data) - done
    assert service.taken == ["one", "two", "slow three", "four"]
    opened.close(ROOT)


async def test_half_a_line_is_kept_when_the_other_half_waits_too_long() -> None:
    service = Waits()
    opened = await Reach.of(service).open("/say", os.O_WRONLY)
    assert opened.try_write(ROOT, b"slow ", 0) == 5
    with trio.move_on_after(0):
        await opened.write(ROOT, b"one\n", 0)
    assert service.taken == []
    service.go.set()
    assert await opened.write(ROOT, b"one\n", 0) == 4
    assert service.taken == ["slow one"]
    opened.close(ROOT)


async def _cancelled(scope: trio.CancelScope) -> None:
    await trio.testing.wait_all_tasks_blocked()
    scope.cancel()
