"""Core: the relay without its sockets and files. It takes events, finds them, tells listeners."""

import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

import trio

from oanix.bell import Bell
from oanix.kit import Ring
from oanix.lib.nostr import Event, Filter, Invalid
from oanix.lib.policy.rate import Buckets
from oanix.services.relay.intake import Intake, Submitted, closing
from oanix.services.relay.live import Deliver, Live, Subscription
from oanix.services.relay.policy import RelayPolicy
from oanix.services.relay.reading import Reader, TimeUp
from oanix.services.relay.rules import (
    GIFT_WRAPS,
    Outcome,
    Peer,
    RelayLimits,
    may_see,
    refused,
)
from oanix.services.relay.schema import MIGRATIONS
from oanix.services.relay.writing import Writer
from oanix.store import Store

log = logging.getLogger(__name__)

SWEEP_S = 60.0
"""How often what has expired is removed."""

INDEXED = 1_000
"""Events that are made searchable together."""

QUIET_S = 0.05
BEHIND_S = 5.0
"""New events are made searchable once none came for so long, at the latest after this, and at once
when somebody searches."""

FOLLOW_S = 1.0
"""How long a search waits for what is stored to be searchable."""

QUICK_S = 0.004
"""How long the answer to a question may keep all others waiting; longer ones go to a thread."""

SLOW_S = 5.0
"""How long an answer may take at all."""

CACHE_BYTES = 32 << 20
"""What each of the connections to the database keeps in memory, at most."""

READERS = 2
"""Slow answers at a time."""

T = TypeVar("T")


