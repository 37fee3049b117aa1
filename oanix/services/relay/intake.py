"""Intake: events on their way into the store.

One thread checks signatures while another writes what was checked before, so that a disk that syncs
keeps no core waiting. A group is handed from one to the other, and whatever comes meanwhile is the
next: the busier the disk, the more events share a sync and the pages of indexes, and nothing ever
waits for more to come. An event is acknowledged once its group is on the disk, never before.
"""

import logging
from collections import deque
from collections.abc import Callable, Sequence

import trio
from attrs import define

from oanix.bell import Bell
from oanix.lib.nostr import Event, check_many
from oanix.services.relay.rules import Outcome, failed
from oanix.services.relay.writing import Writer

log = logging.getLogger(__name__)

GROUP = 1_000
"""Events that are checked, and written, together."""

WAITING = 4_096
"""Events that wait to be checked; who submits more waits."""


@define(eq=False)
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
        self._waiting: deque[Submitted] = deque()
        self._arrived, self._room = Bell(), Bell()
        self._checked, self._due = trio.open_memory_channel[list[Submitted]](0)
        self._held: set[Submitted] = set()
        self._over = False
        self.untold: frozenset[str] = frozenset()
        """Ids of what may be stored already, and is told next."""

    @property
    def waiting(self) -> int:
        """How many events wait to be checked."""
        return len(self._waiting)

    async def put(self, one: Submitted) -> None:
        """Hand an event over; waits while too many others wait."""
        while len(self._waiting) >= WAITING:
            await self._room.wait()
        if self._over:
            one.end(closing())
            return
        self._waiting.append(one)
        self._arrived.ring()

    async def run(self) -> None:
        """Check and write, until cancelled; then whatever is left is given up."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._check)
                nursery.start_soon(self._write)
        finally:
            for one in (*self._held, *self._waiting):
                one.end(closing())
            self._held.clear()
            self._waiting.clear()
            self._over = True
            self._room.ring()

    async def _check(self) -> None:
        while True:
            while not self._waiting:
                await self._arrived.wait()
            # What else has come by now is put in by its sessions first.
            await trio.lowlevel.checkpoint()
            group = [self._waiting.popleft() for _ in range(min(len(self._waiting), GROUP))]
            self._room.ring()
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

    async def _write(self) -> None:
        while True:
            group = await self._due.receive()
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
