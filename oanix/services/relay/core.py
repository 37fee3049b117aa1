"""Core: the relay without its sockets and files. It takes events, finds them, and tells listeners.

Events are taken in groups: whatever has come while one group was checked and written makes the
next, so that one sync serves many. An event is acknowledged after that, never before.
"""

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import trio
from attrs import frozen

from oanix.kit import Ring
from oanix.lib.nostr import Event, Filter, Invalid
from oanix.services.relay.live import Deliver, Live, Subscription
from oanix.services.relay.reading import Reader
from oanix.services.relay.rules import Outcome, Peer, RelayLimits, may_see, refused
from oanix.services.relay.schema import MIGRATIONS
from oanix.services.relay.writing import Writer
from oanix.store import Store

log = logging.getLogger(__name__)

GROUP = 1_000
"""Events that are written together."""

WAITING = 4_096
"""Events that wait to be taken; who submits more waits."""

SWEEP_S = 60.0
"""How often what has expired is removed."""


@frozen(eq=False)
class _Submitted:
    """An event on its way into the store."""

    event: Event
    end: Callable[[Outcome], None]


class Core:
    """One relay. Create it with `create`, and use it while it is `running`."""

    def __init__(
        self, writing: Store, reading: Store, *, now: Callable[[], float], limits: RelayLimits,
        url: str,
    ) -> None:  # fmt: skip
        self.limits = limits
        self.accepted = Ring()
        """The events that were taken, as JSON lines."""
        self._now = now
        self._stores = (writing, reading)
        self._writer = Writer(writing, url)
        self._reader = Reader(reading)
        self._live = Live()
        self._send, self._waiting = trio.open_memory_channel[_Submitted](WAITING)
        self._limiter = trio.CapacityLimiter(1)
        self._running = False
        self._taken = self._refused = 0
        self.untold: frozenset[str] = frozenset()
        """Ids of what may be stored already, and is told to listeners next."""

    @classmethod
    def create(
        cls, path: str, *, now: Callable[[], float], limits: RelayLimits | None = None,
        url: str = "",
    ) -> "Core":  # fmt: skip
        """Open the database of a relay, and bring its tables up to date. Raises OSError.

        The clock gives seconds since the epoch; url is how clients call this relay.
        """
        writing = Store.open(path, MIGRATIONS)
        try:
            reading = Store.open(path, MIGRATIONS)
        except BaseException:
            writing.close()
            raise
        return cls(writing, reading, now=now, limits=limits or RelayLimits(), url=url)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Take events for as long as the block; what waits at its end is refused."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._commit)
            nursery.start_soon(self._sweep)
            self._running = True
            try:
                yield
            finally:
                self._running = False
                nursery.cancel_scope.cancel()
        while True:
            try:
                self._waiting.receive_nowait().end(_closing())
            except trio.WouldBlock:
                break
        for store in self._stores:
            store.close()

    def stats(self) -> dict[str, int]:
        """Count what happened, and who listens."""
        return {
            "accepted": self._taken,
            "refused": self._refused,
            "subscriptions": len(self._live),
            "waiting": self._waiting.statistics().current_buffer_used,
        }

    # Taking --------------------------------------------------------------------------------------

    async def submit(self, event: Event, peer: Peer) -> Outcome:
        """Take an event, if the rules allow it: an OK `true` means that it is on the disk.

        Waits while many others do. Cancelled, the event may be taken all the same.
        """
        ended = trio.Event()
        outcomes: list[Outcome] = []

        def done(outcome: Outcome) -> None:
            outcomes.append(outcome)
            ended.set()

        await self.post(event, peer, done)
        await ended.wait()
        return outcomes[0]

    async def post(self, event: Event, peer: Peer, done: Callable[[Outcome], None]) -> None:
        """Hand an event over; `done` is called once, with what became of it.

        Waits while too many others wait to be taken.
        """
        refusal = refused(event, peer, self.limits, int(self._now()))
        if refusal is not None or not self._running:
            self._refused += 1
            done(refusal or _closing())
            return
        await self._send.send(_Submitted(event, done))

    async def _commit(self) -> None:
        while True:
            group = [await self._waiting.receive()]
            while len(group) < GROUP:
                try:
                    group.append(self._waiting.receive_nowait())
                except trio.WouldBlock:
                    break
            self.untold = frozenset(one.event.id for one in group)
            try:
                outcomes = await self._written(group)
            except BaseException:
                for one in group:
                    one.end(_closing())
                raise
            for one, outcome in zip(group, outcomes, strict=True):
                self._tell(one, outcome)
            self.untold = frozenset()

    async def _written(self, group: Sequence[_Submitted]) -> list[Outcome]:
        events = [one.event for one in group]
        # A cancellation waits for the thread, as nothing else may use its store meanwhile.
        try:
            return await trio.to_thread.run_sync(self._writer.commit, events, limiter=self._limiter)
        except OSError as error:
            log.warning("%d events could not be stored: %s", len(events), error.strerror)
            return [Outcome(False, f"error: {error.strerror}")] * len(events)

    def _tell(self, one: _Submitted, outcome: Outcome) -> None:
        if outcome.ok:
            self._taken += 1
        else:
            self._refused += 1
        if outcome.fresh:
            raw = one.event.json()
            self.accepted.put(raw + b"\n")
            self._live.tell(one.event, raw)
        one.end(outcome)

    async def _sweep(self) -> None:
        while True:
            now = int(self._now())
            try:
                await trio.to_thread.run_sync(self._writer.sweep, now, limiter=self._limiter)
            except OSError as error:
                log.warning("what has expired could not be removed: %s", error.strerror)
            await trio.sleep(SWEEP_S)

    # Finding -------------------------------------------------------------------------------------

    def query(self, filters: Sequence[Filter], peer: Peer) -> tuple[list[bytes], bool]:
        """Give the JSON of what is stored, newest first, and whether there is more. Raises OSError.

        Raises Invalid for too many filters.
        """
        self._check(filters)
        return self._reader.find(filters, peer, int(self._now()), self.limits.results)

    def count(self, filters: Sequence[Filter], peer: Peer) -> int:
        """Count what is stored (NIP-45). Raises OSError, Invalid."""
        self._check(filters)
        return self._reader.count(filters, peer, int(self._now()))

    def get(self, name: str) -> bytes | None:
        """Give the JSON of one event by its id."""
        return self._reader.get(bytes.fromhex(name), int(self._now()))

    def subscribe(
        self, filters: Sequence[Filter], peer: Peer, deliver: Deliver
    ) -> Callable[[], None]:
        """Tell a listener of every event that is taken from now on; gives what ends that, once."""
        self._check(filters)

        def allows(event: Event) -> bool:
            # As the peer is then: keys may have been proven meanwhile.
            return may_see(event, peer)

        return self._live.add(Subscription(tuple(filters), allows, deliver))

    def _check(self, filters: Sequence[Filter]) -> None:
        if not 1 <= len(filters) <= self.limits.filters:
            raise Invalid(f"a request has 1 to {self.limits.filters} filters")


def _closing() -> Outcome:
    return Outcome(False, "error: the relay is closing")
