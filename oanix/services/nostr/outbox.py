"""Outbox: events on their way to relays. They are on the disk until each relay has answered.

A relay that cannot be reached, or says that it is too much just now, is tried again for a week;
whatever else it says is its answer. A relay takes an event once, so sending it twice does no harm.
"""

import errno
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import trio
from attrs import define, field

from oanix.bell import Bell
from oanix.errors import fault
from oanix.lib.nostr import Event, Invalid
from oanix.services.nostr.asking import Outcome
from oanix.services.nostr.pool import Pool, refusal
from oanix.store import Store

log = logging.getLogger(__name__)

KEPT_S: Final = 7 * 24 * 3600
PENDING_MAX: Final = 10_000
AT_ONCE: Final = 32
"""Events that one relay is sent before it has answered the first."""


@define(eq=False)
class _Sent:
    """One event on its way to several relays: whether one has answered, and how many are tried."""

    heard: bool = False
    trying: int = 0


@define(eq=False)
class Delivery:
    """One event on its way to one relay."""

    event: Event
    url: str
    since: int
    sent: _Sent = field(factory=lambda: _Sent(heard=True))
    outcome: Outcome | None = None
    error: OSError | None = None
    """Why it is not there yet."""
    bell: Bell = field(factory=Bell)


class Outbox:
    """The events of one user."""

    def __init__(
        self, store: Store, pool: Pool, *, now: Callable[[], int],
        start: Callable[[Callable[[], Awaitable[object]]], None], limiter: trio.CapacityLimiter,
        later: float,
    ) -> None:  # fmt: skip
        """Take up what an earlier run has left. Raises OSError.

        later: for how many seconds a relay is left alone that said `rate-limited`, or failed.
        """
        self._store = store
        self._pool = pool
        self._now = now
        self._start = start
        self._limiter = limiter
        self._later_s = later
        self._queues: dict[str, deque[Delivery]] = {}
        self._bells: dict[str, Bell] = {}
        self._pending = self._failing = 0
        self._unheard = 0
        """Events that no relay has answered yet, though one may soon."""
        self.refused = 0
        """Deliveries of this run that ended with a refusal."""
        self.refusal = ""
        """The last one's: of whom, and why."""
        self._done = Bell()
        self._left: set[str] = set()
        """Relays that were left: what is on its way to them is given up."""
        for raw, url, since in store.execute("SELECT json, url, since FROM outbox ORDER BY since"):
            try:
                assert isinstance(raw, bytes)
                event = Event.parse(raw)
            except Invalid as error:
                # What the disk has damaged cannot be sent; the others can.
                log.warning("an event for %s is damaged: %s", url, error.reason)
                continue
            self._queue(Delivery(event, str(url), int(str(since))))

    @property
    def pending(self) -> int:
        """How many deliveries are not done."""
        return self._pending

    async def emptied(self) -> None:
        """Wait until everything is delivered that can be now."""
        while self._pending > self._failing:
            await self._done.wait()

    async def heard(self) -> None:
        """Wait until some relay has answered each event of this run, where one can be reached."""
        while self._unheard:
            await self._done.wait()

    async def send(self, event: Event, urls: Sequence[str]) -> list[Delivery]:
        """Keep an event, durably, and have it sent. Raises OSError ENOSPC, and as the disk does."""
        if self._pending + len(urls) > PENDING_MAX:
            raise fault(errno.ENOSPC, f"{self._pending} events wait for their relays; see relays")
        since, raw = self._now(), event.json()

        def keep() -> None:
            with self._store.transaction():
                for url in urls:
                    self._store.execute(
                        "INSERT OR REPLACE INTO outbox VALUES (?, ?, ?, ?)",
                        event.id, url, raw, since,
                    )  # fmt: skip

        # An ephemeral event is for those who listen now: it is not kept.
        if not event.is_ephemeral:
            await trio.to_thread.run_sync(keep, limiter=self._limiter)
        self._left.difference_update(urls)
        sent = _Sent(trying=len(urls))
        self._unheard += bool(urls)
        made = [Delivery(event, url, since, sent) for url in urls]
        for one in made:
            self._queue(one)
        return made

    def leave(self, url: str) -> None:
        """Send a relay nothing more, until it is sent something anew."""
        self._left.add(url)

    def _queue(self, one: Delivery) -> None:
        self._pending += 1
        if one.url not in self._queues:
            self._queues[one.url] = deque()
            self._bells[one.url] = Bell()
            url = one.url
            self._start(lambda: self._deliver(url))
        self._queues[one.url].append(one)
        self._bells[one.url].ring()

    async def _deliver(self, url: str) -> None:
        """Deliver to one relay, for ever."""
        queue, bell = self._queues[url], self._bells[url]
        slots = trio.CapacityLimiter(AT_ONCE)
        async with trio.open_nursery() as nursery:
            while True:
                while not queue:
                    await bell.wait()
                await slots.acquire_on_behalf_of(queue[0])
                nursery.start_soon(self._one, queue.popleft(), slots)

    async def _one(self, one: Delivery, slots: trio.CapacityLimiter) -> None:
        try:
            while one.outcome is None:
                if one.url in self._left:
                    one.outcome = Outcome(False, "error: this relay was left before it took it")
                    break
                one.outcome = await self._tried(one)
                if one.outcome is None:
                    await self._later(one)
                elif not one.outcome.ok:
                    self.refused += 1
                    self.refusal = f"{one.url}: {one.outcome.message}"
            self._hear(one.sent)
            if not one.event.is_ephemeral:
                await trio.to_thread.run_sync(self._forget, one, limiter=self._limiter)
        except OSError as error:
            log.warning("%s: the outbox cannot be written: %s", one.url, error.strerror)
        finally:
            slots.release_on_behalf_of(one)
        self._pending -= 1
        one.bell.ring()
        self._done.ring()

    def _hear(self, sent: _Sent) -> None:
        if not sent.heard:
            sent.heard = True
            self._unheard -= 1
            self._done.ring()

    async def _later(self, one: Delivery) -> None:
        one.bell.ring()
        self._failing += 1
        self._try(one.sent, -1)
        self._done.ring()
        try:
            await trio.sleep(self._later_s)
        finally:
            self._failing -= 1
            self._try(one.sent, 1)

    def _try(self, sent: _Sent, more: int) -> None:
        before, sent.trying = sent.trying, sent.trying + more
        if not sent.heard:
            self._unheard += bool(sent.trying) - bool(before)

    async def _tried(self, one: Delivery) -> Outcome | None:
        try:
            outcome = await self._pool.link(one.url).publish(one.event)
        except OSError as error:
            one.error = error
            if one.event.is_ephemeral or self._now() - one.since > KEPT_S:
                return Outcome(False, f"error: {error.strerror}")
            return None
        if not outcome.ok and outcome.prefix in ("rate-limited", "error"):
            one.error = refusal(one.url, outcome.message)
            if self._now() - one.since <= KEPT_S:
                return None
        return outcome

    def _forget(self, one: Delivery) -> None:
        self._store.execute("DELETE FROM outbox WHERE id = ? AND url = ?", one.event.id, one.url)
