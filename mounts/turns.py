"""Take requests from the kernel without sleeping between them.

pyfuse3's workers take turns at reading requests: one waits for the descriptor, answers, and passes
the turn to another. Each pass costs a round through trio's scheduler and two system calls, and a
server that sleeps costs its client a wake-up, which is most of the price of a FUSE operation.
`Turns` stands in for the `trio` module inside pyfuse3 (its own asyncio layer does the same): a
worker keeps the turn for as long as it answers at once, and looks for the next request for a moment
before it sleeps.
"""

import select
import time
import types
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

import trio

R = TypeVar("R")

ROUNDS = 32
"""Requests answered in a row before other tasks of the process have their turn."""

LOOKS = 32
"""How often the descriptor is looked at between two turns for other tasks."""

NEAR_S = 0.002
"""Only a request that follows the last one this closely is worth looking for the next one."""


class _ReadTurn:
    """The lock that pyfuse3 holds while it waits for a request; it is kept, not passed on."""

    def __init__(self, turns: "Turns") -> None:
        self._turns = turns
        self._held = False
        self._waiting: deque[trio.lowlevel.Task] = deque()
        turns.lock = self

    async def __aenter__(self) -> None:
        while self._held and not self._turns.closing:
            task = trio.lowlevel.current_task()
            self._waiting.append(task)

            def abort(_: object, task: trio.lowlevel.Task = task) -> trio.lowlevel.Abort:
                self._waiting.remove(task)
                return trio.lowlevel.Abort.SUCCEEDED

            await trio.lowlevel.wait_task_rescheduled(abort)
        if self._turns.closing:
            raise trio.ClosedResourceError
        self._held = True

    async def __aexit__(self, *_: object) -> None:
        self._held = False

    def pass_on(self) -> None:
        """Let another worker read: this one is about to wait for something else."""
        if not self._held and self._waiting:
            trio.lowlevel.reschedule(self._waiting.popleft())

    def release_all(self) -> None:
        """Wake every worker: there is nothing to read any more."""
        while self._waiting:
            trio.lowlevel.reschedule(self._waiting.popleft())


class _LowLevel:
    """What pyfuse3 takes for trio.lowlevel."""

    def __init__(self, turns: "Turns") -> None:
        self._turns = turns
        self.wait_readable = turns.wait_readable

    def __getattr__(self, name: str) -> Any:
        return getattr(trio.lowlevel, name)

    def notify_closing(self, fd: int) -> None:
        self._turns.closing = True
        trio.lowlevel.notify_closing(fd)
        if self._turns.lock is not None:
            self._turns.lock.release_all()


class Turns:
    """What pyfuse3 takes for the trio module.

    linger_s: for how long to look for the next request before sleeping.
    """

    def __init__(self, linger_s: float) -> None:
        self.closing = False
        self.lock: _ReadTurn | None = None
        self.lowlevel = _LowLevel(self)
        self._linger_s = linger_s
        self._poll: select.poll | None = None
        self._row = 0
        self._last = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(trio, name)

    def Lock(self) -> _ReadTurn:
        """Make the lock of the workers."""
        return _ReadTurn(self)

    async def wait_readable(self, fd: int) -> None:
        """Return when a request can be read. Raises ClosedResourceError when the mount ends."""
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(fd, select.POLLIN)
        self._row += 1
        if self._row >= ROUNDS:
            self._row = 0
            await trio.lowlevel.checkpoint()
        # Most requests end here: the next one has come already.
        if not (events := self._poll.poll(0)) and not (events := await self._look()):
            self._row = 0
            if self.closing:
                # Said while this worker looked: nothing will wake it any more.
                raise trio.ClosedResourceError
            await trio.lowlevel.wait_readable(fd)
            events = self._poll.poll(0)
        self._last = time.perf_counter()
        if events and events[0][1] & select.POLLERR and self.lock is not None:
            # Unmounted from outside: the worker that reads this ends without passing its turn on,
            # so the others look for themselves.
            self.lock.release_all()

    async def _look(self) -> list[tuple[int, int]]:
        assert self._poll is not None
        now = time.perf_counter()
        until = now + self._linger_s if now - self._last <= NEAR_S else now
        while now < until and not self.closing:
            for _ in range(LOOKS):
                if events := self._poll.poll(0):
                    return events
            await trio.lowlevel.checkpoint()
            now = time.perf_counter()
        return []

    def pass_on(self) -> None:
        """Let another worker read requests."""
        if self.lock is not None:
            self.lock.pass_on()


@types.coroutine
def passing_on(
    coroutine: Coroutine[Any, Any, R], pass_on: Callable[[], None]
) -> Generator[Any, Any, R]:
    """Run a coroutine, and call `pass_on` when it first waits; it may never do so."""
    try:
        trap = coroutine.send(None)
    except StopIteration as stop:
        answer: R = stop.value
        return answer
    pass_on()
    while True:
        try:
            sent = yield trap
        except BaseException as raised:
            error: BaseException | None = raised
        else:
            error = None
        try:
            trap = coroutine.send(sent) if error is None else coroutine.throw(error)
        except StopIteration as stop:
            answer = stop.value
            return answer
