"""Worker: runs guests for a server, and hands each of their calls to it.

    python -m oanix.scheduler.workers DESCRIPTOR MODULES COMPILED GIVEN

The descriptor is one end of a Unix socket of packets; the worker ends with the other end. MODULES,
COMPILED and GIVEN are folders: the bytes of modules by their hash, what workers make of them, and
what the server has compiled. It opens nothing else (see `confine`), and writes to COMPILED alone.
"""

import errno
import os
import socket
import sys
import time
import traceback
from collections.abc import Awaitable
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from oanix.bell import Bell
from oanix.scheduler.engine import (
    BadModule,
    Ended,
    Engine,
    Function,
    Guest,
    GuestLimits,
    Linker,
    Loaded,
    Module,
    SharedMemories,
    SharedMemory,
    in_time,
)
from oanix.scheduler.workers import wire
from oanix.scheduler.workers.confine import confine

SOON_S: Final = 0.0001 if len(os.sched_getaffinity(0)) > 1 else 0.0
"""How long the only guest of a worker waits for an answer without giving way; with one processor
that would keep the server from giving it."""

TELL_S: Final = 0.25
"""How often it says what its guests have used."""


class _HostEnded(Exception):
    """The host has ended a guest, and knows why."""


class _Seat:
    """What a worker keeps of a guest. call: wakes it when its call is answered."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.answer: int | None = None
        self.ended = False
        self.asked: list[dict[str, Any]] = []
        self.finished = False
        self.bell = Bell()
        self.scope = trio.CancelScope()
        self.guest: Guest | None = None
        self.memories: list[SharedMemory] = []
        """What was made for it: its memory, and that of its exceptions if it has such."""
        self.paused = False

    async def answered(self) -> int:
        """Wait for the answer of the host. Raises _HostEnded."""
        while self.answer is None and not self.ended:
            await self.bell.wait()
        answer, self.answer = self.answer, None
        if answer is None:
            raise _HostEnded
        return answer


class Worker:
    """The guests of one process."""

    def __init__(
        self, end: wire.Wire, imports: list[tuple[str, str, str, bool]], modules: Path,
        compiled: Path, given: Path,
    ) -> None:  # fmt: skip
        """Make it. imports: module, name, parameters and result of what the host offers."""
        self._stored, self._compiled, self._given = modules, compiled, given
        self._wire = end
        self._imports = imports
        self._memories = SharedMemories(self._made, lambda: self._running().limits.memory)
        self._engines: dict[bool, tuple[Linker, Loaded]] = {}
        self._seats: dict[int, _Seat] = {}
        self._taken = Bell()
        self._nursery: trio.Nursery | None = None

    async def run(self) -> None:
        """Serve until the server has gone."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._wire.flush)
            nursery.start_soon(self._tell)
            self._nursery = nursery
            while True:
                data, _ = await self._wire.get()
                self._take(data)

    def _take(self, data: bytes) -> None:
        """Take a message of the server, or its end."""
        if not data:
            # What compiles in a thread cannot be cancelled.
            os._exit(0)
        letter, number = wire.HEAD.unpack_from(data)
        if letter == b"R":
            assert self._nursery is not None
            seat = self._seats[number] = _Seat(number)
            self._nursery.start_soon(self._seated, seat, wire.saying(data))
            self._taken.ring()
            return
        found = self._seats.get(number)
        if found is None:
            # It has ended, and the server does not know yet.
            return
        if letter == b"A":
            (found.answer,) = wire.words_of(data)
        elif letter == b"C":
            found.asked.append(wire.saying(data))
        elif letter == b"X":
            found.ended = True
        elif letter == b"F":
            found.finished = True
        elif letter == b"K":
            found.scope.cancel()
        elif letter in (b"P", b"G"):
            found.paused = letter == b"P"
            if found.guest is not None:
                found.guest.pause(found.paused)
        found.bell.ring()

    # Guests --------------------------------------------------------------------------------------

    async def _seated(self, seat: _Seat, order: dict[str, Any]) -> None:
        told: dict[str, Any] = {"trap": "", "limit": ""}
        try:
            with seat.scope:
                told = await self._ran(seat, order)
        except _HostEnded:
            told = self._used(seat)
        except BadModule as error:
            told = {"bad": error.strerror}
        except Exception as error:
            # Whatever it is, it is this guest's, and the others go on.
            told = {"bad": f"the worker failed: {error!r}"[:500]}
            sys.stderr.write("".join(traceback.format_exception(error))[-4_000:])
        finally:
            del self._seats[seat.number]
            self._wire.put(wire.said(b"E", seat.number, told))

    async def _ran(self, seat: _Seat, order: dict[str, Any]) -> dict[str, Any]:
        limits = GuestLimits(**order["limits"])
        linker, loaded = self._tools(limits.fuel is not None)
        digest = order["digest"]
        self._wire.put(wire.numbers(b"L", seat.number))
        module, left = await in_time(limits, self._loaded(seat, loaded, digest))
        if module is None:
            return {**self._used(seat), "limit": "wall"}
        with Guest(linker, module, seat, left) as guest:
            seat.guest = guest
            guest.found = partial(self._share, seat)
            guest.pause(seat.paused)
            try:
                ended = await guest.run(order["entry"] or self._asked)
            except _HostEnded:
                return self._used(seat)
            return {**self._used(seat), **_told(ended)}

    async def _loaded(self, seat: _Seat, loaded: Loaded, digest: str) -> Module:
        try:
            return await loaded.get(digest, self._stored / digest, self._compiled)
        except trio.Cancelled:
            if loaded.engine.abandoned:
                # Nothing but the end of this process ends the thread that compiles.
                self._wire.put(wire.numbers(b"B", seat.number))
            raise

    async def _asked(self, guest: Guest) -> int:
        """Call what the host asks for, until it says that this was all."""
        seat: _Seat = guest.state
        self._wire.put(wire.numbers(b"V", seat.number, 0))
        while not seat.finished:
            if not seat.asked:
                await seat.bell.wait()
                continue
            asked = seat.asked.pop(0)
            value = await guest.call(asked["name"], *asked["numbers"])
            self._wire.put(wire.numbers(b"V", seat.number, value))
        return 0

    def _tools(self, counted: bool) -> tuple[Linker, Loaded]:
        if counted not in self._engines:
            engine = Engine(fuel=counted, memories=self._memories)
            self._engines[counted] = (
                Linker(engine, self._functions()),
                Loaded(engine, self._given),
            )
        return self._engines[counted]

    def _functions(self) -> list[Function]:
        return [
            Function(module, name, params, result=result, call=self._calling(number), waits=True)
            for number, (module, name, params, result) in enumerate(self._imports)
        ]

    def _calling(self, number: int) -> Any:
        put = self._wire.put

        def call(guest: Guest, *arguments: int) -> int | Awaitable[int]:
            seat: _Seat = guest.state
            put(wire.numbers(b"F", seat.number, number, guest.cpu_ns, *arguments))
            answer = self._soon(seat) if len(self._seats) == 1 else None
            return seat.answered() if answer is None else answer

        return call

    def _soon(self, seat: _Seat) -> int | None:
        """Wait a moment for an answer: to give way costs as much, and nobody would have it."""
        assert seat.guest is not None
        began = time.thread_time_ns()
        data = self._wire.soon(SOON_S)
        seat.guest.waited(time.thread_time_ns() - began)
        if data is None:
            return None
        self._take(data)
        answer, seat.answer = seat.answer, None
        return answer

    def _running(self) -> Guest:
        """Give the guest that runs; a memory is made while its own does."""
        running = [loaded.engine.current for _, loaded in self._engines.values()]
        (guest,) = (guest for guest in running if guest is not None)
        return guest

    def _made(self, memory: SharedMemory) -> None:
        self._running().state.memories.append(memory)

    def _share(self, seat: _Seat, address: int) -> None:
        (memory,) = (memory for memory in seat.memories if memory.base == address)
        self._wire.put(wire.numbers(b"M", seat.number), memory.descriptor)

    # What they use -------------------------------------------------------------------------------

    async def _tell(self) -> None:
        while True:
            while not self._seats:
                await self._taken.wait()
            # This also says that the worker lives.
            for seat in list(self._seats.values()):
                used = self._used(seat)
                words = used["cpu_ns"], used["fuel"] or 0, int(used["met"])
                self._wire.put(wire.numbers(b"U", seat.number, *words))
            await trio.sleep(TELL_S)

    def _used(self, seat: _Seat) -> dict[str, Any]:
        guest = seat.guest
        if guest is None:
            return {"cpu_ns": 0, "fuel": None, "met": False}
        met = any(memory.refused for memory in seat.memories)
        return {"cpu_ns": guest.cpu_ns, "fuel": guest.used.fuel, "met": met}


def _told(ended: Ended) -> dict[str, Any]:
    return {"trap": ended.trap, "limit": ended.limit, "backtrace": ended.backtrace[:8_000]}


async def _main(end: socket.socket) -> None:
    line = wire.Wire(end)
    data, _ = await line.get()
    if not data:
        return
    hello = wire.saying(data)
    imports = [tuple(one) for one in hello["imports"]]
    modules, compiled, given = map(Path, sys.argv[2:])
    await Worker(line, imports, modules, compiled, given).run()


if __name__ == "__main__":
    if len(sys.argv) != 5 or not sys.argv[1].isdigit():
        sys.exit(os.EX_USAGE)
    confine([Path(sys.argv[2]), Path(sys.argv[4])], [Path(sys.argv[3])])
    try:
        trio.run(_main, socket.socket(fileno=int(sys.argv[1])))
    except OSError as error:
        if error.errno != errno.EPIPE:
            raise