class Core:
    """One relay. Create it with `create`, and use it while it is `running`."""

    def __init__(
        self, stores: Sequence[Store], accepted: Ring, *, now: Callable[[], float],
        limits: RelayLimits, url: str,
    ) -> None:  # fmt: skip
        self.limits = limits
        self.quick_s = QUICK_S
        self.policy = RelayPolicy()
        self.accepted = accepted
        """The events that were taken, as JSON lines."""
        self._now = now
        self._stores = stores
        writing, reading, *slow = stores
        self._settings = reading
        self._writer = Writer(writing, url)
        self._reader = Reader(reading)
        self._slow = [Reader(store) for store in slow]
        self._readers = trio.CapacityLimiter(len(slow))
        self._threads = trio.CapacityLimiter(len(slow))
        # The time of day may be set back, by which nobody should have to wait.
        self._buckets = Buckets(clock=trio.current_time)
        self._fresh, self._followed = Bell(), Bell()
        self._findable = 0
        self._pause = trio.CancelScope()
        self._live = Live()
        self._limiter = trio.CapacityLimiter(1)
        self._intake = Intake(self._writer, self._limiter, self._tell)
        self._closed = False
        self._taken = self._refused = 0

    @classmethod
    def create(
        cls, path: str, *, now: Callable[[], float], limits: RelayLimits | None = None,
        url: str = "", accepted: Ring | None = None,
    ) -> "Core":  # fmt: skip
        """Open the database of a relay, and bring its tables up to date. Raises OSError.

        The clock gives seconds since the epoch; url is how clients call this relay.
        """
        stores: list[Store] = []
        try:
            for _ in range(2 + READERS):
                stores.append(Store.open(path, MIGRATIONS, cache_bytes=CACHE_BYTES))
        except BaseException:
            for store in stores:
                store.close()
            raise
        accepted = accepted or Ring()
        return cls(stores, accepted, now=now, limits=limits or RelayLimits(), url=url)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Take events for as long as the block; what waits at its end is refused."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._intake.run)
                nursery.start_soon(self._sweep)
                nursery.start_soon(self._index)
                try:
                    yield
                finally:
                    self._closed = True
                    nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                await self._close()

    async def _close(self) -> None:
        # A thread that still answers is over soon, and nothing else may use its store meanwhile.
        for store in self._stores[-READERS:]:
            await self._readers.acquire_on_behalf_of(store)
        for store in self._stores:
            store.close()

    @property
    def url(self) -> str:
        """How clients call this relay: requests to vanish name it so (NIP-62)."""
        return self._writer.url

    @url.setter
    def url(self, url: str) -> None:
        self._writer.url = url.rstrip("/")

    def stats(self) -> dict[str, int]:
        """Count what happened, and who listens."""
        return {
            "accepted": self._taken,
            "refused": self._refused,
            "subscriptions": len(self._live),
            "waiting": self._intake.waiting,
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
        refusal = (
            refused(event, peer, self.limits, int(self._now()))
            or self.policy.writing(event, peer)
            or self._too_often("write", peer, event)
        )
        if refusal is not None or self._closed:
            self._refused += 1
            done(refusal or closing())
            return
        await self._intake.put(Submitted(event, done))

    def _too_often(self, what: str, peer: Peer, event: Event | None = None) -> Outcome | None:
        if not self.policy.limits:
            return None
        buckets = tuple(self.policy.buckets(what, peer, event))
        if not buckets or not (wait := self._buckets.take(buckets, patience_s=0.0)):
            return None
        rates = ", ".join(str(rate) for _, rate in buckets)
        return Outcome(False, f"rate-limited: at most {rates}; wait {wait:.1f} s")

    def _tell(self, one: Submitted, outcome: Outcome) -> None:
        if outcome.ok:
            self._taken += 1
        else:
            self._refused += 1
        if outcome.fresh:
            raw = one.event.json()
            self.accepted.put(raw + b"\n")
            self._live.tell(one.event, raw)
            self._fresh.ring()
        one.end(outcome)

    async def _sweep(self) -> None:
        while True:
            try:
                await self.sweep()
            except OSError as error:
                log.warning("what has expired could not be removed: %s", error.strerror)
            await trio.sleep(SWEEP_S)

    async def sweep(self) -> int:
        """Remove what has expired; gives how many events. Raises OSError."""
        return await trio.to_thread.run_sync(
            self._writer.sweep, int(self._now()), limiter=self._limiter
        )

    async def indexed(self) -> None:
        """Wait until what is stored now can be found by its words, without a pause in writing."""
        number = self._taken
        while self._findable < number:
            self._pause.cancel()
            await self._followed.wait()

    async def _searchable(self, filters: Sequence[Filter]) -> None:
        if any(one.search is not None for one in filters):
            with trio.move_on_after(FOLLOW_S):
                await self.indexed()

    async def _quiet(self) -> None:
        taken = -1
        while taken != self._taken:
            taken = self._taken
            await trio.sleep(QUIET_S)

    async def _index(self) -> None:
        # Searching follows writing, a little behind: what comes next is written first.
        while True:
            with trio.move_on_after(BEHIND_S) as self._pause:
                await self._quiet()
            number = self._taken
            try:
                more = await trio.to_thread.run_sync(
                    self._writer.index, INDEXED, limiter=self._limiter
                )
            except OSError as error:
                log.warning("what is new cannot be searched: %s", error.strerror)
                more = False
            if more:
                continue
            self._findable = number
            self._followed.ring()
            if number == self._taken:
                await self._fresh.wait()

    @property
    def untold(self) -> frozenset[str]:
        """Ids of what may be stored already, and is told to listeners next."""
        return self._intake.untold

    # Finding -------------------------------------------------------------------------------------

    async def query(self, filters: Sequence[Filter], peer: Peer) -> tuple[list[bytes], bool]:
        """Give the JSON of what is stored, newest first, and whether there is more.

        Raises OSError; Invalid for too many filters; TimeUp for a question that takes too long.
        """
        self._check(filters)
        await self._searchable(filters)
        now, most = int(self._now()), self.limits.results
        return await self._answer(peer, lambda reader: reader.find(filters, peer, now, most))

    async def count(self, filters: Sequence[Filter], peer: Peer) -> int:
        """Count what is stored (NIP-45). Raises as `query`."""
        self._check(filters)
        await self._searchable(filters)
        now = int(self._now())
        return await self._answer(peer, lambda reader: reader.count(filters, peer, now))

    async def names(self, one: Filter, peer: Peer, most: int) -> list[tuple[int, bytes]]:
        """Give times and ids of what is stored, at most so many (NIP-77). Raises as `query`."""
        now = int(self._now())
        return await self._answer(peer, lambda reader: reader.names(one, peer, now, most))

    async def get(self, name: str, peer: Peer) -> bytes | None:
        """Give the JSON of one event by its id. Raises OSError."""
        found, _ = await self.query([Filter(ids=frozenset((name,)))], peer)
        return found[0] if found else None

    def refused_question(self, filters: Sequence[Filter], peer: Peer) -> str | None:
        """Give why a question is not answered at all, or None; counts it."""
        busy = self._too_often("read", peer)
        if busy is not None:
            return busy.message
        if not peer.authed and all(one.kinds and one.kinds <= GIFT_WRAPS for one in filters):
            return "auth-required: a gift wrap is for who it names (NIP-59)"
        return self.policy.asking(filters, peer)

    async def _answer(self, peer: Peer, ask: Callable[[Reader], T]) -> T:
        """Ask the reader at hand; in a thread what takes long, where it keeps nobody waiting."""
        end = time.perf_counter() + self.quick_s
        policy = self.policy
        try:
            with self._reader.asked(policy, peer, lambda: time.perf_counter() >= end):
                return ask(self._reader)
        except TimeUp:
            pass

        def slowly() -> T:
            end = time.perf_counter() + SLOW_S

            def over() -> bool:
                trio.from_thread.check_cancelled()
                return time.perf_counter() > end

            with reader.asked(policy, peer, over):
                return ask(reader)

        async with self._readers:
            reader = self._slow.pop()
            try:
                return await trio.to_thread.run_sync(slowly, limiter=self._threads)
            finally:
                self._slow.append(reader)

    # Settings ------------------------------------------------------------------------------------

    def settings(self) -> dict[str, str]:
        """Give what the owner has set. Raises OSError."""
        return {
            str(name): str(value)
            for name, value in self._settings.execute("SELECT name, value FROM settings")
        }

    def set(self, name: str, value: str) -> None:
        """Keep a setting; an empty one is forgotten. Raises OSError.

        It waits in place for what is being committed: an owner changes settings seldom.
        """
        if value:
            self._settings.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", name, value)
        else:
            self._settings.execute("DELETE FROM settings WHERE name = ?", name)

    def subscribe(
        self, filters: Sequence[Filter], peer: Peer, deliver: Deliver
    ) -> Callable[[], None]:
        """Tell a listener of every event that is taken from now on; gives what ends that, once."""
        self._check(filters)

        def allows(event: Event) -> bool:
            # As the peer is then: keys may have been proven meanwhile.
            policy = self.policy
            return may_see(event, peer) and (
                not policy.hides or policy.may_read(event.kind, event.pubkey, event.id, peer)
            )

        return self._live.add(Subscription(tuple(filters), allows, deliver))

    def _check(self, filters: Sequence[Filter]) -> None:
        if not 1 <= len(filters) <= self.limits.filters:
            raise Invalid(f"a request has 1 to {self.limits.filters} filters")
