"""Guest of a worker: runs there, while its calls of the host are served here, on its own memory."""

import fcntl
import mmap
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import trio

from oanix.bell import Bell
from oanix.scheduler.engine import (
    BadModule,
    Ended,
    Exit,
    Function,
    GuestLimits,
    Memory,
    Timed,
    Used,
    close_unawaited,
)
from oanix.scheduler.workers import wire

GRACE_S: Final = 0.2
"""How long it is waited for a worker to end a guest; then it is seen to without waiting."""

F_GET_SEALS: Final = fcntl.F_GET_SEALS


class WorkerDied(Exception):
    """The worker of a guest is gone, and the guest with it."""


class WorkerGuest:
    """One instance in a worker, with the same face as `engine.Guest`.

    put sends a message to the worker; process is its number.
    """

    def __init__(
        self, number: int, functions: Sequence[Function], state: Any, limits: GuestLimits, *,
        put: Callable[[bytes], None], process: int,
    ) -> None:  # fmt: skip
        self.state = state
        self.process = process
        self.number = number
        self.memory = Memory(self._fresh)
        self._functions = functions
        self._limits = limits
        self._put = put
        self._descriptor: int | None = None
        self._map: mmap.mmap | None = None
        self._bell = Bell()
        self._scope: trio.CancelScope | None = None
        self._waiting: Awaitable[int] | None = None
        self._failure: BaseException | None = None
        self._values: list[int] = []
        self._told: dict[str, Any] | None = None
        self._died = False
        self._began: float | None = None
        self._met: frozenset[str] = frozenset()
        self._cpu_ns = self._served_ns = self._fuel = self._peak = 0

    # Running -------------------------------------------------------------------------------------

    async def run(
        self, order: dict[str, Any],
        entry: "str | Callable[[WorkerGuest], Awaitable[int]]" = "_start",
    ) -> Ended:  # fmt: skip
        """Run it to its end, as `engine.Guest.run` does. order: what its worker needs to find it.

        Raises WorkerDied, BadModule, and what a function raised.
        """
        named = entry if isinstance(entry, str) else ""
        self._put(wire.said(b"R", self.number, {**order, "entry": named}))
        try:
            if callable(entry):
                code = await self._hosted(entry)
            else:
                await self._serve(lambda: False)
                code = 0
        except trio.Cancelled:
            await self._ended_by(b"K")
            raise
        return self._ending(code)

    async def _hosted(self, entry: "Callable[[WorkerGuest], Awaitable[int]]") -> int:
        try:
            # Its first value says that it has been made.
            await self._valued()
            code = await entry(self)
        except _Over:
            return 0
        except trio.Cancelled:
            raise
        except BaseException:
            await self._ended_by(b"K")
            raise
        self._put(wire.numbers(b"F", self.number))
        await self._serve(lambda: False)
        return code

    async def call(self, name: str, *numbers: int) -> int:
        """Call what it exports, within `run`; see `engine.Guest.call`."""
        self._put(wire.said(b"C", self.number, {"name": name, "numbers": numbers}))
        return await self._valued()

    async def _valued(self) -> int:
        await self._serve(lambda: bool(self._values))
        if not self._values:
            raise _Over
        return self._values.pop()

    async def _serve(self, enough: Callable[[], bool]) -> None:
        """Serve its calls that wait, until it has ended or what is wanted has come."""
        while self._told is None and not self._died and not enough():
            waiting, self._waiting = self._waiting, None
            if waiting is None:
                await self._bell.wait()
                continue
            try:
                with trio.CancelScope() as self._scope:
                    answer = await Timed(waiting, self._spend)
                    self._put(wire.numbers(b"A", self.number, answer))
            except trio.Cancelled:
                raise
            except BaseException as error:
                self._fail(error)
            finally:
                self._scope = None
        if self._died:
            raise WorkerDied

    async def _ended_by(self, letter: bytes) -> None:
        """Have its worker end it. From here on none of its calls is served, whenever that is."""
        self._put(wire.numbers(letter, self.number))
        with trio.move_on_after(GRACE_S, shield=True):
            while self._told is None and not self._died:
                await self._bell.wait()

    def _ending(self, code: int) -> Ended:
        assert self._told is not None
        failure, self._failure = self._failure, None
        if isinstance(failure, Exit):
            return Ended(code=failure.code, used=self.used)
        if isinstance(failure, _Spent):
            return Ended(limit="cpu", used=self.used)
        if failure is not None:
            raise failure
        told = self._told
        if told.get("bad"):
            raise BadModule(str(told["bad"]))
        trap, limit = str(told.get("trap", "")), str(told.get("limit", ""))
        return Ended(
            code=None if trap or limit else code, trap=trap, limit=limit,
            backtrace=str(told.get("backtrace", "")), used=self.used,
        )  # fmt: skip

    # What its worker says ------------------------------------------------------------------------

    def hear(self, letter: bytes, data: bytes, descriptor: int | None) -> None:
        """Take a message. Raises ValueError, IndexError, struct.error for what is none."""
        if letter == b"F":
            if self._waiting is not None or self._scope is not None:
                raise ValueError("a guest has one call under way")
            number, self._cpu_ns, *arguments = wire.words_of(data)
            self._called(self._functions[number], arguments)
        elif letter == b"M":
            self._take(descriptor)
        elif letter == b"V":
            self._values[:] = wire.words_of(data)
        elif letter == b"U":
            self._cpu_ns, self._fuel, met = wire.words_of(data)
            self._met = frozenset({"memory"}) if met else frozenset()
        elif letter == b"L":
            self._began = trio.current_time()
        elif letter == b"E":
            self._told = wire.saying(data)
            self._cpu_ns = int(self._told.get("cpu_ns", self._cpu_ns))
            self._fuel = int(self._told.get("fuel") or 0)
            if self._told.get("met"):
                self._met = frozenset({"memory"})
            self._interrupt()
        else:
            raise ValueError(f"there is no message {letter!r}")
        self._bell.ring()

    def overdue(self, now: float) -> bool:
        """Whether it runs for longer than it may."""
        return self._began is not None and now > self._began + self._limits.wall

    @property
    def ended(self) -> bool:
        """Whether its worker has said that it ended."""
        return self._told is not None

    def died(self) -> None:
        """Learn that its worker is gone."""
        self._died = True
        self._interrupt()
        self._bell.ring()

    def _interrupt(self) -> None:
        if self._scope is not None:
            self._scope.cancel()

    def _called(self, function: Function, arguments: Sequence[int]) -> None:
        began = time.thread_time_ns()
        answer: int | Awaitable[int] = 0
        try:
            answer = function.call(self, *arguments)
            self._spend(time.thread_time_ns() - began)
        except BaseException as error:
            close_unawaited(answer)
            self._fail(error)
            return
        if isinstance(answer, int):
            self._put(wire.numbers(b"A", self.number, answer))
        else:
            self._waiting = answer

    def _spend(self, ns: int) -> None:
        """Count what it costs to serve it. Raises _Spent."""
        self._served_ns += ns
        if self.cpu_ns > self._limits.cpu * 1e9:
            raise _Spent

    def _fail(self, error: BaseException) -> None:
        # The first one says why it ends.
        if self._failure is None:
            self._failure = error
        self._put(wire.numbers(b"X", self.number))

    def pause(self, paused: bool) -> None:
        """Have it stand still, or go on."""
        self._put(wire.numbers(b"P" if paused else b"G", self.number))

    # What it uses --------------------------------------------------------------------------------

    @property
    def cpu_ns(self) -> int:
        """The processor time that it has used, in nanoseconds: here, and there as last told."""
        return self._cpu_ns + self._served_ns

    @property
    def used(self) -> Used:
        """What it has used so far."""
        began = self._began if self._began is not None else trio.current_time()
        return Used(
            wall=trio.current_time() - began, cpu=self.cpu_ns / 1e9,
            memory=self.memory.size or self._peak,
            fuel=self._fuel if self._limits.fuel is not None else None, met=self._met,
        )  # fmt: skip

    # Memory --------------------------------------------------------------------------------------

    def _take(self, descriptor: int | None) -> None:
        if descriptor is None or self._descriptor is not None:
            raise ValueError("a guest has one memory")
        self._descriptor = descriptor
        if not fcntl.fcntl(descriptor, F_GET_SEALS) & fcntl.F_SEAL_SHRINK:
            raise ValueError("this memory could be taken away while it is read")

    def _fresh(self) -> memoryview:
        if self._descriptor is None:
            return memoryview(b"")
        size = os.fstat(self._descriptor).st_size
        if not size or size > self._limits.memory:
            return memoryview(b"")
        if self._map is None or len(self._map) != size:
            self._map = mmap.mmap(self._descriptor, size)
        return memoryview(self._map)

    def close(self) -> None:
        """Let go of it."""
        waiting, self._waiting = self._waiting, None
        close_unawaited(waiting)
        self._peak = max(self._peak, self.memory.size)
        self.memory.close()
        self._map = None
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class _Spent(Exception):
    """It has used the processor time that it may, here and in its worker together."""


class _Over(Exception):
    """It has ended, so what its host calls of it gives nothing."""
