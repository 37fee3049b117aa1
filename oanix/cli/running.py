"""Running: how a command runs in trio, and how signals end it."""

import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import FrameType
from typing import Final, TypeVar, TypeVarTuple

import trio

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What asks a server to end."""

T = TypeVar("T")
Args = TypeVarTuple("Args")


def run_work(work: Callable[[*Args], Awaitable[T]], *args: *Args) -> T:
    """Run a command's work. Raises KeyboardInterrupt when Ctrl-C has ended it.

    Ctrl-C cancels the work, so that it closes what it has open and undoes what it has half done:
    Python's own way, an exception between any two instructions, would be raised in the midst of
    that, too. The second Ctrl-C is Python's own, for work that does not give way.
    """
    return trio.run(_interruptible, work, args)


async def _interruptible(work: Callable[[*Args], Awaitable[T]], args: tuple[*Args]) -> T:
    with trio.CancelScope() as scope, _interrupted(scope):
        return await work(*args)
    raise KeyboardInterrupt


@contextmanager
def _interrupted(scope: trio.CancelScope) -> Iterator[None]:
    """Have the first SIGINT cancel a scope; where it is ignored, it stays so."""
    before = signal.getsignal(signal.SIGINT)
    if not callable(before):
        yield
        return
    token = trio.lowlevel.current_trio_token()

    def interrupt(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, before)
        token.run_sync_soon(scope.cancel)

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _heeded() -> list[signal.Signals]:
    return [one for one in SIGNALS if signal.getsignal(one) != signal.SIG_IGN]


@asynccontextmanager
async def heeding_signals() -> AsyncIterator[list[signal.Signals]]:
    """Have the first of SIGNALS cancel the block; gives a list that holds it from then on.

    So what is around the block can end in order what was under way. A second signal does what it
    did before, and those that were ignored stay so.
    """
    heeded = _heeded()
    told: list[signal.Signals] = []
    async with trio.open_nursery() as nursery:

        async def heed(*, task_status: trio.TaskStatus[None]) -> None:
            with trio.open_signal_receiver(*heeded) as received:
                task_status.started()
                told.append(signal.Signals(await anext(received)))
            nursery.cancel_scope.cancel()

        if heeded:
            await nursery.start(heed)
        yield told
        nursery.cancel_scope.cancel()


def die_of(number: signal.Signals) -> None:
    """End as by a signal that was heeded. Raises KeyboardInterrupt for SIGINT."""
    if number is signal.SIGINT:
        raise KeyboardInterrupt
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


@contextmanager
def awaiting_signal() -> Iterator[Callable[[], Awaitable[None]]]:
    """Give a function that waits for what asks a server to end, from the start of the block on.

    A signal that was ignored when the command began, as by nohup(1) or by a shell for what it runs
    in the background, ends nothing (as in libfuse's fuse_set_signal_handlers).
    """
    heeded = _heeded()
    if not heeded:
        yield trio.sleep_forever
        return
    with trio.open_signal_receiver(*heeded) as received:

        async def arrival() -> None:
            await anext(received)

        yield arrival
