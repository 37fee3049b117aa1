"""Intake: events on their way into the store.

One thread checks signatures while another writes what was checked before, so that a disk that syncs
keeps no core waiting. Whatever has been checked meanwhile is written together: one sync serves
many. An event is acknowledged after that, never before.
"""

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

import trio
from attrs import frozen

from oanix.lib.nostr import Event, check_many
from oanix.services.relay.rules import Outcome, failed
from oanix.services.relay.writing import Writer

log = logging.getLogger(__name__)

GROUP = 1_000
"""Events that are checked, and written, together."""

WAITING = 4_096
"""Events that wait to be checked; who submits more waits."""

CHECKED = 4
"""Groups that were checked and wait to be written."""

BUSY = 16
GATHER_S = 0.02
PAUSE_S = 0.001
"""After a group of so many events, the next is gathered for so long at most, and until a pause: a
group costs a thread's turn and a sync, however few it has, and large ones share pages of indexes.
"""


T = TypeVar("T")


@frozen(eq=False)
class Submitted:
    """An event, and who is told what became of it: once."""

    event: Event
    end: Callable[[Outcome], None]


class Intake:
    """Takes events while it runs."""

    def __init__(
        self, writer: Writer, limiter: trio.CapacityLimiter,
        tell: Callable[[Submitted, Outcome], None],
    ) -> None:  # fmt: skip
        """Make it. limiter: of who uses the writer's store; tell: called for each event."""
        self._writer = writer
        self._limiter = limiter
        self._tell = tell
        self._checkers = trio.CapacityLimiter(1)
        self._send, self._waiting = trio.open_memory_channel[Submitted](WAITING)
        self._checked, self._due = trio.open_memory_channel[list[Submitted]](CHECKED)
        self._held: set[Submitted] = set()
        self.untold: frozenset[str] = frozenset()
        """Ids of what may be stored already, and is told next."""

    @property
    def waiting(self) -> int:
        """How many events wait to be checked."""
        return self._waiting.statistics().current_buffer_used

    async def put(self, one: Submitted) -> None:
        """Hand an event over; waits while too many others wait."""
        try:
            self._send.send_nowait(one)
        except trio.WouldBlock:
            await self._send.send(one)

    async def run(self) -> None:
        """Check and write, until cancelled; then whatever is left is given up."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._check)
                nursery.start_soon(self._write)
        finally:
            for one in (*self._held, *_drained(self._waiting)):
                one.end(closing())
            self._held.clear()

    async def _check(self) -> None:
        last = 0
        while True:
            group = [await self._waiting.receive()]
            await self._gathered(last >= BUSY)
            group += _drained(self._waiting, GROUP - 1)
            last = len(group)
            self._held.update(group)
            events = [one.event for one in group]
            # A cancellation waits for the thread, which is soon over.
            errors = await trio.to_thread.run_sync(check_many, events, limiter=self._checkers)
            good = []
            for one, error in zip(group, errors, strict=True):
                if error is None:
                    good.append(one)
                else:
                    self._ended(one, Outcome(False, f"invalid: {error.reason}"))
            if good:
                await self._checked.send(good)

    async def _gathered(self, busy: bool) -> None:
        # What else has come by now is put in by its sessions first; under load, what comes soon.
        await trio.lowlevel.checkpoint()
        end = trio.current_time() + GATHER_S
        before = -1
        while busy and before < self.waiting < GROUP and trio.current_time() < end:
            before = self.waiting
            await trio.sleep(PAUSE_S)

    async def _write(self) -> None:
        while True:
            group = await self._due.receive()
            while len(group) < GROUP:
                more = _drained(self._due, 1)
                if not more:
                    break
                group = [*group, *more[0]]
            self.untold = frozenset(one.event.id for one in group)
            outcomes = await self._written([one.event for one in group])
            for one, outcome in zip(group, outcomes, strict=True):
                self._ended(one, outcome)
            self.untold = frozenset()

    async def _written(self, events: Sequence[Event]) -> list[Outcome]:
        # A cancellation waits for the thread, as nothing else may use its store meanwhile.
        try:
            return await trio.to_thread.run_sync(self._writer.commit, events, limiter=self._limiter)
        except OSError as error:
            log.warning("%d events could not be stored: %s", len(events), error.strerror)
            return [Outcome(False, failed(error))] * len(events)

    def _ended(self, one: Submitted, outcome: Outcome) -> None:
        self._held.discard(one)
        self._tell(one, outcome)


def closing() -> Outcome:
    """Give the answer to what comes too late."""
    return Outcome(False, "error: the relay is closing")


def _drained(channel: "trio.MemoryReceiveChannel[T]", most: int = WAITING) -> list[T]:
    found: list[T] = []
    while len(found) < most:
        try:
            found.append(channel.receive_nowait())
        except trio.WouldBlock:
            break
    return found
