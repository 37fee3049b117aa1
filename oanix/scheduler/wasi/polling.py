"""Polling: waits until one of several files is ready, or a time has come (`poll_oneoff`)."""

import errno
import math
import select
from collections.abc import Callable
from typing import Final

import trio
from attrs import frozen

from oanix.errors import fault
from oanix.scheduler.engine import Memory
from oanix.scheduler.wasi import abi
from oanix.scheduler.wasi.abi import EventType, Rights
from oanix.scheduler.wasi.descriptors import Opened
from oanix.scheduler.wasi.process import Process
from oanix.scheduler.wasi.system import clock_now

SUBSCRIPTIONS_MAX: Final = 1_024
_READ: Final = select.POLLIN | select.POLLERR | select.POLLHUP
_WRITE: Final = select.POLLOUT | select.POLLERR


@frozen
class _Wanted:
    """One subscription. file: what is waited for, or None for a time; until: a time of trio."""

    userdata: int
    type: EventType
    file: Opened | None = None
    until: float = math.inf
    error: int = 0


async def poll_oneoff(
    process: Process, memory: Memory, pointer: int, out: int, count: int, used: int
) -> int:
    """Wait for the first of several events, and write down all that have happened."""
    if not 0 < count <= SUBSCRIPTIONS_MAX:
        raise fault(errno.EINVAL, f"between 1 and {SUBSCRIPTIONS_MAX} subscriptions can wait")
    raw = memory.read(pointer, count * abi.SUBSCRIPTION.size)
    memory.view(out, count * abi.EVENT.size)
    memory.view(used, 4)
    wanted = [_wanted(process, *parts) for parts in abi.SUBSCRIPTION.iter_unpack(raw)]
    end = min(one.until for one in wanted)
    events = await _happened(wanted, end)
    memory.write(out, b"".join(events))
    memory.put_u32(used, len(events))
    return 0


def _wanted(
    process: Process, userdata: int, kind: int, which: int, timeout: int, precision: int,
    flags: int,
) -> _Wanted:  # fmt: skip
    try:
        if kind == EventType.CLOCK:
            now = clock_now(process, which)
            left = timeout - now if flags & abi.ABSTIME else timeout
            until = trio.current_time() + max(left, 0) / 1e9
            return _Wanted(userdata, EventType.CLOCK, until=until)
        if kind not in (EventType.FD_READ, EventType.FD_WRITE):
            raise fault(errno.EINVAL, f"there is no event {kind}")
        one = process.fds.file(which, Rights.POLL_FD_READWRITE)
        return _Wanted(userdata, EventType(kind), one)
    except OSError as error:
        if kind not in set(EventType):
            raise
        number = process.report(error, "poll_oneoff")
        return _Wanted(userdata, EventType(kind), error=number)


async def _happened(wanted: list[_Wanted], end: float) -> list[bytes]:
    while True:
        changed = trio.Event()
        events = [event for one in wanted if (event := _event(one, changed.set)) is not None]
        if events:
            await trio.lowlevel.checkpoint()
            return events
        with trio.move_on_at(end):
            await changed.wait()


def _event(one: _Wanted, wake: Callable[[], None]) -> bytes | None:
    if one.error:
        return abi.EVENT.pack(one.userdata, one.error, one.type, 0, 0)
    if one.file is None:
        if trio.current_time() < one.until:
            return None
        return abi.EVENT.pack(one.userdata, 0, one.type, 0, 0)
    ready = one.file.file.ready(wake)
    if not ready & (_READ if one.type is EventType.FD_READ else _WRITE):
        return None
    size = _left(one.file) if one.type is EventType.FD_READ else 1
    flags = abi.HANGUP if ready & select.POLLHUP else 0
    return abi.EVENT.pack(one.userdata, 0, one.type, size, flags)


def _left(one: Opened) -> int:
    # How much can be read; of a stream nobody knows, and 1 says that there is something.
    return 1 if one.file.stream else max(one.file.stat().st_size - one.offset, 0)
